"""The language model's part of `palate demo`, on a tiny model: every artefact, found again, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from summary_helpers import Echo

from palate.cli.demo import run_command
from palate.console import open_console
from palate.data.dataset import Dataset
from palate.demo.extras import missing_language_model
from palate.demo.llm import BLIND, FULL, MADE, Language, language_stages, precision, use_of_history
from palate.demo.pictures import shown_cases
from palate.demo.runner import Demo, Note
from palate.demo.shop import build_demo
from palate.mllm import backends
from palate.mllm.prompts.templates import Templates
from palate.runs.run import Run
from palate.training.fit import train

SMALL = Language(
    warm_up="--batch-size 8 --steps 2 --max-items 580",
    max_items=6,
    fine_tuning="--users 6 --cutoffs 1 --set trainer.keep=last",
    history_items=3,
    users=8,
    negatives=5,
)
ROWS = ["popularity=$DEMO/runs/popularity"]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Writes the preferences: a tiny random model writes nothing that could be used."""
    backend = Echo()
    monkeypatch.setattr(backends, "open_backend", lambda *_, **__: backend)
    return backend


@pytest.fixture
def plan(tiny: Callable[[str], Path]) -> Language:
    if missing := missing_language_model(str(tiny("llava"))):
        pytest.skip(missing)
    return replace(SMALL, base=str(tiny("llava")))


@pytest.fixture
def shop(tmp_path: Path, plan: Language, echo: Echo) -> Path:
    out = tmp_path / "demo"
    data = build_demo(out / "dataset", seed=1, items=40, users=60)
    train(data, model="popularity", out=out / "runs" / "popularity", dataset_path=out / "dataset")
    return out


def run(out: Path, plan: Language, stages: slice = slice(None)) -> dict[str, Any]:
    demo = Demo(out, 1, open_console(width=200), run_command)
    for stage in language_stages(plan, 1, ROWS)[stages]:
        for step in stage.steps:
            demo.run(step)
    return demo.facts


def test_the_stages_make_everything_once(
    shop: Path, plan: Language, echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(shop, plan)["sampled"]
    printed = capsys.readouterr().out
    data = Dataset.load(shop / "dataset")
    cases = shown_cases(data, 1)
    assert list(found) == ["popularity", FULL, BLIND]
    assert all(0 <= row["auc"] <= 1 for row in found.values())
    assert "minus mllm, history-blind" in printed  # one table, beside the control
    assert "Cost of scoring, per 1,000 users" in printed
    assert all((shop / name).exists() for name in MADE)

    # Preferences: three purchases a step, all of them from before the target, and to be read again in a file.
    steps = sum(min(2, -(-length // 3)) for length in cases.histories.lengths)
    assert len(cases) == 4
    assert len(echo.requested) == steps
    page = (shop / "preferences.md").read_text()
    for history, target in zip(cases.histories, cases.targets, strict=True):
        assert data.catalogue.titles[history[-1]] in page
        assert not set(target.tolist()) & set(history.tolist())
    assert page.count("> Preference number") == steps == printed.count("-> Preference number")

    # Answers about pictures are held against the catalogue, for items that the warm-up left out.
    answers = json.loads((shop / "mllm" / "answers.json").read_text())
    facts = json.loads((shop / "mllm" / "model" / "warm-up.json").read_text())
    assert [one["item"] for one in answers] == facts["telling_items"]
    assert facts["items"]["telling"] == len(answers)

    # The control differs in nothing but what it is shown, and both are evaluated on the same candidates.
    full, blind = (Run.open(shop / "mllm" / "runs" / name).info for name in ("full", "blind"))
    assert full["learnt"] == blind["learnt"]
    assert blind["options"]["mllm"]["prompt"]["blind"]
    assert full["options"]["mllm"]["prompt"]["history_items"] == 3
    assert full["options"]["trainer"] == blind["options"]["trainer"]

    # Again: nothing is made anew, and the same is printed.
    before = {path: path.stat().st_mtime_ns for path in [*shop.rglob("*.safetensors"), *shop.rglob("table.md")]}
    assert before
    assert run(shop, plan)["sampled"] == found
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(echo.requested) == steps
    again = capsys.readouterr().out
    assert again.splitlines()[-1] == printed.splitlines()[-1]
    assert "Cost of scoring, per 1,000 users" in again  # of the first time, when it was spent

    # Preferences that another Palate asked for in other words are written anew.
    store = shop / "dataset" / "summaries" / "users" / "demo" / "summaries.json"
    store.write_text(store.read_text().replace(Templates.load().fingerprint("user-next"), "0" * 16))
    run(shop, plan, slice(1, 2))
    assert len(echo.requested) == 2 * steps

    # Warmed up in another way, all that was made from it goes.
    run(shop, replace(plan, warm_up="--batch-size 8 --steps 1 --max-items 580"), slice(0, 1))
    assert json.loads((shop / "mllm" / "model" / "warm-up.json").read_text())["options"]["trainer"]["steps"] == 1
    assert not (shop / "mllm" / "runs").exists()


def test_what_is_missing_is_said_and_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.demo import extras

    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "trl" else found(name))
    (stage,) = language_stages(replace(SMALL, base="a folder"), 0, ROWS)
    (note,) = stage.steps
    assert isinstance(note, Note)
    assert note.text.startswith("The language model was left out: trl not installed")
    assert "palate[mllm]" in note.text


def test_a_preference_that_cannot_be_had_is_said(
    shop: Path, plan: Language, echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    echo.fail = {1}
    run(shop, plan, slice(1, 2))
    printed = capsys.readouterr().out
    assert "could not be had" in printed
    assert "the server is tired" in printed
    page = (shop / "preferences.md").read_text()
    assert "(nothing that could be used)" in page
    assert "> Preference number" in page


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.1, "uses the history"),
        (-0.1, 0.1, "show no use"),
        (-0.1, -0.01, "With the history the fine-tuned model is worse"),
    ],
)
def test_the_verdict_is_that_of_the_interval(low: float, high: float, words: str) -> None:
    text = use_of_history((low + high) / 2, low, high)
    assert words in text
    assert f"{(low + high) / 2:+.3f}" in text


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for can, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"avx512_bf16": can}, raising=False)
        assert precision() == dtype
