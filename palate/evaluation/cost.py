"""What a recommender's answers cost: prompts, tokens, seconds, and how much memory was needed at most."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

_MB = 2**20
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@contextmanager
def meter(cost: Callable[[], Mapping[str, float]], users: int) -> Iterator[dict[str, Any]]:
    """Fills the yielded dict when the block ends.

    ``users`` and ``seconds`` (of the clock), ``peak_memory_mb`` of the process within the block (``peak_gpu_mb`` of the
    GPU where there is one), and by how much the counters ``cost`` of the model have grown; its ``seconds`` become
    ``model_seconds``.
    """
    facts: dict[str, Any] = {}
    before = cost()
    exact = _forget_peak()
    began = time.perf_counter()
    yield facts
    facts["users"] = users
    facts["seconds"] = round(time.perf_counter() - began, 3)
    facts["peak_memory_mb"] = round(_peak(exact), 1)
    if _on_gpu():
        facts["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / _MB, 1)
    for name, value in cost().items():
        facts["model_seconds" if name == "seconds" else name] = round(value - before.get(name, 0), 3)


def _on_gpu() -> bool:
    initialized: bool = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialized


def _forget_peak() -> bool:
    """Let the peak be counted from now on; whether the system can do that."""
    if _on_gpu():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _peak(exact: bool) -> float:
    """Megabytes of memory at most: since :func:`_forget_peak`, or else since the process began."""
    if exact:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (_MB if sys.platform == "darwin" else 1024)


def mean_cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cost of one model from those of its seeds: means, and the highest peak.

    >>> mean_cost([{"users": 2, "tokens": 10, "peak_memory_mb": 5}, {"users": 2, "tokens": 30, "peak_memory_mb": 4}])
    {'users': 2, 'tokens': 20.0, 'peak_memory_mb': 5}
    """
    together: dict[str, Any] = {}
    for name in costs[0] if costs else ():
        values = [cost[name] for cost in costs if name in cost]
        together[name] = max(values) if name.startswith("peak") or name == "users" else sum(values) / len(values)
    return together


__all__ = ["mean_cost", "meter"]
