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
from palate.demo.llm import MADE, Language, language_stages, precision
from palate.demo.models import MODELS
from palate.demo.pictures import shown_cases
from palate.demo.runner import Demo, DemoCommand, Note
from palate.demo.shop import build_demo, load_truth
from palate.demo.shop.traits import in_words, top_tastes
from palate.demo.verdicts import (
    BLIND,
    FULL,
    HANOREC,
    ZERO_SHOT,
    use_of_blend,
    use_of_hanorec,
    use_of_history,
    use_of_pictures,
)
from palate.mllm.backends import workers
from palate.mllm.prompts.templates import Templates
from palate.runs.run import Run
from palate.training.fit import train

SMALL = Language(
    pictures=5,
    max_items=6,
    fine_tuning="--users 6 --cutoffs 1 --negatives-per-positive 2 --set trainer.keep=last",
    alignment="--users 4 --cutoffs 1 --num-negatives 3 --batch-size 2 --accumulation 1 --set trainer.keep=last",
    probe="--users 4 --negatives 3",
    history_items=3,
    users=8,
    negatives=5,
)
RANKERS = MODELS[:1]
BLENDED = [f"{label} blended" for label in (ZERO_SHOT, BLIND, FULL, HANOREC)]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    """Writes the preferences: a tiny random model writes nothing that could be used."""
    backend = Echo("llava")  # the name of the folder
    monkeypatch.setattr(workers, "open_backend", lambda *_, **__: backend)
    return backend


@pytest.fixture
def plan(tiny: Callable[[str], Path]) -> Language:
    if missing := missing_language_model(str(tiny("llava"))):
        pytest.skip(missing)
    return replace(SMALL, writer=str(tiny("llava")), scorer=str(tiny("llava")))


@pytest.fixture
def shop(tmp_path: Path, plan: Language, echo: Echo) -> Path:
    out = tmp_path / "demo"
    data = build_demo(out / "dataset", seed=1, items=40, users=60)
    train(data, model="popularity", out=out / "runs" / "popularity", dataset_path=out / "dataset")
    return out


def run(out: Path, plan: Language, stages: slice = slice(None)) -> dict[str, Any]:
    demo = Demo(out, 1, open_console(width=200), run_command)
    for stage in language_stages(plan, 1, RANKERS)[stages]:
        for step in stage.steps:
            demo.run(step)
    return demo.facts


def test_the_stages_make_everything_once(
    shop: Path, plan: Language, echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = run(shop, plan)
    found = facts["sampled"]
    printed = capsys.readouterr().out
    data, truth = Dataset.load(shop / "dataset"), load_truth(shop / "dataset")
    cases = shown_cases(data, 1)
    rows = ["popularity", ZERO_SHOT, BLIND, FULL, HANOREC, *BLENDED, "oracle", "oracle without popularity"]
    assert list(found) == rows
    assert all(0 <= row["auc"] <= 1 for row in found.values())
    assert found["oracle"]["auc"] > 0.6
    assert "minus mllm, history-blind" in printed  # one table, beside the control
    assert "Cost of scoring, per 1,000 users" in printed
    assert list(facts["verdicts"]) == ["history", "pictures", "hanorec", "blend"]
    table = json.loads((shop / "mllm" / "evaluation" / "table.json").read_text())
    assert set(facts["verdicts"].values()) < set(table["notes"])  # which the report shows
    for sentence in facts["verdicts"].values():
        assert sentence in printed.replace("\n", " ")
    assert all((shop / name).exists() for name in MADE)

    # Preferences: three purchases a step, all of them from before the target, beside the tastes of that moment.
    steps = sum(min(2, -(-length // 3)) for length in cases.histories.lengths)
    items = {item for user in cases.users for item in data.items[data.offsets[user] : data.offsets[user + 1]].tolist()}
    pictured = [item for item in items if data.catalogue.image_path(item)]
    assert len(cases) == 4
    assert len(echo.requested) == len(pictured) + steps
    page = (shop / "preferences.md").read_text()
    for user, history, target in zip(cases.users.tolist(), cases.histories, cases.targets, strict=True):
        assert data.catalogue.titles[history[-1]] in page
        assert not set(target.tolist()) & set(history.tolist())
        last = int(data.offsets[user]) + len(history) - 1
        read = [line for line in page.splitlines() if f"{data.catalogue.titles[history[-1]]} |" in line]
        assert any(line.endswith(f"| {in_words(top_tastes(truth, user, last))} |") for line in read)
    assert page.count("| Preference number") == steps == printed.count("-> Preference number")
    shown = [request.chat.text for request in echo.requested if "Preference number" in request.chat.text]
    assert shown  # what was written of pictures is read again

    # Answers about pictures are compared with the generator's truth.
    answers = json.loads((shop / "mllm" / "answers.json").read_text())["answers"]
    assert len(answers) == 5
    for one in answers:
        kind = data.catalogue.frame["category"][data.catalogue.index[one["item"]] - 1]
        assert kind in (None, one["truth"]["kind"])
    assert facts["pictures"]["asked"] == 5

    # The control differs in nothing but what it is shown; HaNoRec goes on from the fine-tuned model.
    full, blind, hanorec = (Run.open(shop / "mllm" / "runs" / name).info for name in ("full", "blind", "hanorec"))
    assert full["learnt"] == blind["learnt"]
    assert blind["options"]["mllm"]["prompt"]["blind"]
    assert full["options"]["mllm"]["prompt"]["history_images"] == 3
    assert full["options"]["trainer"] == blind["options"]["trainer"]
    assert full["options"]["trainer"]["loss"] == "options"
    alone = Run.open(shop / "mllm" / "runs" / "pictures").info["options"]["mllm"]["prompt"]
    assert alone["item_text"] == alone["history_text"] == "none"
    assert hanorec["aligned_from"]["run"] == str((shop / "mllm" / "runs" / "full").resolve())

    # Again: nothing is made anew, and the same is printed.
    before = {path: path.stat().st_mtime_ns for path in [*shop.rglob("*.safetensors"), *shop.rglob("table.md")]}
    before[shop / "mllm" / "answers.json"] = (shop / "mllm" / "answers.json").stat().st_mtime_ns
    assert run(shop, plan) == facts
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(echo.requested) == len(pictured) + steps
    again = capsys.readouterr().out
    assert again.splitlines()[-1] == printed.splitlines()[-1]
    assert "Cost of scoring, per 1,000 users" in again  # of the first time, when it was spent

    # Preferences that another Palate asked for in other words are written anew.
    store = shop / "dataset" / "summaries" / "users" / "demo" / "summaries.json"
    store.write_text(store.read_text().replace(Templates.load().fingerprint("user-next"), "0" * 16))
    run(shop, plan, slice(1, 2))
    assert len(echo.requested) == 2 * (len(pictured) + steps)

    # Fine-tuned in another way, all that was made from it is made anew, and nothing else.
    other = replace(plan, fine_tuning=plan.fine_tuning.replace("--users 6", "--users 5"))
    demo = Demo(shop, 1, open_console(width=200), run_command)
    run(shop, other, slice(2, 3))
    made = Demo(shop, 1, open_console(width=200), run_command).made
    changed = {name for name in made if made[name] != demo.made[name]}
    assert changed == {"mllm/runs/full", "mllm/runs/blind", "mllm/runs/hanorec"}
    assert Run.open(shop / "mllm" / "runs" / "full").info["learnt"]["users"] == 5


def test_an_interrupted_fine_tuning_goes_on(shop: Path, plan: Language) -> None:
    demo = Demo(shop, 1, open_console(width=200), run_command)
    full = language_stages(plan, 1, RANKERS)[2].steps[1]
    assert isinstance(full, DemoCommand)
    demo.made["mllm/runs/full"] = full.recipe
    (shop / "mllm" / "runs" / "full").mkdir(parents=True)
    (shop / "mllm" / "runs" / "full" / "begun").touch()
    demo.run(full)
    assert (shop / "mllm" / "runs" / "full" / "begun").exists()  # another line's folder would have been removed
    assert Run.open(shop / "mllm" / "runs" / "full").finished


def test_what_is_missing_is_said_and_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.demo import extras

    found = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "trl" else found(name))
    (stage,) = language_stages(replace(SMALL, writer="a folder", scorer="a folder"), 0, RANKERS)
    (note,) = stage.steps
    assert isinstance(note, Note)
    assert note.text.startswith("The language model was left out: trl not installed")
    assert "palate[mllm]" in note.text


def test_a_preference_that_cannot_be_had_is_said(
    shop: Path, plan: Language, echo: Echo, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Dataset.load(shop / "dataset")
    users = shown_cases(data, 1).users
    items = {item for user in users for item in data.items[data.offsets[user] : data.offsets[user + 1]].tolist()}
    echo.fail = {1 + sum(data.catalogue.image_path(item) is not None for item in items)}  # the first of the users'
    run(shop, plan, slice(1, 2))
    printed = capsys.readouterr().out
    assert "could not be had" in printed
    assert "the server is tired" in printed
    page = (shop / "preferences.md").read_text()
    assert "(nothing that could be used)" in page
    assert "| Preference number" in page


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.1, ("uses the history", "Pictures matter", "improve the fine-tuned", "improves it")),
        (-0.1, 0.1, ("show no use", "do not show", "make no difference", "no more than chance")),
        (-0.1, -0.01, ("the fine-tuned model is worse", "ranks worse", "fine-tuned model worse", "makes it worse")),
    ],
)
def test_the_verdict_is_that_of_the_interval(low: float, high: float, words: tuple[str, ...]) -> None:
    one = ((low + high) / 2, low, high)
    sentences = (use_of_history(*one), use_of_pictures(one, 0.7), use_of_hanorec(*one), use_of_blend(*one))
    for expected, sentence in zip(words, sentences, strict=True):
        assert expected in sentence
        assert f"{one[0]:+.3f}" in sentence


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for can, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"avx512_bf16": can}, raising=False)
        assert precision() == dtype
