"""``--json``: one object on standard output whatever the command, and mistakes as one object on standard error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_helpers import Outcome, Shell

from palate.cli.shared.output import print_json


def objects(text: str) -> list[Any]:
    """The JSON values that a text is made of, and nothing else."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(text.rstrip()):
        one, place = decoder.raw_decode(text, place)
        found.append(one)
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


def made(outcome: Outcome, out: Path) -> dict[str, Any]:
    """The object of a command that made something, after what all such commands have in common."""
    assert outcome.code == 0, outcome.err
    (facts,) = objects(outcome.out)
    assert list(facts)[:2] == ["out", "seconds"]
    assert facts["out"] == str(out)
    assert facts["seconds"] >= 0
    assert out.exists()
    return dict(facts)


@pytest.fixture
def data(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop, tmp_path / "data"))


def test_data(palate: Shell, data: Path, tmp_path: Path) -> None:
    log = pl.DataFrame({"user": list("aaabbbccc"), "item": list("xyzxyzxyz"), "timestamp": list(range(9))})
    log.write_csv(tmp_path / "log.csv")
    words = ("--reader", "table", "--columns", "user=user,item=item,timestamp=timestamp", "--k-core", "1")
    told = palate("prepare", tmp_path / "log.csv", *words, "--out", tmp_path / "new", "--json")
    assert made(told, tmp_path / "new")["counts"]["users"] == 3
    told = palate("encode", data, "--lexical", "--fields", "title", "--json")
    assert made(told, data / "features")["stores"][0]["encoder"] == "tf-idf-word"
    (facts,) = objects(palate("doctor", data, "--no-pictures", "--json").out)
    assert facts["counts"]["users"] == 40


def test_training(palate: Shell, data: Path, neural: Path, tmp_path: Path) -> None:
    first = made(palate("train", data, "--model", "popularity", "--out", tmp_path / "a", "--json"), tmp_path / "a")
    assert (first["model"], first["finished"]) == ("popularity", True)
    again = palate("align", neural, "--dataset", data, "--epochs", 1, "--pool-k", 5, "--out", tmp_path / "b", "--json")
    aligned = made(again, tmp_path / "b")
    assert aligned["best"].keys() >= {"epoch", "NDCG@10"}
    assert "epoch 1/1" in again.err
    near = ("--neighbours", "co-occurrence", "--dataset", data, "--out", tmp_path / "c", "--json")
    assert "neighbours" in made(palate("attach", neural, *near), tmp_path / "c")
    blended = palate("blend", tmp_path / "a", neural, "--dataset", data, "--out", tmp_path / "d", "--json")
    assert len(made(blended, tmp_path / "d")["blend"]["parts"]) == 2


def test_measuring_and_serving(palate: Shell, data: Path, popular: Path, neural: Path, tmp_path: Path) -> None:
    table = made(palate("evaluate", popular, neural, "--out", tmp_path / "t", "--json"), tmp_path / "t")
    saved = json.loads((tmp_path / "t/table.json").read_text())
    assert table["models"] == saved["models"]
    (shown,) = objects(palate("evaluate", popular, "--json").out)
    assert "out" not in shown
    assert made(palate("bundle", popular, "--out", tmp_path / "b", "--json"), tmp_path / "b")["items"] == 13
    recs = palate("recommend", popular, "--all", "--out", tmp_path / "r.csv", "--json")
    assert made(recs, tmp_path / "r.csv")["users"] == 40
    page = palate("report", "--table", tmp_path / "t", "--gallery", 1, "--out", tmp_path / "p", "--json")
    assert made(page, tmp_path / "p")["report"] == str(tmp_path / "p/report.html")
    assert len(objects(palate("info", neural, "--json").out)) == 1
    assert objects(palate("models", "--requirements", "--json").out)[0]["requirements"]


@pytest.mark.parametrize(
    ("words", "message", "remedy"),
    [
        (["info", "nowhere"], "nowhere does not exist", "Check the path."),
        (["info", "--jsn"], "No such option: --jsn", None),
        (["evaluate", "nowhere", "--negatives", "none"], "Invalid value for '--negatives'", None),
    ],
)
def test_mistakes_are_an_object_too(palate: Shell, words: list[str], message: str, remedy: str | None) -> None:
    told = palate(*words, "--json")
    assert (told.code, told.out) == (2, "")
    (error,) = objects(told.err)
    assert error["error"]["code"] == 2
    assert error["error"]["message"].startswith(message)
    assert error["error"]["remedy"] == remedy


def test_what_a_command_finds_ends_with_its_own_code(palate: Shell, data: Path) -> None:
    told = palate("doctor", data, "--strict", "--no-pictures", "--json")
    assert told.code == 1
    assert len(objects(told.out)) == 1


def test_an_interruption_is_an_object_too(palate: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("palate.artefact.describe", interrupted)
    told = palate("info", tmp_path, "--json")
    assert (told.code, objects(told.err)[0]["error"]["code"]) == (130, 130)


def test_quiet_leaves_results_and_warnings(
    palate: Shell, data: Path, neural: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = ("align", neural, "--dataset", data, "--epochs", 1, "--pool-k", 5, "--out")
    assert "epoch 1/1" in palate(*words, tmp_path / "a").err
    quiet = palate(*words, tmp_path / "b", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out.startswith("Best validation")
    assert "epoch 1/1" in palate(*words, tmp_path / "c").err  # of the command before nothing is left
    monkeypatch.setenv("PALATE_QUIET", "1")
    assert palate(*words, tmp_path / "d").err == ""
    told = palate("recommend", neural, "--history", "i1,thing 7", "-q")
    assert told.err.startswith("Warning: no item 'thing 7'")
    assert "i2" in told.out


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [1.5, (float("inf"),)], "c": {"d": Path("x")}})
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "a": None,
        "b": [1.5, [None]],
        "c": {"d": "x"},
    }
