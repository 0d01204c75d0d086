"""Workers of Ray that train together: Ray Train starts them, and starts them again when one has died."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from palate.engines.ray_cluster import require_ray
from palate.engines.ray_worker import check_machine, versions
from palate.errors import PalateError, one_line
from palate.storage.files import read_json, write_json
from palate.storage.lock import RESTARTS, FolderInUse, alone, restarts

# How often workers are started again.
_RESTARTS = 3
# In the scratch folder: what Ray keeps, what a worker has refused, and how often the workers were started again.
_RAY, _REFUSED, _RESTARTED = "workers", "refused.json", "restarts.json"


def train_together(
    function: Callable[[], None], scratch: Path, folders: Sequence[str], *, workers: int, cpus: int, gpus: float
) -> None:
    """Run a function on workers of Ray Train, with the environment that ``torchrun`` sets; Ray is connected.

    Args:
        function: of an importable module, or a ``partial`` of one; it resumes from its own checkpoint.
        scratch: an absolute path that all machines see, for a folder that is there while workers run.
        folders: whole paths that the workers must see.

    Raises:
        PalateError: what the function raises, and workers that die again and again.
    """
    require_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    resources = {"CPU": float(cpus), **({"GPU": gpus} if gpus else {})}
    with alone(scratch, f"another command trains with {scratch}", "Wait until it is done, or choose another --out."):
        shutil.rmtree(scratch / _RAY, ignore_errors=True)  # of a command that was killed
        for name in (_REFUSED, _RESTARTED):
            (scratch / name).unlink(missing_ok=True)
        trainer = TorchTrainer(
            partial(_work, function, versions(), str(Path.cwd()), folders, scratch),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources),
            run_config=RunConfig(
                name=_RAY, storage_path=str(scratch), failure_config=FailureConfig(max_failures=_RESTARTS)
            ),
        )
        try:
            trainer.fit()
            _raise_refusal(scratch)
        except TrainingFailedError as error:
            raise _explained(error) from None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _work(
    function: Callable[[], None],
    expected: Mapping[str, str | None],
    home: str,
    folders: Sequence[str],
    scratch: Path,
) -> None:
    """In a worker: check the machine, and call the function. What it refuses is not tried again, but for a folder that
    the workers before it may still hold."""
    refused = scratch / _REFUSED
    if refused.exists():
        return
    try:
        check_machine(expected, home, folders)
        _count_restarts(scratch)
        function()
    except PalateError as error:
        if isinstance(error, FolderInUse) and restarts():
            raise
        write_json(refused, {"message": error.message, "remedy": error.remedy})
        raise


def _count_restarts(scratch: Path) -> None:
    """Say in the environment how often the workers were started again, as ``torchrun`` does; the first worker counts,
    and is the one that holds folders."""
    if os.environ.get("RANK", "0") != "0":
        return
    file = scratch / _RESTARTED
    number = read_json(file) + 1 if file.exists() else 0
    write_json(file, number)
    os.environ[RESTARTS] = str(number)


def _raise_refusal(scratch: Path) -> None:
    """What a worker has refused, as an error here."""
    if (scratch / _REFUSED).exists():
        raise PalateError(**read_json(scratch / _REFUSED))


def _explained(error: Any) -> PalateError:
    """Workers that failed again and again: the first one's reason."""
    failures = list(getattr(error, "worker_failures", {}).values())
    return PalateError(
        f"workers of Ray failed {_RESTARTS + 1} times ({one_line(failures[0] if failures else error)})",
        "Look at Ray's logs, and run the same command with --resume.",
    )
