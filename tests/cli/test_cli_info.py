"""``palate info``: every kind of artefact says what it is; what is none is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Shell
from PIL import Image

from palate.artefact import describe
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.storage.files import file_digest


def test_dataset(shop: Path) -> None:
    facts = describe(shop)
    data = Dataset.load(shop)
    assert facts["kind"] == "dataset"
    assert (facts["users"], facts["items"], facts["interactions"]) == (40, 13, len(data))
    assert facts["fingerprint"] == data.fingerprint
    assert facts["cold_items"] == 1
    assert facts["split"]["name"] == "leave-last-out"
    assert (facts["valid_cases"], facts["test_cases"]) == (40, 40)
    assert facts["interactions_per_user"]["least"] == int(np.diff(data.offsets).min())
    assert facts["with_title"] == 1.0
    assert facts["with_image"] == 0.0


def test_run(neural: Path) -> None:
    facts = describe(neural)
    assert (facts["kind"], facts["model"], facts["seed"], facts["finished"]) == ("run", "sasrec", 0, True)
    assert facts["last_epoch"]["epoch"] == 1
    assert facts["options"]["settings"]["ranker"]["dim"] == 8


def test_evaluation(palate: Shell, popular: Path, neural: Path, tmp_path: Path) -> None:
    assert palate("evaluate", popular, neural, "--out", tmp_path / "evaluation").code == 0
    assert describe(tmp_path / "evaluation")["kind"] == "evaluation"


def test_files(neural: Path, shop: Path, tmp_path: Path) -> None:
    table = describe(shop / "interactions.parquet")
    assert (table["kind"], table["rows"]) == ("Parquet table", len(Dataset.load(shop)))
    assert table["columns"]["item"] == "int32"
    assert table["digest"] == file_digest(shop / "interactions.parquet")
    tensors = describe(next((neural / "model").glob("*.safetensors")))["tensors"]
    assert any("[14, 8]" in shape for shape in tensors.values())
    assert describe(neural / "metrics.jsonl")["rows"] == 1
    assert "model" in describe(neural / "run.json")["keys"]
    assert describe(neural / "learning-curve.png")["kind"] == "picture"
    Image.new("RGB", (7, 5)).save(tmp_path / "p.png")
    assert describe(tmp_path / "p.png")["size"] == [7, 5]
    np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
    assert describe(tmp_path / "a.npy")["shape"] == [2, 3]
    (tmp_path / "r.toml").write_text("[train]\nmodel = 'x'\n")
    assert describe(tmp_path / "r.toml")["tables"] == {"train": {"model": "x"}}
    (tmp_path / "notes.txt").write_text("hello")
    assert describe(tmp_path / "notes.txt")["bytes"] == 5


def test_a_folder_of_artefacts(popular: Path) -> None:
    assert describe(popular.parent)["holds"] == {"popular": "run"}


@pytest.mark.parametrize("name", ["bad.parquet", "bad.safetensors", "bad.npy", "bad.json", "bad.jsonl", "bad.png"])
def test_damaged_files_are_one_sentence(palate: Shell, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x93not what the name says\x00\xff" * 9)
    told = palate("info", tmp_path / name)
    assert told.code == 2
    assert name in told.err
    assert told.err.count("\n") == 1


def test_a_pickled_array_is_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PalateError, match=r"evil\.npy cannot be read"):
        describe(tmp_path / "evil.npy")


def test_what_is_no_artefact(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="does not exist"):
        describe(tmp_path / "nothing")
    with pytest.raises(PalateError, match="is no artefact of Palate"):
        describe(tmp_path)


def test_the_table_is_for_people(palate: Shell, shop: Path) -> None:
    told = palate("info", shop)
    assert f"{shop}: dataset" in told.out
    assert "leave-last-out" in told.out
    assert json.loads(palate("info", shop, "--json").out)["users"] == 40


def test_times_are_dates_for_people_and_numbers_for_programs(palate: Shell, tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + day) % 4},2024-01-0{day + 1}T12:00:00" for user in range(5) for day in range(4)]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,timestamp", *rows]))
    palate("prepare", tmp_path / "log.csv", "--reader", "table", "--out", tmp_path / "data", "--k-core", 0)
    palate("train", tmp_path / "data", "--model", "popularity", "--out", tmp_path / "run")
    until = json.loads(palate("info", tmp_path / "run", "--json").out)["trained_on"][0]["until"]
    assert until == datetime(2024, 1, 3, 12, tzinfo=UTC).timestamp() * 1000  # the fourth day is held out
    said = "".join(palate("info", tmp_path / "run").out.split())  # a long line is folded
    assert "until2024-01-03T12:00:00+00:00" in said
    assert f"{until:,}" not in said
