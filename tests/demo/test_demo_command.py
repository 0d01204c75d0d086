"""`palate demo` end to end on a small shop: every artefact, repeatable, resumable, and careful with folders."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from palate.cli.commands import build
from palate.cli.demo import run_command
from palate.data.dataset import Dataset
from palate.demo import llm, stages
from palate.demo.extras import missing_encoders
from palate.demo.llm import MADE as LANGUAGE_MADE
from palate.demo.models import CONTINUED, DPO, FULL, IDS, MODELS, NEAR, RODPO
from palate.demo.runner import DemoCommand
from palate.demo.sheets import item_sheet, tile
from palate.demo.shop import build_demo
from palate.demo.stages import MADE, PICTURES, DemoOptions, run_demo, stages_of
from palate.errors import PalateError
from palate.evaluation.saved import load_table

SMALL = DemoOptions(seed=1, items=40, users=80, epochs=2, language=None)  # test_demo_mllm has the language model's part


@pytest.fixture
def no_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "missing_encoders", lambda: "Texts and pictures were left out: run it again.")


def test_without_encoders_it_says_so_and_goes_on(
    tmp_path: Path, no_encoders: None, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    run_demo(out, SMALL, run_command)
    printed = capsys.readouterr().out
    assert printed.count("were left out") == 2  # where it happens, and at the end
    assert FULL not in json.loads((out / "demo.json").read_text())["test"]
    assert {path.name for path in out.iterdir()} == set(MADE) - set(LANGUAGE_MADE)
    for name in PICTURES:
        with Image.open(out / name) as image:
            assert min(image.size) > 200
            assert np.asarray(image.convert("L")).std() > 10

    # What was printed is what was run, and what can be run again from the file.
    lines = [line for line in (out / "commands.sh").read_text().splitlines() if not line.startswith("#") and line]
    assert lines == [line.removeprefix("$ ") for line in printed.splitlines() if line.startswith("$ ")]
    assert f"palate doctor {out}/dataset" in lines

    # Again: nothing is trained or evaluated anew, and table and figures are the same. Only where the command line of a
    # folder has changed since, it is made anew.
    unchanged = [out / name for name in ("runs/sasrec-ids/metrics.jsonl", "evaluation/table.md", "bundles/item-knn")]
    before = [path.stat().st_mtime_ns for path in unchanged]
    first = json.loads((out / "demo.json").read_text())
    changed = {**first["made"], "bundles/popularity": "palate bundle of something else"}
    assert first["made"]["evaluation"].count("palate train") == 3  # another model would make it anew
    (out / "demo.json").write_text(json.dumps({**first, "made": changed}))
    (out / "bundles" / "popularity" / "old").touch()
    run_demo(out, SMALL, run_command)
    assert [path.stat().st_mtime_ns for path in unchanged] == before
    assert not (out / "bundles" / "popularity" / "old").exists()
    second = json.loads((out / "demo.json").read_text())
    assert [second[name] for name in ("made", "test", "gains")] == [first[name] for name in ("made", "test", "gains")]
    assert "| oracle | 1 | " in capsys.readouterr().out

    # Another seed is another demo: refused, then made on request; what is not the demo's own stays.
    (out / "mine.txt").write_text("keep me")
    (out / "mllm" / "small").mkdir(parents=True)  # as if the language model had taken part
    (out / "preferences.md").write_text("old")
    other = DemoOptions(seed=2, items=40, users=80, epochs=2, language=None)
    with pytest.raises(PalateError, match="another seed or size"):
        run_demo(out, other, run_command)
    run_demo(out, other, run_command, overwrite=True)
    assert (out / "mine.txt").read_text() == "keep me"
    assert not (out / "mllm").exists()
    assert not (out / "preferences.md").exists()
    assert json.loads((out / "demo.json").read_text())["options"]["seed"] == 2


def test_with_the_embedded_encoders(tmp_path: Path) -> None:
    if missing_encoders():
        pytest.skip(missing_encoders())
    run_demo(tmp_path / "demo", SMALL, run_command)
    test = json.loads((tmp_path / "demo" / "demo.json").read_text())["test"]
    assert list(test) == [*(model.label for model in MODELS), "oracle"]
    assert all(0 <= metrics["ndcg@10"] <= 1 for metrics in test.values())
    assert test[FULL] != test[IDS]
    table = (tmp_path / "demo" / "evaluation" / "table.md").read_text()
    assert FULL in table
    assert "oracle" in table
    assert load_table(tmp_path / "demo" / "evaluation").bounds == ["oracle"]
    gains = json.loads((tmp_path / "demo" / "demo.json").read_text())["gains"]
    assert [(gain["label"], gain["base"]) for gain in gains] == [
        (NEAR, IDS),
        (NEAR, "item-knn"),
        (RODPO, CONTINUED),
        (DPO, CONTINUED),
    ]
    for gain in gains:
        assert gain["low"] <= gain["mean"] <= gain["high"]
        assert gain["mean"] == pytest.approx(test[gain["label"]]["ndcg@10"] - test[gain["base"]]["ndcg@10"])
    # The report compares models; the oracle is in its tables and never in its headline.
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "The oracle is no model" in page
    assert "oracle</strong> has the highest" not in page


def test_a_folder_that_is_no_demo_is_left_alone(tmp_path: Path, no_encoders: None) -> None:
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "precious.txt").write_text("keep me")
    for overwrite in (False, True):
        with pytest.raises(PalateError, match="is no demo"):
            run_demo(tmp_path, SMALL, run_command, overwrite=overwrite)
    assert (tmp_path / "dataset" / "precious.txt").exists()


def test_every_line_is_a_command_with_options_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "missing_encoders", lambda: "")
    monkeypatch.setattr(llm, "missing_language_model", lambda base: "")
    steps = [step for stage in stages_of(DemoOptions()) for step in stage.steps if isinstance(step, DemoCommand)]
    assert len(steps) == 27
    for step in steps:
        palate, *words = shlex.split(step.line.replace("$DEMO", "runs/demo"))
        assert palate == "palate"
        context = typer.main.get_command(build()).make_context("palate", words)
        while hasattr(context.command, "resolve_command"):
            words = [*context._protected_args, *context.args]
            name, command, words = context.command.resolve_command(context, words)
            context = command.make_context(name, words, parent=context)


def test_errors_of_a_command_end_the_demo_and_its_findings_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PalateError, match="nowhere"):
        run_command(["doctor", str(tmp_path / "nowhere")])
    build_demo(tmp_path / "demo", items=30, users=20)
    run_command(["doctor", str(tmp_path / "demo"), "--strict"])  # exit code 1: there are warnings
    assert "warning" in capsys.readouterr().out


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
