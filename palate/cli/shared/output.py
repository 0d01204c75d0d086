"""What ``--json`` prints: one object on standard output, with the same words for the same things in every command."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_began = time.perf_counter()


def start_clock() -> None:
    """A command begins."""
    global _began
    _began = time.perf_counter()


def print_json(facts: Mapping[str, Any]) -> None:
    """What a command that makes nothing has found; NaN and infinity, which JSON does not have, become null."""
    print(json.dumps(_finite(facts), indent=2, ensure_ascii=False, default=str, allow_nan=False))


def print_json_made(out: Path | str | None, facts: Mapping[str, Any]) -> None:
    """What a command has made: where it is in ``out``, how long the whole command took in ``seconds``, and the facts.

    Args:
        out: None where nothing was written.
    """
    own = {key: value for key, value in facts.items() if key not in ("out", "seconds")}
    made = {} if out is None else {"out": str(out)}
    print_json({**made, "seconds": round(time.perf_counter() - _began, 3), **own})


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_json_error(code: int, message: str, remedy: str | None = None) -> None:
    """One line on standard error, the last one that a command writes."""
    error = {"error": {"code": code, "message": message, "remedy": remedy}}
    print(json.dumps(error, ensure_ascii=False), file=sys.stderr)
