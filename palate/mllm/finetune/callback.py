"""What happens around the steps of training: validation, the log, the saved adapter, checkpoints."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from palate.errors import PalateError
from palate.mllm.finetune.config import SFTTrainerConfig
from palate.mllm.finetune.sharding import adapter_weights
from palate.mllm.finetune.validation import Validator
from palate.progress import track
from palate.runs.log import Row, RunLog, peak_memory_mb, plot_learning_curve
from palate.runs.run import Run
from palate.runs.workers import Workers, stream_seed
from palate.storage.files import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from palate.mllm.finetune.trainer import StepLoss

# Written into a checkpoint when all else is there: what has no such file was cut off.
STATE = "palate.json"


class TrainingCallback:
    """Validates at the planned steps, saves the best adapter in the run, and decides when to write a checkpoint.

    Args:
        trainer: an :func:`~palate.mllm.finetune.trainer.adapter_trainer`, with its loss.
        steps: of the whole training.
        resumed: what :func:`last_checkpoint` read, if the run resumes from there.
        on_row: called with each row of ``metrics.jsonl``.
    """

    def __init__(
        self,
        trainer: Any,
        validator: Validator,
        run: Run,
        steps: int,
        resumed: dict[str, Any] | None,
        on_row: Callable[[Row], None] | None,
    ) -> None:
        self.trainer, self.validator, self.run, self.steps, self.on_row = trainer, validator, run, steps, on_row
        self.workers: Workers = trainer.workers
        self.loss: StepLoss = trainer.step_loss
        self.config: SFTTrainerConfig = trainer.settings
        self.planned = validation_steps(steps, self.config.epochs, self.config.validations_per_epoch)
        rows: list[Row] = resumed["rows"] if resumed else []
        self.rows, self.before = rows, float(resumed["seconds"]) if resumed else 0.0
        self.log = RunLog(run.folder, rows, tensorboard=False) if self.workers.main else None
        if resumed and self.workers.main:
            trainer.learnt += torch.tensor(resumed["learnt"], dtype=trainer.learnt.dtype).to(trainer.learnt.device)
            self.loss.restore(resumed["facts"])
        self.began = self.saved = time.monotonic()
        self.done: Any = None

    def begin(self, state: Any) -> None:
        """Before the first step, the model as it is: with a fresh adapter, that is without any."""
        if self.workers.index:  # dropout of its own; a checkpoint has the state of each worker's generator
            torch.manual_seed(stream_seed(self.trainer.args.seed, self.workers.index))
        if self.workers.main:
            steps = range(state.global_step, self.steps)
            self.done = track(steps, "Fine-tuning, steps", self.steps, done=state.global_step)
            next(self.done, None)
        self.began = time.monotonic()
        if state.global_step == 0:
            self.validate(0, 0.0)
        self.began = self.saved = time.monotonic()

    def step(self, state: Any, control: Any) -> None:
        """After each step of the optimiser."""
        if self.done is not None:
            next(self.done, None)
        if state.global_step in self.planned:
            self.validate(state.global_step, float(state.epoch))
            control.should_save = True
        else:  # workers' clocks differ: the first one's decides for all
            late = time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes
            control.should_save = bool(self.workers.first(torch.tensor([float(late)])) > 0)

    def validate(self, step: int, epoch: float) -> None:
        """Write a row, and save the adapter if it is the best so far."""
        seconds = self.before + time.monotonic() - self.began
        learnt = self.trainer.accelerator.reduce(self.trainer.learnt, "sum").tolist()
        self.trainer.learnt.zero_()
        began = time.monotonic()
        row: Row = {"epoch": round(epoch, 4), "step": step}
        if step:
            row["loss"] = learnt[0] / max(learnt[1], 1)
            if not math.isfinite(row["loss"]):
                raise PalateError(
                    f"the loss is no number any more at step {step}",
                    "Lower --learning-rate, or use --dtype float32 or bfloat16.",
                )
        row |= self.loss.facts()
        row |= self.validator()
        row["eval_seconds"] = round(time.monotonic() - began, 3)
        row["train_seconds"] = round(seconds, 3)
        if step:
            row["tokens"] = int(learnt[2])
            row["tokens_per_second"] = round(learnt[2] / max(seconds, 1e-9), 1)
            row["learning_rate"] = self.trainer.lr_scheduler.get_last_lr()[0]
        row["peak_memory_mb"] = round(peak_memory_mb(self.trainer.args.device), 1)
        metric = self.validator.metric
        best = max((old[metric] for old in self.rows), default=-math.inf)
        weights = adapter_weights(self.validator.recommender.model)
        if self.log is not None:
            self.log.add(row)  # into self.rows as well: they are the same list
            if self.config.keep == "last" or row[metric] > best:
                with atomic_folder(self.run.model_folder, replace=True) as part:
                    self.validator.recommender.save(part, weights)
            if self.on_row is not None:
                self.on_row(row)
        else:
            self.rows.append(row)
        self.workers.wait()
        self.before, self.began = 0.0, time.monotonic()

    def saved_checkpoint(self, state: Any) -> None:
        """Mark a checkpoint as complete, with what Trainer does not save."""
        learnt = self.trainer.accelerator.reduce(self.trainer.learnt, "sum").tolist()
        seconds, facts = self.before + time.monotonic() - self.began, self.loss.state()
        if self.workers.main:
            folder = Path(self.trainer.args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(
                folder / STATE,
                {"rows": self.rows, "learnt": learnt, "seconds": round(seconds, 3), "facts": facts},
            )
        self.saved = time.monotonic()

    def close(self) -> None:
        """Draw the learning curve, also of a training that failed."""
        if self.done is not None:
            self.done.close()
        if self.log is not None:
            self.log.close()
            if self.rows:
                plot_learning_curve(self.rows, self.validator.metric, self.run.folder / "learning-curve.png")


def validation_steps(steps: int, epochs: int, parts: int) -> set[int]:
    """After which steps to validate: ``parts`` times per epoch, the last step among them.

    >>> sorted(validation_steps(10, epochs=1, parts=4))
    [3, 5, 8, 10]
    """
    planned = {math.floor(steps * number / (epochs * parts) + 0.5) for number in range(1, epochs * parts + 1)}
    return {step for step in planned if step} | {steps}


def last_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest complete checkpoint and the content of its :data:`STATE`."""
    found = {number: path for number, path in _checkpoints(folder) if (path / STATE).is_file()}
    if not found:
        return None
    path = found[max(found)]
    return path, read_json(path / STATE)


def remove_torn(folder: Path) -> None:
    """Remove checkpoints that were cut off; one of several workers does it for all."""
    for _, path in _checkpoints(folder):
        if not (path / STATE).is_file():
            shutil.rmtree(path)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    numbered = [(path.name.removeprefix("checkpoint-"), path) for path in folder.glob("checkpoint-*")]
    return [(int(number), path) for number, path in numbered if number.isdigit()]


def callback(watch: TrainingCallback) -> Any:
    """The watch as a callback of transformers' Trainer."""
    from transformers import TrainerCallback

    class Callback(TrainerCallback):  # type: ignore[misc,unused-ignore]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.begin(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.step(state, control)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            watch.saved_checkpoint(state)

    return Callback()
