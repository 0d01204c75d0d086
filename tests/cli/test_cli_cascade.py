"""``palate recommend RUN --retriever RUN0``."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from cli_helpers import Shell

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.rankers.registry import load_recommender
from palate.rankers.sasrec import SASRec
from palate.runs.run import Run
from palate.training.fit import train


def answer(palate: Shell, *words: object) -> list[tuple[str, float]]:
    told = palate("recommend", *words, "--json")
    assert told.code == 0, told.err
    return [(row["item"], row["score"]) for row in json.loads(told.out)["items"]]


def test_the_run_orders_what_the_retriever_proposes(palate: Shell, popular: Path, neural: Path) -> None:
    history = ("--history", "i1,i2")
    proposed = [item for item, _ in answer(palate, popular, *history, "--k", 4)]
    found = answer(palate, neural, "--retriever", popular, "--depth", 4, "--k", 6, *history)
    run = Run.open(neural)
    index = run.catalogue.index
    scores = load_recommender(run).score([[index["i1"], index["i2"]]])[0]
    assert [item for item, _ in found[:4]] == sorted(proposed, key=lambda item: -scores[index[item]])
    for item, score in found[:4]:  # the run's own scores are shown
        assert score == pytest.approx(float(scores[index[item]]), abs=1e-5)
    assert [item for item, _ in found[4:]] == [item for item, _ in answer(palate, popular, *history, "--k", 6)][4:]


def test_blend_goes_from_retriever_to_run(palate: Shell, popular: Path, neural: Path) -> None:
    words = (neural, "--retriever", popular, "--depth", 5, "--k", 5, "--history", "i1")
    alone = [item for item, _ in answer(palate, popular, "--k", 5, "--history", "i1")]
    assert [item for item, _ in answer(palate, *words, "--blend", 0)] == alone
    ordered = [item for item, _ in answer(palate, *words)]
    assert [item for item, _ in answer(palate, *words, "--blend", 1)] == ordered


def test_conditions_hold_before_anything_is_proposed(palate: Shell, popular: Path, neural: Path) -> None:
    words = (neural, "--retriever", popular, "--depth", 3, "--only", "colour=red", "--history", "i1", "--k", 5)
    assert len(answer(palate, *words)) == 5
    assert {item for item, _ in answer(palate, *words)} == {f"i{n}" for n in (3, 5, 7, 9, 11)}


def test_everyone(palate: Shell, popular: Path, neural: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    assert palate("recommend", neural, "--retriever", popular, "--all", "--out", out, "--k", 3).code == 0
    assert pl.read_parquet(out).group_by("user").len()["len"].unique().to_list() == [3]


def test_a_run_that_cannot_afford_the_catalogue_names_the_option(
    palate: Shell, popular: Path, neural: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SASRec, "whole_catalogue", False)
    told = palate("recommend", neural, "--history", "i1")
    assert told.code == 2
    assert "cannot afford the whole catalogue. Give --retriever RUN0" in told.err
    assert palate("recommend", neural, "--retriever", popular, "--history", "i1").code == 0
    told = palate("recommend", popular, "--retriever", neural, "--history", "i1")
    assert told.code == 2
    assert "needs a retriever itself" in told.err


def test_runs_of_different_catalogues_are_refused(palate: Shell, neural: Path, shop: Path, tmp_path: Path) -> None:
    data = Dataset.load(shop)
    items = data.catalogue.frame.with_columns(item_id=pl.col("item_id").replace({"i7": "j7"}))
    log = pl.DataFrame({"user": ["a", "a", "a"], "item": ["i1", "i2", "i3"], "timestamp": [1, 2, 3]})
    other = from_frames(log, items, name="other", keep_unseen=True)
    train(other, model="popularity", out=tmp_path / "run", dataset_path=None)
    told = palate("recommend", neural, "--retriever", tmp_path / "run", "--history", "i1")
    assert told.code == 2
    assert "have different catalogues ('i7' is not in the retriever's)" in told.err


def test_a_blend_needs_a_retriever(palate: Shell, neural: Path) -> None:
    told = palate("recommend", neural, "--blend", 0.5, "--history", "i1")
    assert told.code == 2
    assert "Give --retriever RUN0" in told.err
