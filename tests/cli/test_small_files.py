"""Files that are too deep, too large, or no files: each is "not valid" in one sentence, before anything is done."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Outcome, Shell

from palate.cli.shared.options import split_ids
from palate.errors import PalateError
from palate.storage.files import read_json
from palate.storage.small_files import json_rows, parse_json, read_object, read_small
from palate.storage.tensors import load_array
from palate.storage.toml import read_toml

DEEP = "[" * 5000 + "]" * 5000
DIGITS = "9" * 5000


def refused(told: Outcome, words: str) -> None:
    assert told.code == 2
    assert words in told.err
    assert "Traceback" not in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert len(told.err) < 600


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DEEP, "nested more than 100 levels deep"),
        ("[" * 101 + "]" * 101, "nested more than 100 levels deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested more than 100 levels deep"),
        (DIGITS, "too many digits"),
        ("{", "not valid JSON"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(PalateError, match=words):
        read_json(path)
    path.write_text("[" * 100 + "]" * 100)
    assert read_json(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"a = {DEEP}", "nested more than 100 levels deep"),
        (".".join("a" * 300) + " = 1", "nested more than 100 levels deep"),
        (f"a = {DIGITS}", "too many digits"),
        ("a = ", "not valid TOML"),
    ],
)
def test_toml_that_is_none(palate: Shell, shop: Path, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"[train]\n{text}\n")
    with pytest.raises(PalateError, match=words):
        read_toml(path)
    refused(palate("train", shop, "--config", path, "--out", tmp_path / "run"), "recipe.toml is not valid TOML")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names there")
@pytest.mark.timeout(60)
def test_what_is_no_file_is_not_waited_for(palate: Shell, shop: Path, popular: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero"), tmp_path):
        refused(palate("train", shop, "--config", path, "--out", tmp_path / "run"), f"{path} is not a file")
    for suffix in ("json", "jsonl", "toml", "npy", "safetensors", "png"):
        os.mkfifo(tmp_path / f"x.{suffix}")
        refused(palate("info", tmp_path / f"x.{suffix}"), "is not a file")
    refused(palate("serve", popular, "--api-key-file", "/dev/zero"), "is not a file")


def test_files_have_a_size_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    with path.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(PalateError, match="17,825,792 bytes, and at most 16,777,216 are read"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PalateError, match="is no UTF-8 text"):
        read_small(path)
    with pytest.raises(PalateError, match="cannot be read"):
        read_small("a\0b")


def test_an_object_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("[1]")
    with pytest.raises(PalateError, match="holds no JSON object"):
        read_object(path)
    path.write_text('\ufeff{"a": 1}')  # as some editors of Windows write it
    assert read_object(path) == {"a": 1}


def test_lines_are_named_by_number(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for line, words in (("[1]", "line 3 is not valid"), (DEEP, "line 3 is not valid JSON"), ("{", "line 3")):
        path.write_text(f'{{"a": 1}}\n\n{line}\n')
        with pytest.raises(PalateError, match=words):
            list(json_rows(path))
    path.write_text('{"a": 1}\n\n{"a": 2}')
    assert list(json_rows(path)) == [{"a": 1}, {"a": 2}]
    assert parse_json("[1]", "x", "y") == [1]


@pytest.mark.parametrize("line", ["{", "[1]", DEEP, f'{{"epoch": {DIGITS}}}'])
@pytest.mark.parametrize("words", [["info"], ["report"]])
def test_a_broken_training_log(palate: Shell, neural: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    run = Path(shutil.copytree(neural, tmp_path / "run"))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(f"{line}\n")
    more = ["--out", tmp_path / "report"] if words == ["report"] else []
    refused(palate(*words, run, *more), "metrics.jsonl, line 2 is not valid")


@pytest.mark.parametrize(
    "name", ["run.json", "manifest.json", "store.json", "neighbours.json", "bundle.json", "study.json", "table.json"]
)
@pytest.mark.parametrize("value", [[1, 2], {}, 3, {"format": 1, "encoder": [], "files": {"a": 1}}])
def test_info_of_something_else(palate: Shell, tmp_path: Path, name: str, value: object) -> None:
    (tmp_path / name).write_text(json.dumps(value))
    told = palate("info", tmp_path)
    if told.code:
        refused(told, str(tmp_path))


def test_info_of_other_values(palate: Shell, tmp_path: Path) -> None:
    for text, words in (("3", '"value": 3'), ("[1, 2]", '"length": 2'), ('{"a": 1}', '"keys"')):
        (tmp_path / "x.json").write_text(text)
        told = palate("info", tmp_path / "x.json", "--json")
        assert (told.code, words in told.out) == (0, True), told


def test_an_npy_that_is_an_archive(palate: Shell, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.npz").rename(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="is an archive of arrays"):
        load_array(tmp_path / "x.npy")
    refused(palate("info", tmp_path / "x.npy"), "x.npy cannot be read")


@pytest.mark.parametrize("history", ["a\nb", "i1,\r\ni2", "x" * 200_000])
def test_a_history_that_is_no_list(palate: Shell, popular: Path, history: str) -> None:
    refused(palate("recommend", popular, "--history", history), "is not a valid list of item ids")
    with pytest.raises(PalateError):
        split_ids(history)


@pytest.mark.parametrize("value", [DEEP, DIGITS, "[" * 200 + "]" * 200])
def test_a_setting_that_is_none(palate: Shell, shop: Path, tmp_path: Path, value: str) -> None:
    told = palate("train", shop, "--model", "sasrec", "--out", tmp_path / "run", "--set", f"ranker.dim={value}")
    refused(told, "is not valid TOML")
