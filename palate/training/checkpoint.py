"""The checkpoint of a training: tensors and plain values, whole or not at all, read without unpickling code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palate.errors import PalateError
from palate.runs.workers import Workers, stream_seed
from palate.storage.files import atomic_file
from palate.training.means import RunningMeans

_CHECKPOINT = "checkpoints/last.pt"


def write_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """The previous checkpoint stays until this one is complete."""
    with atomic_file(folder / _CHECKPOINT) as part:
        torch.save(state, part)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last complete checkpoint of a run, or None."""
    path = folder / _CHECKPOINT
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PalateError(f"{path} cannot be read ({error})", "Remove it and train from the start.") from None
    return state


@dataclass
class WorkerState:
    """What each worker has of its own: its random streams, and the means over what it has seen since a row.

    Attributes:
        generator: of negatives and the like; dropout draws from torch's global generators.
    """

    seed: int
    workers: Workers
    generator: torch.Generator
    means: RunningMeans

    @classmethod
    def start(cls, seed: int, workers: Workers) -> WorkerState:
        """Streams that depend on the seed and on the worker. The global generators of the first worker stay."""
        generator = torch.Generator(workers.device).manual_seed(stream_seed(seed, workers.index))
        if not workers.main:
            torch.manual_seed(stream_seed(seed, workers.index))
        return cls(seed, workers, generator, RunningMeans())

    def save(self) -> list[dict[str, Any]]:
        """The state of every worker; all of them call it together."""
        device = self.workers.device
        return self.workers.each(
            {
                "random": torch.get_rng_state(),
                "cuda_random": torch.cuda.get_rng_state(device).cpu() if device.type == "cuda" else None,
                "generator": self.generator.get_state(),
                "sums": dict(self.means.sums),
                "weights": dict(self.means.weights),
            }
        )

    def load(self, saved: list[Mapping[str, Any]], step: int) -> None:
        """Go on where the workers were; on another number of them the means are merged, and streams that are lacking
        begin anew."""
        index, device = self.workers.index, self.workers.device
        if index < len(saved):
            mine = saved[index]
            torch.set_rng_state(mine["random"])
            if mine["cuda_random"] is not None and device.type == "cuda":
                torch.cuda.set_rng_state(mine["cuda_random"], device)
            self.generator.set_state(mine["generator"])
        else:
            seed = stream_seed(self.seed, index, step)
            torch.manual_seed(seed)
            self.generator.manual_seed(seed)
        means = [RunningMeans.of(state["sums"], state["weights"]) for state in saved]
        if len(saved) == self.workers.count:
            self.means = means[index]
        else:
            self.means = RunningMeans.merged(means) if self.workers.main else RunningMeans()
