"""The scripts in benchmarks/ run with the package as it is: small sizes, on the CPU."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from worlds import random_logs, walking_shop

from palate.data.dataset import Dataset
from palate.mllm.summaries.items import ItemSummaries
from palate.mllm.summaries.store import store_folder
from palate.runs.run import Run

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_losses_in_both_precisions_are_close_to_float64(script: Any) -> None:
    single, half = script("gpu_parts").precision("cpu", small=True)
    for found, most in ((single, 1e-5), (half, 1e-2)):
        assert max(value for name, value in found.items() if name.endswith("error")) < most


@pytest.mark.parametrize("part", ["catalogue", "evaluation", "search"])
def test_parts_of_the_gpu_script(script: Any, part: str) -> None:
    figures = list(getattr(script("gpu_parts"), part)("cpu", small=True))
    assert figures
    assert json.dumps(figures)


def test_preparing_a_generated_log(script: Any, tmp_path: Path) -> None:
    large = script("prepare_large")
    made = large.generate(tmp_path, 3_000, "csv", 0)
    counts = large.prepare(tmp_path, 2)
    assert 0 < counts["interactions"] <= 3_000
    assert counts["users"] <= made["users"]
    assert sum(large.examine(tmp_path)["levels"].values()) > 10


def test_the_plan_on_the_page_is_what_the_script_computes(script: Any) -> None:
    page = (BENCHMARKS.parent / "docs" / "scale.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in script("scale_plan").tables() if line not in page] == []


def test_a_picture_of_growth(script: Any, tmp_path: Path) -> None:
    plot = script("plot_scale")
    plot.draw(plot.panels(plot.read_figures()), tmp_path / "scale.png")
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole_gpu_script(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--small", "--device", "cpu", "--out", str(tmp_path / "gpu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    machine, *parts = json.loads((tmp_path / "gpu").read_text())
    assert machine["device"] == "cpu"
    assert [part["ended"] for part in parts] == ["finished"] * len(parts)
    assert all(part["figures"] for part in parts)


def test_a_drawn_shop_whose_taste_is_known(script: Any, tmp_path: Path) -> None:
    from palate.training.fit import train

    impressions = script("impressions")
    options = argparse.Namespace(users=40, items=60, further=6.0, attention=0.85)
    shop = impressions.KnownShop(tmp_path, 0, options)
    assert shop.data.impressions is not None
    gains, shares = shop.judge(train(shop.data, model="popularity", out=tmp_path / "run"))
    assert len(gains) == len(shares) == 40
    assert 0.05 < gains.mean() < 0.9
    assert 0 < shares.mean() < 1
    difference, half, seen = impressions.paired([gains + 0.5 - gains, shares * 0])
    assert difference == pytest.approx(0.25)
    assert half == pytest.approx(12.706 * 0.25, rel=1e-3)  # of the two shops: within each all people agree
    assert seen > half


def test_the_arms_that_two_scripts_share(
    script: Any, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Start and arm are made with a tiny model, once."""
    pytest.importorskip("trl")
    from worlds import two_tastes

    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    two_tastes(tmp_path)
    arms, parser = script("aligned_arms"), argparse.ArgumentParser()
    arms.add_options(parser, positions=6)
    words = ["--out", str(tmp_path / "runs"), "--model", str(tiny("llama")), "--fine-tuned", "4"]
    options = parser.parse_args([str(tmp_path / "dataset"), *words])
    start = arms.make_start(options, Dataset.load(options.dataset), {"history_items": 3})
    assert Run.open(start).finished
    arm = arms.make_arm(options, "noise", 1, "hanorec", {"hardness": "one", "responsiveness": "one", "sigma": 0.1})
    run = Run.open(arm)
    assert (run.finished, run.seed, arm.name) == (True, 1, "noise-1")
    assert run.info["options"]["alignment"]["pairs"]["users"] == 6
    before = (arm / "run.json").read_text()
    assert (
        arms.make_arm(options, "noise", 1, "hanorec", {"hardness": "one", "responsiveness": "one", "sigma": 0.1}) == arm
    )
    assert (arm / "run.json").read_text() == before


@pytest.mark.parametrize("name", ["known_hardness", "modality_bias"])
def test_both_scripts_take_their_arms_from_it(script: Any, name: str) -> None:
    module, arms = script(name), script("aligned_arms")
    assert (module.make_start, module.make_arm) == (arms.make_start, arms.make_arm)


def test_words_of_preferences_are_those_of_their_items(script: Any) -> None:
    preference_words = script("preference_words")
    words = {"a": frozenset({"drama"}), "b": frozenset({"sci-fi", "war"}), "c": frozenset({"musical"})}
    texts = [("Enjoys drama and war films.", ["a", "b"]), ("Likes Sci-Fi, and dramatic films.", ["c"])]
    found = preference_words.count(texts, words)
    assert (found.named, found.shown, found.chance, found.silent) == (3, 2, 1, 0)
    assert preference_words.count([("Nothing.", ["a"])], words).silent == 1


def test_words_that_descriptions_of_pictures_name(script: Any) -> None:
    caption_words = script("caption_words")
    same = {"navy": "blue"}
    frame = pl.DataFrame(
        {"item_id": ["a", "b"], "colour": ["Dark Blue", "Off White"], "kind": ["Dress", "Socks & Other"]}
    )
    rows = [{"item": "a", "text": "A navy dress."}, {"item": "b", "text": "Dresses, or a sock, in other colours."}]
    texts = caption_words.described(rows, same)
    words = {field: caption_words.shown_words(frame, field, same) for field in ("colour", "kind")}
    assert words["kind"] == {"a": {"dress"}, "b": {"sock"}}
    found = {field: script("preference_words").count(texts, words[field]) for field in words}
    assert (found["colour"].named, found["colour"].shown, found["colour"].chance, found["colour"].silent) == (
        1,
        1,
        0,
        1,
    )
    assert (found["kind"].named, found["kind"].shown) == (2, 2)


def test_descriptions_with_as_many_wrong_words_as_asked_for(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worded_looks = script("worded_looks")
    values, random = [f"v{number}" for number in range(1000)], np.random.default_rng(0)
    assert worded_looks.with_errors(values, 1.0, random) == values
    kept = sum(map(str.__eq__, values, worded_looks.with_errors(values, 0.6, random)))
    assert 550 < kept < 650
    kinds, colours = ["Dress", "Socks", "Dress", "Hat"], ["Blue", "Red", "Red", "Off White"]
    walking_shop(items=4, kind=kinds, colour=colours).save(tmp_path / "data")
    words = ["worded_looks.py", str(tmp_path / "data"), "--fields", "kind", "colour", "--right", "1"]
    monkeypatch.setattr(sys, "argv", words)
    worded_looks.main()
    one, many = (
        ItemSummaries.load(store_folder(tmp_path / "data", "items", f"{word}-100")) for word in ("one", "many")
    )
    named = {f"i{number}": both for number, both in enumerate(zip(kinds, colours, strict=True))}
    assert dict(one) == {item: f"{kind}. {colour}." for item, (kind, colour) in named.items()}
    assert all(kind in many[item] and colour in many[item] for item, (kind, colour) in named.items())


def test_users_whose_target_shares_a_value_with_the_history(script: Any) -> None:
    shared_values = script("shared_values")
    dataset = random_logs(repeats=True)
    apart = shared_values.sharing(dataset, "title", 2)
    assert set(apart.values()) == {True, False}
    cases = dataset.cases("test")
    titles = ["", *dataset.catalogue.frame["title"]]
    for user, history, targets in zip(cases.users, cases.histories.to_lists(), cases.targets.to_lists(), strict=True):
        expected = any(titles[a] == titles[b] for a in history[-2:] for b in targets)
        assert apart[str(dataset.user_ids[int(user)])] == expected
    rows = [("a", "all", "u", 0.5), ("a", "all", "v", 0.25), ("a", "cold items", "v", 1.0)]
    table = pl.DataFrame(rows, schema=["model", "slice", "user_id", "auc"], orient="row")
    found = shared_values.means(table, {"u": True, "v": False}, "auc")
    assert found.rows() == [("a", True, 1, 0.5), ("a", False, 1, 0.25)]
