"""Figures for a page: what ``--publish`` writes, and what it refuses to replace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import Shell

from palate.errors import PalateError
from palate.evaluation.published import check_publish, laid_out
from palate.evaluation.saved import load_table


def test_an_evaluation_is_published(palate: Shell, popular: Path, neural: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "results/shop.json", tmp_path / "table"
    done = palate("evaluate", popular, neural, "--out", out, "--publish", file)
    assert done.code == 0, done.err
    text = file.read_text(encoding="utf-8")
    facts, whole, table = json.loads(text), load_table(out), load_table(file)
    assert text == laid_out(facts) + "\n"
    assert facts["command"] == f"palate evaluate {popular} {neural} --out {out}"
    assert "runs" not in facts
    assert "transcribed" not in facts
    assert table.title == whole.title == facts["title"]
    assert table.dataset == whole.dataset
    assert set(table.slices) == set(whole.slices)
    for mine, theirs in zip(table.models, whole.models, strict=True):
        assert list(mine.metrics) == sorted(whole.shown_metrics())
        for name, figure in mine.metrics.items():
            assert figure.mean == pytest.approx(theirs.metrics[name].mean, abs=1e-6)
            assert figure.total == theirs.metrics[name].total
        assert set(mine.differences) == set(theirs.differences) & set(mine.metrics)
        for name, one in mine.differences.items():
            assert one.p_holm == pytest.approx(theirs.differences[name].p_holm, abs=1e-6)
    assert facts["dataset"]["items"] == 13
    with pytest.raises(PalateError, match="would replace the table of"):
        check_publish(out / "table.json")
    # Published again, it takes the place of the earlier one.
    assert palate("evaluate", popular, "--publish", file).code == 0
    assert load_table(file).labels == whole.labels[:1]


def test_nothing_else_is_replaced(tmp_path: Path) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text('{"mine": 1}')
    with pytest.raises(PalateError, match="would replace a file that holds no table"):
        check_publish(notes)
    with pytest.raises(PalateError, match="not the name of a JSON file"):
        check_publish(tmp_path / "README.md")
    check_publish(tmp_path / "new.json")


def test_it_is_refused_before_anything_is_measured(palate: Shell, popular: Path, tmp_path: Path) -> None:
    done = palate("evaluate", popular, "--publish", tmp_path / "table.md", "--out", tmp_path / "out")
    assert done.code == 2
    assert "--publish" in done.err
    assert not (tmp_path / "out").exists()
