"""What a run has learnt from: complete, and no longer than it has to be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.evaluation.unseen import seen_by
from palate.runs.run import Run
from palate.runs.trained_on import TrainedLog, record_logs, trained_logs

DAY, START = 86_400_000, 1_600_000_000_000
Night = Callable[..., Dataset]


@pytest.fixture
def night(tmp_path: Path) -> Night:
    """A shop's log as it is after some days, saved: users come every day, or every other day."""

    def make(days: int, *, timed: bool = True, left_out: tuple[str, ...] = (), **options: str) -> Dataset:
        rows = [
            (f"u{user}", f"i{item}", START + DAY * step + user)
            for user in range(10)
            for step, item in enumerate(np.random.default_rng(user).permutation(14)[:days])
            if f"u{user}" not in left_out and (user % 2 == 0 or step % 2 == 0)
        ]
        log = pl.DataFrame(rows, schema=["user", "item", "timestamp"], orient="row")
        log = log if timed else log.drop("timestamp")
        times = {"timestamp": "timestamp", "time_unit": "ms"} if timed else {}
        name = f"day {days}{'' if timed else ' untimed'}"
        folder = tmp_path / f"{name} {len(left_out)}"
        if not folder.exists():
            from_frames(log, **times, name=name, **options).save(folder)
        return Dataset.load(folder)

    return make


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Run]:
    """A run folder that records what it was trained on; nothing is trained."""
    count = iter(range(100))

    def make(dataset: Dataset, *earlier: Run, whole: bool = False) -> Run:
        where = {"dataset": dataset, "dataset_path": dataset.folder}
        run = Run.start(tmp_path / f"run-{next(count)}", model="sasrec", options={}, seed=0, **where)
        return run.add(trained_on=record_logs(dataset, run, earlier, whole=whole))

    return make


def names(run: Run) -> list[tuple[str, bool]]:
    return [(log.name, log.whole) for log in trained_logs(run)]


def test_nights_of_warm_starts_leave_one_log(night: Night, trained: Callable[..., Run]) -> None:
    held = whole = None
    for days in range(6, 12):
        data = night(days)
        held = trained(data, *([held] if held else []))
        whole = trained(data, *([whole] if whole else []), whole=True)
        assert names(held) == [(f"day {days}", False)]
        assert names(whole) == [(f"day {days}", True)]


def test_what_a_refit_has_learnt_of_the_test_targets_is_kept(night: Night, trained: Callable[..., Run]) -> None:
    """Users who did not come back have their last interaction in test again, and the weights know it."""
    refit = trained(night(6), whole=True)
    run = refit
    for days in (7, 8, 9):
        run = trained(night(days), run)
        assert names(run) == [(f"day {days}", False), ("day 6", True)]


def test_a_log_with_an_interaction_of_its_own_is_kept(night: Night, trained: Callable[..., Run]) -> None:
    other, everybody = night(8, left_out=("u0",)), night(8)
    first = trained(everybody)
    assert names(trained(other, first)) == [("day 8", False), ("day 8", False)]
    assert names(trained(everybody, trained(other))) == [("day 8", False)]
    assert names(trained(night(9, timed=False), first)) == [("day 9 untimed", False), ("day 8", False)]
    assert names(trained(night(9, timed=False), trained(night(8, timed=False)))) == [("day 9 untimed", False)]


def test_a_log_whose_dataset_is_gone_is_kept(night: Night, trained: Callable[..., Run]) -> None:
    data = night(7)
    first = trained(data)
    shutil.rmtree(str(data.folder))
    assert names(trained(night(8), first)) == [("day 8", False), ("day 7", False)]


def test_a_log_whose_dataset_cannot_be_opened_is_kept(night: Night, trained: Callable[..., Run]) -> None:
    """The model is trained by then."""
    data = night(7)
    first = trained(data)
    assert data.folder is not None
    (data.folder / "interactions.parquet").write_bytes(b"damaged")
    elsewhere = first.add(trained_on=[{**log, "path": "sftp://nobody.invalid/x"} for log in first.info["trained_on"]])
    for earlier in (first, elsewhere):
        assert names(trained(night(8), earlier)) == [("day 8", False), ("day 7", False)]


def test_what_is_left_out_was_seen_anyway(night: Night, trained: Callable[..., Run]) -> None:
    """Which cases are clean does not change."""
    later, logs = night(11), []
    run = None
    for days in (6, 8, 9):
        run = trained(night(days), *([run] if run else []))
        own = run.info["dataset"]
        logs.append(TrainedLog(own["name"], own["path"], own["fingerprint"], False, None))
    assert run is not None
    assert len(trained_logs(run)) == 1
    assert np.array_equal(seen_by(later, trained_logs(run)), seen_by(later, logs))
