"""Workers of Ray that train together: Ray Train starts them, and starts them again when one has died."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palate.engines.ray_cluster import require_ray
from palate.engines.ray_worker import check_machine, versions
from palate.errors import PalateError, one_line

# How often workers are started again.
_RESTARTS = 3


def train_together(
    function: Callable[[], None], scratch: Path, folders: Sequence[Path], *, workers: int, cpus: int, gpus: float
) -> None:
    """Run a function on workers of Ray Train, with the environment that ``torchrun`` sets; Ray is connected.

    Args:
        function: of an importable module, or a ``partial`` of one; it resumes from its own checkpoint.
        scratch: an absolute path that all machines see, for a folder that is there while workers run.
        folders: that the workers must see.

    Raises:
        PalateError: what the function raises, and workers that die again and again.
    """
    require_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    home = Path.cwd()
    there = [str(home / folder) for folder in folders]
    resources = {"CPU": float(cpus), **({"GPU": gpus} if gpus else {})}
    trainer = TorchTrainer(
        partial(_work, function, versions(), str(home), there),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name="workers", storage_path=str(scratch), failure_config=FailureConfig(max_failures=_RESTARTS)
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise _explained(error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _work(function: Callable[[], None], expected: Mapping[str, str | None], home: str, folders: Sequence[str]) -> None:
    """In a worker: check the machine, and call the function."""
    check_machine(expected, home, folders)
    function()


def _explained(error: Any) -> PalateError:
    """What went wrong in the workers: their own error, if it is one of ours."""
    causes = [getattr(one, "cause", None) or one for one in getattr(error, "worker_failures", {}).values()]
    own = next((one for one in causes if isinstance(one, PalateError)), None)
    if own is not None:
        return own
    return PalateError(
        f"workers of Ray failed {_RESTARTS + 1} times ({one_line(causes[0] if causes else error)})",
        "Look at Ray's logs, and run the same command with --resume.",
    )
