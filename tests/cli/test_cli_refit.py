"""``palate train --refit`` on the command line, and what is refused of a run that has seen everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import Shell

from palate.runs.run import Run


@pytest.fixture
def refitted(palate: Shell, shop: Path, neural: Path, tmp_path: Path) -> Path:
    found = palate("train", shop, "--refit", neural, "--out", tmp_path / "all")
    assert found.code == 0, found.err
    assert "Trained on all interactions (epochs: 1): nothing is held out." in found.out
    return tmp_path / "all"


def test_a_run_that_has_seen_everything_is_not_measured_on_it(
    palate: Shell, shop: Path, neural: Path, popular: Path, refitted: Path, tmp_path: Path
) -> None:
    assert Run.open(refitted).info["trained_on"][0]["whole"] is True
    for words in (
        ["evaluate", neural, refitted],
        ["evaluate", refitted, "--split", "valid"],
        ["attach", refitted, "--neighbours", "co-occurrence", "--out", tmp_path / "x"],
        ["align", refitted, "--out", tmp_path / "x"],
        ["blend", refitted, popular, "--out", tmp_path / "x"],
    ):
        found = palate(*words)
        assert (found.code, "has seen the" in found.err) == (2, True), (words, found.err)
    facts = json.loads(palate("info", refitted, "--json").out)
    assert facts["refit"]["run"] == str(neural.resolve())


def test_weights_that_have_seen_everything_are_remembered(
    palate: Shell, shop: Path, refitted: Path, tmp_path: Path
) -> None:
    words = ["--model", "sasrec", "--warm-start", refitted, "--epochs", "1", "--out", tmp_path / "warm"]
    sizes = ["--set", "ranker.dim=8", "--set", "ranker.layers=1", "--set", "ranker.heads=1"]
    found = palate("train", shop, *words, *sizes)
    assert (found.code, "has seen the valid targets" in found.err) == (2, True), found.err
    assert not (tmp_path / "warm").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "sasrec"], "--model contradicts --refit"),
        (["--modalities", "id"], "--modalities contradicts --refit"),
        (["--set", "ranker.dim=16"], "[ranker] contradicts --refit"),
        (["--warm-start", "RUN"], "says nothing about a warm start"),
    ],
)
def test_options_that_contradict_a_refit(
    palate: Shell, shop: Path, neural: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    given = [str(neural) if word == "RUN" else word for word in words]
    found = palate("train", shop, "--refit", neural, "--out", tmp_path / "x", *given)
    assert (found.code, message in found.err) == (2, True), found.err


def test_what_is_missing_is_named(palate: Shell, shop: Path, neural: Path, tmp_path: Path) -> None:
    assert "--model is missing" in palate("train", shop, "--out", tmp_path / "x").err
    assert "--out is missing" in palate("train", shop, "--model", "sasrec").err
    assert "DATASET is missing" in palate("train", "--model", "sasrec", "--out", tmp_path / "x").err
    assert "Leave out the other options" in palate("train", "--finish", neural, "--model", "sasrec").err
