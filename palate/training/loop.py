"""The one loop that trains every neural ranker."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from palate.errors import PalateError
from palate.objectives import Batch
from palate.progress import working
from palate.rankers.packing import PackedBatch
from palate.rankers.sharded_ids import sharded_ids
from palate.rankers.step import TrainingStep
from palate.rankers.trained import TrainedRanker
from palate.runs.log import Row, RunLog, peak_memory_mb, plot_learning_curve
from palate.runs.manual_stop import AskTwice, asking_twice
from palate.runs.workers import Workers
from palate.storage.files import atomic_folder
from palate.training.batches import TrainingSequences, Windows
from palate.training.checkpoint import WorkerState, read_checkpoint, write_checkpoint
from palate.training.config import TrainerConfig
from palate.training.early_ending import EarlyEnding
from palate.training.ema import WeightAverage
from palate.training.heap import release_freed
from palate.training.means import RunningMeans
from palate.training.optimiser import learning_rate, make_optimiser
from palate.training.plan import check_validations
from palate.training.progress import EpochProgress
from palate.training.row_adamw import RowAdamW, clip_sparse_norm
from palate.training.row_checkpoint import RowCheckpoint
from palate.training.streams import StreamedSequences
from palate.training.whole_batch import WholeBatch
from palate.training.whole_model import save_whole

# Steps between two releases of freed memory on a CPU.
_RELEASE_EVERY = 48

Validate = Callable[[TrainedRanker, Workers], dict[str, float]]


class Trainer:
    """Trains a ranker, keeps the best epoch in ``folder/model``, and can be killed at any moment.

    Everything random is a function of the seed and of generators whose state is in the checkpoint, so that a resumed
    run ends with the same numbers as an unbroken one (to the bit on a CPU with a fixed number of threads).

    Several workers share every batch and every validation, so that they minimise what a lone one would; each draws
    dropout and negatives from streams of its own.

    Args:
        model: with its features set.
        step: makes the loss of a batch.
        data: the training sequences.
        counts: int64 ``[num_items + 1]``, training interactions of each item.
        validate: metrics of the model on validation users; among them ``config.metric``. None: nothing is validated,
            and the last weights are kept.
        accelerator: from :func:`palate.runs.launch.start_workers`.
        folder: the run's; the main process writes, the others read.
        config_hash: of everything that shapes the run; a checkpoint of another hash is refused.
        on_epoch: called with each metrics row; what it raises stops the run (its checkpoint is complete by then).
        start: what training starts from may be the best: it is validated first, as epoch 0, and an average of the
            weights does not forget it.
        epochs: how many there are, perhaps with a part of one; by default ``config.epochs``, over which the learning
            rate's schedule extends in any case.
    """

    def __init__(
        self,
        *,
        model: TrainedRanker,
        step: TrainingStep,
        data: TrainingSequences | StreamedSequences,
        counts: npt.NDArray[np.int64],
        validate: Validate | None,
        config: TrainerConfig,
        accelerator: Accelerator,
        folder: Path,
        config_hash: str,
        on_epoch: Callable[[Row], None] | None = None,
        start: bool = False,
        epochs: float | None = None,
    ) -> None:
        self.config, self.folder, self.config_hash, self.on_epoch = config, folder, config_hash, on_epoch
        self.accelerator, self.workers = accelerator, Workers.of(accelerator)
        if self.workers.count > config.batch_size:
            raise PalateError(
                f"{self.workers.count} workers share batches of {config.batch_size} sequences",
                "Raise trainer.batch_size (it counts the sequences of all workers), or start fewer.",
            )
        self.device = self.workers.device
        self.ranker = model.to(self.device)
        self.ids = sharded_ids(model)
        self.row_checkpoint = None if self.ids is None else RowCheckpoint(folder, self.ids)
        self.make_loss, self.data, self.validate, self.start = step, data, validate, start
        self.epochs = config.epochs if epochs is None else int(epochs) if epochs == int(epochs) else epochs
        self.parts = round(self.epochs * config.validations_per_epoch)
        self.early = EarlyEnding(folder, self.workers, config)
        optimizer = make_optimiser(model, config)
        self.by_rows = optimizer if isinstance(optimizer, RowAdamW) else None
        if self.ids is not None:  # its gradients come to their worker by themselves
            own = [name for name, parameter in model.named_parameters() if parameter is self.ids.own.weight]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, own)  # type: ignore[no-untyped-call]
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        row_tables = self.by_rows.tables if self.by_rows else ()
        self.average = WeightAverage(model, config.ema, not start, row_tables) if config.ema else None
        self.counts = torch.from_numpy(counts).float().to(self.device)
        self.classes = torch.from_numpy(np.flatnonzero(counts)).to(self.device)
        self.own = WorkerState.start(data.seed, self.workers)
        self.memo: dict[tuple[object, ...], Tensor | None] = {}
        self.step = 0
        self.epoch = 1
        self.part = 0
        self.batch = 0
        self.best = -math.inf
        self.stale = 0
        self.done = False
        self.rows: list[Row] = []
        self.train_seconds = 0.0

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> list[Row]:
        """Train to the end (from the last checkpoint, if the folder has one); returns the metrics rows.

        Ctrl-C pressed twice, or a request in the folder, ends it early, when there is a best epoch to keep.
        """
        self._restore()
        log = RunLog(self.folder, self.rows, self.config.tensorboard) if self.workers.main else None
        progress = EpochProgress(self.epochs, self.data.num_targets, self.config.metric, self.workers.main)
        try:
            if self.start and not self.rows:
                self._add(log, self._first_row())
            with asking_twice(lambda: self.early.question(self.rows), progress.ask) as asked:
                while not self.done and self._parts_done < self.parts and not self.early.due(asked, self.rows):
                    self._train_part(progress, asked)
                    if asked.answered:
                        continue
                    row = self._close_part()
                    self._add(log, row)
                    progress.report(row, self.best, self.stale)
        finally:
            progress.close()
            if log:
                log.close()
        self.accelerator.wait_for_everyone()
        return self.rows

    @property
    def ending(self) -> dict[str, Any]:
        """What ``run.json`` records of a training that was ended early."""
        return self.early.facts(self.rows, self.epochs)

    @property
    def _parts_done(self) -> int:
        """Equal parts of epochs that were trained, each of which ends in a row."""
        return (self.epoch - 1) * self.config.validations_per_epoch + self.part

    def _add(self, log: RunLog | None, row: Row) -> None:
        """Write a row down, with the state to resume from."""
        if log:
            log.add(row)
        else:
            self.rows.append(row)
        self._save()
        if log:
            plot_learning_curve(self.rows, self.config.metric, self.folder / "learning-curve.png")
        if self.on_epoch:
            self.on_epoch(row)

    def _train_part(self, progress: EpochProgress, asked: AskTwice) -> None:
        """The rest of an epoch, or of the part of it after which the model is validated; less where training ends."""
        self.model.train()
        total = self.data.num_batches(self.epoch)
        check_validations(total, self.config)
        begin, end = (total * part // self.config.validations_per_epoch for part in (self.part, self.part + 1))
        last = self.part + 1 == self.config.validations_per_epoch
        started = saved = time.perf_counter()
        progress.start(self.epoch)
        share, shares = self.workers.index, self.workers.count
        for windows in self.data.batches(self.epoch, skip=self.batch, share=share, shares=shares):
            if (self.batch >= end and not last) or asked.answered:
                break
            now = time.perf_counter()
            late = now - saved > 60 * self.config.checkpoint_minutes
            whole = WholeBatch.agreed(windows, self.config.recency_half_life, late, self.workers)
            if whole.save:
                self.train_seconds += now - started
                started = saved = now
                self._save()
            rate = learning_rate(self.config, self.step, self.epoch - 1 + self.batch / total)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self._train_step(windows, whole, self.batch - begin)
            self.batch += 1
            progress.advance(int(whole.targets), self.own.means.mean("loss"))
        self.train_seconds += time.perf_counter() - started

    def _train_step(self, windows: Windows, whole: WholeBatch, number: int) -> None:
        packed = PackedBatch.of(windows.inputs, self.data.max_length, self.device)
        targets = torch.from_numpy(windows.targets).to(self.device)
        weights = None if whole.weights is None else torch.from_numpy(whole.weights.astype(np.float32)).to(self.device)
        shared = self.classes, self.counts, weights, self.own.generator, self.memo
        batch = Batch(targets, *shared, whole.share, self.workers.gather)
        loss = self.make_loss(self.model, packed, batch, windows.places, number)
        if loss is None:
            return
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss.value)
        if self.config.clip_norm:
            self._clip()
        self.optimizer.step()
        self.step += 1
        if self.device.type == "cpu" and self.step % _RELEASE_EVERY == 0:
            release_freed()
        if self.average:
            self.average.update(self.ranker)
        value = float(loss.value.detach())
        if not math.isfinite(value):
            raise PalateError(
                f"the loss is {value} at epoch {self.epoch}, step {self.step}",
                "Lower trainer.learning_rate, or set trainer.clip_norm=1.",
            )
        # The mean over the workers of their losses is the loss of the batch, whatever part of it each had.
        self.own.means.add({"loss": value}, whole.targets / self.workers.count)
        if windows.counted:
            self.own.means.add(loss.diagnostics, float(len(targets)))

    def _clip(self) -> None:
        parameters = list(self.ranker.parameters())
        if not self.by_rows:
            self.accelerator.clip_grad_norm_(parameters, self.config.clip_norm)
            return
        self.accelerator.unscale_gradients()
        divided = None if self.ids is None else self.ids.own.weight
        clip_sparse_norm(parameters, self.config.clip_norm, divided, self.workers.total)

    def _first_row(self) -> Row:
        """The validation of what training starts from."""
        row: Row = {"epoch": 0, "step": 0, "train_seconds": 0.0, "eval_seconds": 0.0, "targets_per_second": 0.0}
        self._validate(row, last=True)
        return row

    def _close_part(self) -> Row:
        if self.by_rows:
            self.by_rows.settle()
        parts = self.config.validations_per_epoch
        done = self.epoch if parts == 1 else round(self.epoch - 1 + (self.part + 1) / parts, 4)
        means = RunningMeans.merged(self.workers.each(self.own.means))
        row: Row = {"epoch": done, "step": self.step, "loss": 0.0, **means.values()}
        row["train_seconds"] = round(self.train_seconds, 3)
        row["targets_per_second"] = round(means.weights["loss"] / max(self.train_seconds, 1e-9), 1)
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        self._validate(row, self._parts_done + 1 == self.parts)
        row["peak_memory_mb"] = round(peak_memory_mb(self.device), 1)
        self.own.means = RunningMeans()
        self.train_seconds = 0.0
        self.part += 1
        if self.part == parts:
            self.epoch, self.part, self.batch = self.epoch + 1, 0, 0
        return row

    def _validate(self, row: Row, last: bool) -> None:
        """Validate, and keep the weights where they are better; without a validation, keep the last ones."""
        row["eval_seconds"] = 0.0
        rare = self.config.validations_per_epoch == 1 and row["epoch"] % self.config.validate_every
        if not last and (self.validate is None or rare):
            return
        started = time.perf_counter()
        with working("Validation"):
            if self.average:
                with self.average.applied(self.ranker):
                    self._validate_and_keep(row)
                self.ranker.train()  # drops the table of the averaged weights
            else:
                self._validate_and_keep(row)
        row["eval_seconds"] = round(time.perf_counter() - started, 3)

    def _validate_and_keep(self, row: Row) -> None:
        self.ranker.eval()
        better = self.validate is None
        if self.validate is not None:
            row |= self.validate(self.ranker, self.workers)
            better = self._judge(float(row[self.config.metric]))
        if better or self.config.keep == "last":
            self._keep(self.folder / "model")

    def _keep(self, folder: Path) -> None:
        """Save the model; where its ids are sharded, all workers give their rows."""
        if self.workers.main:
            with atomic_folder(folder, replace=True) as part:
                save_whole(self.ranker, part)
        elif self.ids is not None:
            save_whole(self.ranker, None)

    def _judge(self, value: float) -> bool:
        """Whether a validation is the best so far; training is done where too many were not."""
        better = value > self.best
        if better:
            self.best, self.stale = value, 0
        else:
            self.stale += 1
            self.done = bool(self.config.patience) and self.stale >= self.config.patience
        return better

    # -- resuming ------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        workers = self.own.save()
        if not self.workers.main and self.row_checkpoint is None:
            return
        state: dict[str, Any] = {
            "config_hash": self.config_hash,
            "threads": torch.get_num_threads(),
            "model": self.ranker.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average and {"shadow": self.average.shadow, "steps": self.average.steps},
            "workers": workers,
            "rows": self.rows,
            **{name: getattr(self, name) for name in _COUNTERS},
        }
        if self.row_checkpoint:
            state = self.row_checkpoint.write(state)
            self.workers.wait()
        if self.workers.main:
            write_checkpoint(self.folder, state)
            if self.row_checkpoint:
                self.row_checkpoint.remove_others(state)

    def _restore(self) -> None:
        state = read_checkpoint(self.folder)
        if state is None:
            return
        if state["config_hash"] != self.config_hash:
            raise PalateError(
                f"{self.folder} was started with other options, features or data",
                "Resume with the same ones, or choose another --out.",
            )
        workers = state.get("workers") or [state]  # a lone worker's were at the top once
        if self.workers.main:
            self._report_differences(state["threads"], len(workers))
        if self.row_checkpoint:
            state = self.row_checkpoint.read(state)
        self.ranker.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average and state["average"]:
            self.average.load(**state["average"])
        self.own.load(workers, state["step"])
        self.rows = state["rows"]
        for name in _COUNTERS:
            setattr(self, name, state[name])

    def _report_differences(self, threads: int, workers: int) -> None:
        """Say what makes the results differ from those of an unbroken run."""
        if threads != torch.get_num_threads():
            print(
                f"Resuming with {torch.get_num_threads()} threads what was started with {threads}: "
                "the last digits of the results may differ.",
                file=sys.stderr,
            )
        if workers != self.workers.count:
            print(
                f"Resuming with {self.workers.count} workers what {workers} had begun: the batches stay the same, "
                "dropout and sampled negatives are drawn anew.",
                file=sys.stderr,
            )


_COUNTERS = ("step", "epoch", "part", "batch", "best", "stale", "done", "train_seconds")
