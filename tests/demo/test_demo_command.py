"""`palate demo` end to end on a small shop: every artefact, repeatable, resumable, and careful with folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palate.data.dataset import Dataset
from palate.demo import stages as demo_way
from palate.demo.llm import MADE as LANGUAGE_MADE
from palate.demo.models import ARMS, FULL, IDS, NEAR
from palate.demo.sheets import item_sheet, tile
from palate.demo.shop import build_demo
from palate.demo.stages import MADE, PICTURES, DemoOptions, run_demo
from palate.errors import PalateError

SMALL = DemoOptions(seed=1, items=40, users=80, epochs=2, language=None)  # tests/mllm has the language model's part


@pytest.fixture
def no_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_way, "_without_encoders", lambda: "Texts and pictures were left out: run it again.")


def test_without_encoders_it_says_so_and_goes_on(
    tmp_path: Path, no_encoders: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    run_demo(out, SMALL)
    told = capsys.readouterr().out
    assert told.count("were left out") == 2  # where it happens, and at the end
    assert FULL not in json.loads((out / "demo.json").read_text())["test"]
    assert {path.name for path in out.iterdir()} == set(MADE) - set(LANGUAGE_MADE)
    for name in PICTURES:
        with Image.open(out / name) as image:
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 10

    # Again: nothing is trained or drawn anew, and the figures are the same.
    before = (out / "runs" / "sasrec-ids" / "metrics.jsonl").stat().st_mtime_ns
    first = json.loads((out / "demo.json").read_text())["test"]
    run_demo(out, SMALL)
    assert (out / "runs" / "sasrec-ids" / "metrics.jsonl").stat().st_mtime_ns == before
    assert json.loads((out / "demo.json").read_text())["test"] == first

    # Another seed is another demo: refused, then made on request; what is not the demo's own stays.
    (out / "mine.txt").write_text("keep me")
    (out / "mllm" / "small").mkdir(parents=True)  # as if the language model had taken part
    (out / "preferences.md").write_text("old")
    other = DemoOptions(seed=2, items=40, users=80, epochs=2, language=None)
    with pytest.raises(PalateError, match="another seed or size"):
        run_demo(out, other)
    run_demo(out, other, overwrite=True)
    assert (out / "mine.txt").read_text() == "keep me"
    assert not (out / "mllm").exists()
    assert not (out / "preferences.md").exists()
    assert json.loads((out / "demo.json").read_text())["options"]["seed"] == 2


def test_with_the_embedded_encoders(tmp_path: Path) -> None:
    if demo_way._without_encoders():
        pytest.skip(demo_way._without_encoders())
    run_demo(tmp_path / "demo", SMALL)
    test = json.loads((tmp_path / "demo" / "demo.json").read_text())["test"]
    assert list(test) == [*(arm.label for arm in ARMS), "oracle"]
    assert all(0 <= metrics["ndcg@10"] <= 1 for metrics in test.values())
    assert test[FULL] != test[IDS]
    table = (tmp_path / "demo" / "evaluation" / "table.md").read_text()
    assert FULL in table
    assert "oracle" in table
    gains = json.loads((tmp_path / "demo" / "demo.json").read_text())["gains"]
    assert [(gain["label"], gain["base"]) for gain in gains] == [(NEAR, IDS), (NEAR, "item-knn")]
    for gain in gains:
        assert gain["low"] <= gain["mean"] <= gain["high"]
        assert gain["mean"] == pytest.approx(test[NEAR]["ndcg@10"] - test[gain["base"]]["ndcg@10"])
    # The report compares models; the oracle is in its tables and never in its headline.
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "The oracle is no model" in page
    assert "oracle</strong> has the highest" not in page


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path, no_encoders: None) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "precious.txt").write_text("keep me")
    for overwrite in (False, True):
        with pytest.raises(PalateError, match="is no demo"):
            run_demo(tmp_path, SMALL, overwrite=overwrite)
    assert (tmp_path / "dataset" / "precious.txt").exists()


def test_sheets_show_a_note_where_a_picture_is_missing_or_broken(tmp_path: Path) -> None:
    data = build_demo(tmp_path / "demo", items=30, users=20)
    item = int(data.catalogue.frame["image"].is_not_null().arg_max() or 0) + 1
    path = data.catalogue.image_path(item)
    assert path is not None
    whole = np.asarray(tile(data.catalogue, item, 64))
    path.write_bytes(b"no picture at all")
    broken = np.asarray(tile(Dataset.load(tmp_path / "demo").catalogue, item, 64))
    assert broken.shape == whole.shape
    assert (broken != whole).any()
    assert broken.mean() > 200  # mostly paper
    item_sheet(data.catalogue, tmp_path / "sheet.png", count=12, columns=6)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (6 * 138 + 10, 2 * 174 + 10)
