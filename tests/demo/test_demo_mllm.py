"""The language model's part of `palate demo`, on a tiny model: every artefact, found again, and what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from summary_helpers import Echo

from palate.console import open_console
from palate.data.dataset import Cases, Dataset
from palate.demo import llm as demo_mllm
from palate.demo import preferences as demo_preferences
from palate.demo import sampled as demo_sampled
from palate.demo.llm import MADE, Language, lacking, run_mllm
from palate.demo.sampled import BLIND, FULL
from palate.demo.shop import build_demo
from palate.mllm.prompts.templates import Templates
from palate.runs.run import Run
from palate.training.fit import train

SMALL = Language(
    max_items=6,
    warm_up={"batch_size": 8, "steps": 2},
    history_items=3,
    users=6,
    cutoffs=1,
    judged=8,
    negatives=5,
    trainer={"keep": "last"},
)


@pytest.fixture
def shop(tmp_path: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    if lacking(str(tiny("llava"))):
        pytest.skip(lacking(str(tiny("llava"))))
    data = build_demo(tmp_path / "demo" / "dataset", seed=1, items=40, users=60)
    cases = data.cases("test")
    echo = Echo()  # a tiny random model writes nothing that could be kept
    monkeypatch.setattr(demo_preferences, "_backend", lambda *_: echo)
    return {
        "data": data,
        "out": tmp_path / "demo",
        "plan": replace(SMALL, base=str(tiny("llava"))),
        "runs": {"popularity": train(data, model="popularity", out=tmp_path / "demo" / "runs" / "popularity")},
        "shown": cases.take(np.flatnonzero(cases.histories.lengths >= 6)[:2]),
        "echo": echo,
    }


def stage(shop: dict[str, Any]) -> tuple[dict[str, dict[str, float]], str]:
    console = open_console(record=True, width=200, file=StringIO())
    data, runs, out, plan, shown = (shop[name] for name in ("data", "runs", "out", "plan", "shown"))
    return run_mllm(data, runs, out, plan, 1, shown, console), console.export_text()


def test_the_stage_makes_everything_once(shop: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    found, told = stage(shop)
    out, shown = shop["out"], shop["shown"]
    assert list(found) == ["popularity", FULL, BLIND]
    assert all(0 <= row["auc"] <= 1 for row in found.values())
    assert "minus mllm, history-blind" in capsys.readouterr().out  # one table, beside the control
    assert "Cost of 1,000 users" in told
    assert all((out / name).exists() for name in MADE)

    # Preferences: three purchases a step, all of them from before the target, and to be read again in a file.
    steps = -(-6 // 3)
    assert len(shop["echo"].asked) == steps * len(shown)
    page = (out / "preferences.md").read_text()
    for history, target in zip(shown.histories, shown.targets, strict=True):
        titles = shop["data"].catalogue.titles
        assert titles[history[-1]] in page
        assert not set(target.tolist()) & set(history.tolist())
    assert page.count("> Preference number") == steps * len(shown) == told.count("-> Preference number")

    # What it says of pictures is held against the catalogue, for items that the warm-up left out.
    said = json.loads((out / "mllm" / "said.json").read_text())
    facts = json.loads((out / "mllm" / "model" / "warm-up.json").read_text())
    assert [one["item"] for one in said] == facts["telling_items"]
    assert facts["items"]["telling"] == len(said)

    # The control differs in nothing but what it is shown, and both stand on the same candidates.
    full, blind = (Run.open(out / "mllm" / "runs" / name).info for name in ("full", "blind"))
    assert full["learnt"] == blind["learnt"]
    assert blind["options"]["mllm"]["prompt"]["blind"]
    assert full["options"]["mllm"]["prompt"]["history_items"] == 3
    assert full["options"]["trainer"] == blind["options"]["trainer"]

    # Again: nothing is made anew, and it says the same.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert before
    again, told_again = stage(shop)
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert len(shop["echo"].asked) == steps * len(shown)
    assert told_again.splitlines()[-1] == told.splitlines()[-1]  # the cost: of the first time, when it was paid

    # Preferences that another Palate asked for in other words are written anew.
    store = out / "dataset" / "summaries" / "users" / "demo" / "summaries.json"
    store.write_text(store.read_text().replace(Templates.load().fingerprint("user-next"), "0" * 16))
    plan = shop["plan"]
    settings: dict[str, Any] = {
        "model": plan.base,
        "dtype": "float32",
        "max_items": 6,
        "console": open_console(file=StringIO()),
    }
    demo_preferences.write_preferences(shop["data"], out / "dataset", shown, **settings)
    assert len(shop["echo"].asked) == 2 * steps * len(shown)

    # Warmed up otherwise, all that was made from it goes.
    plan = replace(plan, warm_up={"batch_size": 8, "steps": 1})
    demo_mllm._warm_up(shop["data"], out, plan, 1, demo_mllm._dtype(), open_console(file=StringIO()))
    assert json.loads((out / "mllm" / "model" / "warm-up.json").read_text())["options"]["trainer"]["steps"] == 1
    assert not (out / "mllm" / "runs").exists()


def test_what_is_missing_is_told_and_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "trl" else found(name, *more))
    told = lacking("a folder")
    assert "trl not installed" in told
    assert "palate[mllm]" in told
    data, shown = SimpleNamespace(), SimpleNamespace()  # never looked at
    console = open_console(width=200)
    assert run_mllm(data, {}, tmp_path, SMALL, 0, shown, console) == {}  # type: ignore[arg-type]
    assert capsys.readouterr().out.count("The language model was left out") == 1
    assert not list(tmp_path.iterdir())


def test_a_preference_that_cannot_be_had_is_told(
    shop: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Dataset = shop["data"]
    shown: Cases = shop["shown"]
    monkeypatch.setattr(demo_preferences, "_backend", lambda *_: Echo(fail={1}))
    console = open_console(width=200)
    settings: dict[str, Any] = {"model": "echo", "dtype": "float32", "max_items": 6, "console": console}
    written = demo_preferences.write_preferences(data, shop["out"] / "dataset", shown, **settings)
    demo_preferences.tell(written, tmp_path / "page.md", console)
    told = capsys.readouterr().out
    assert "could not be had" in told
    assert "the server is tired" in told
    assert "(nothing that could be used)" in (tmp_path / "page.md").read_text()
    assert any(step.text for steps in written.values() for step in steps)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.1, "uses the history"), (-0.1, 0.1, "show no use"), (-0.1, -0.01, "made the model worse")],
)
def test_the_verdict_is_that_of_the_interval(low: float, high: float, words: str) -> None:
    estimate = SimpleNamespace(mean=(low + high) / 2, low=low, high=high)
    row = SimpleNamespace(differences={"auc": SimpleNamespace(estimate=estimate)})
    told = demo_sampled._verdict(SimpleNamespace(row=lambda label: row))  # type: ignore[arg-type]
    assert words in told
    assert f"{(low + high) / 2:+.3f}" in told


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for can, dtype in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"avx512_bf16": can}, raising=False)
        assert demo_mllm._dtype() == dtype
