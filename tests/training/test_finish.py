"""``palate train --finish`` and Ctrl-C twice: the best epoch so far becomes a finished run that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from palate.alignment.align import align
from palate.artefact import describe
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.registry import load_recommender
from palate.runs import manual_stop
from palate.runs.manual_stop import finish_requested, request_finish
from palate.runs.run import Run
from palate.storage.lock import one_writer
from palate.training.finish import finish
from palate.training.fit import train
from palate.training.loop import Trainer
from palate.training.refit import refit

Ring = Callable[..., Dataset]
SETTINGS: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 8, "layers": 1, "heads": 1, "max_length": 10},
    "trainer": {"epochs": 9, "batch_size": 16, "tensorboard": False, "device": "cpu", "patience": 0},
}


class Killed(Exception):
    pass


@pytest.fixture
def dataset(ring: Ring, tmp_path: Path) -> Dataset:
    ring().save(tmp_path / "data")
    return Dataset.load(tmp_path / "data")


def until(epoch: int, do: Callable[[], Any]) -> Callable[[dict[str, Any]], None]:
    def on_epoch(row: dict[str, Any]) -> None:
        if row["epoch"] == epoch:
            do()

    return on_epoch


def kill() -> None:
    raise Killed


def broken(dataset: Dataset, out: Path, epoch: int = 3, **options: Any) -> Run:
    with pytest.raises(Killed):
        train(
            dataset,
            model="sasrec",
            out=out,
            settings=SETTINGS,
            dataset_path=dataset.folder,
            on_epoch=until(epoch, kill),
            **options,
        )
    return Run.open(out)


def test_a_killed_training_is_finished_with_its_best_epoch(dataset: Dataset, tmp_path: Path) -> None:
    run = broken(dataset, tmp_path / "run")
    before = load_recommender(run).score([[1, 2]])
    made = finish(run)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert made.finished
    assert made.info["epochs"] == 3
    assert made.info["best"]["NDCG@10"] == max(row["NDCG@10"] for row in rows)
    assert made.info["ended_early"] == {"epoch": 3, "of": 9, "by": "palate train --finish"}
    assert describe(made.folder)["ended_early"]["epoch"] == 3
    assert torch.equal(load_recommender(made).score([[1, 2]]), before)
    assert finish(made).info == made.info  # a finished one is returned as it is
    assert refit(made, dataset, out=tmp_path / "refit").info["epochs"] == made.info["best"]["epoch"]


def test_neighbours_are_fitted_to_it(dataset: Dataset, tmp_path: Path) -> None:
    made = finish(broken(dataset, tmp_path / "run", neighbours=["co-occurrence"]))
    assert set(made.info["neighbours"]) >= {"before", "after", "lists"}
    assert made.info["best"]["NDCG@10"] == made.info["neighbours"]["after"]["NDCG@10"]


def test_a_training_at_work_ends_after_its_next_validation(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answers = []

    def ask() -> None:  # as another process would: this one holds the folder
        answers.append(finish(out).finished)

    made = train(dataset, model="sasrec", out=out, settings=SETTINGS, on_epoch=until(2, ask))
    assert answers == [False]
    assert (made.finished, made.info["epochs"]) == (True, 2)
    assert made.info["ended_early"]["by"] == "palate train --finish"
    assert not finish_requested(out)


@pytest.mark.parametrize("by", ["Ctrl-C", "palate train --finish"])
def test_a_kill_while_neighbours_are_fitted_does_not_undo_it(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """The request stands until the run is finished: a resumed one fits the neighbours, and trains no further."""
    out = tmp_path / "run"
    options: dict[str, Any] = {"model": "sasrec", "out": out, "settings": SETTINGS, "dataset_path": dataset.folder}
    ask = until(2, lambda: request_finish(out, by))
    with monkeypatch.context() as patch:
        patch.setattr("palate.training.fit.add_neighbours", lambda *_: kill())
        with pytest.raises(Killed):
            train(dataset, **options, neighbours=["co-occurrence"], on_epoch=ask)
    assert finish_requested(out) == by
    made = train(dataset, **options, neighbours=["co-occurrence"], resume=True)
    assert (made.finished, made.info["epochs"]) == (True, 2)
    assert made.info["ended_early"] == {"epoch": 2, "of": 9, "by": by}
    assert made.info["neighbours"]["after"]
    assert finish_requested(out) is None


def test_a_kill_of_finish_does_not_undo_it(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = broken(dataset, tmp_path / "run", neighbours=["co-occurrence"])
    with monkeypatch.context() as patch:
        patch.setattr("palate.training.fit.add_neighbours", lambda *_: kill())
        with pytest.raises(Killed):
            finish(run)
    made = train(
        dataset, model="sasrec", out=run.folder, settings=SETTINGS, dataset_path=dataset.folder, resume=True,
        neighbours=["co-occurrence"],
    )  # fmt: skip
    assert (made.finished, made.info["epochs"]) == (True, 3)


def test_ctrl_c_twice_inside_an_epoch(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch that is cut off is forgotten; the best one is kept."""
    asked = manual_stop.AskTwice(lambda: "", lambda line: None)
    monkeypatch.setattr("palate.training.loop.asking_twice", lambda question, show: _Given(asked, question))
    step = Trainer._train_step

    def pressed(self: Trainer, windows: Any, whole: Any, number: int) -> None:
        step(self, windows, whole, number)
        if self.epoch == 3 and self.batch == 1:
            assert "keep epoch" in str(asked.question())
            asked.answered = True

    monkeypatch.setattr(Trainer, "_train_step", pressed)
    made = train(dataset, model="sasrec", out=tmp_path / "run", settings=SETTINGS)
    assert (made.finished, made.info["epochs"]) == (True, 2)
    assert made.info["ended_early"] == {"epoch": 2, "of": 9, "by": "Ctrl-C"}
    assert finish_requested(made.folder) is None


class _Given:
    def __init__(self, asked: manual_stop.AskTwice, question: Callable[[], str | None]) -> None:
        asked.question = question
        self.asked = asked

    def __enter__(self) -> manual_stop.AskTwice:
        return self.asked

    def __exit__(self, *_: object) -> None:
        pass


def test_an_interrupted_alignment_is_ended_when_it_is_resumed(dataset: Dataset, tmp_path: Path) -> None:
    start = train(dataset, model="sasrec", out=tmp_path / "start", settings=SETTINGS, dataset_path=dataset.folder)
    options: dict[str, Any] = {"out": tmp_path / "aligned", "objective": "bpr", "negatives": "uniform"}
    with pytest.raises(Killed):
        align(start, **options, on_epoch=until(1, kill))
    assert not finish(tmp_path / "aligned").finished
    made = align(start, **options, resume=True)
    assert made.info["ended_early"]["epoch"] == 1
    assert made.info["alignment"]


def test_what_cannot_be_finished(dataset: Dataset, tmp_path: Path) -> None:
    run = broken(dataset, tmp_path / "run", epoch=1)
    (run.folder / "metrics.jsonl").write_text("")
    with pytest.raises(PalateError, match="no validated epoch"):
        finish(run)
    with one_writer(run.folder):
        assert not finish(run).finished
    assert finish_requested(run.folder)
    held = train(dataset, model="sasrec", out=tmp_path / "held", settings=SETTINGS, dataset_path=dataset.folder)
    with pytest.raises(Killed):
        refit(held, dataset, out=tmp_path / "refit", on_epoch=until(1, kill), settings={"trainer": {"epochs": 2}})
    with pytest.raises(PalateError, match="is a refit: no epoch is the best"):
        finish(tmp_path / "refit")


def test_a_request_before_the_first_validation_waits_for_it(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    request_finish(tmp_path / "run")
    made = train(dataset, model="sasrec", out=tmp_path / "run", settings=SETTINGS)
    assert made.info["epochs"] == 1
