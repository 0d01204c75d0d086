"""`palate doctor`: text, JSON, exit codes, and real data whose facts are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from palate.cli.doctor import doctor
from palate.data.dataset import Dataset
from palate.data.doctor import Level, examine
from palate.data.prepare import prepare
from palate.demo.shop import build_demo

app = typer.Typer()
app.command()(doctor)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor") / "demo"
    build_demo(folder, items=40, users=60)
    return folder


def test_text_and_exit_codes(folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [str(folder)], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    assert "demo: 60 users, 40 items" in result.output
    assert "time-leakage" in result.output

    data = Dataset.load(folder)
    assert data.timestamps is not None
    replace(data, timestamps=data.timestamps[::-1].copy()).save(tmp_path / "broken")
    result = CliRunner().invoke(app, [str(tmp_path / "broken"), "--no-pictures"])
    assert result.exit_code == 1

    replace(data, timestamps=np.full(len(data), data.timestamps[0])).save(tmp_path / "tied")
    assert CliRunner().invoke(app, [str(tmp_path / "tied")]).exit_code == 0
    assert CliRunner().invoke(app, [str(tmp_path / "tied"), "--strict"]).exit_code == 1


def test_json_is_the_report(folder: Path) -> None:
    result = CliRunner().invoke(app, [str(folder), "--json"])
    report = json.loads(result.stdout)
    assert report == examine(Dataset.load(folder)).to_dict()
    assert report["counts"]["users"] == 60
    assert {"check", "level", "message", "count", "share", "examples"} == set(report["findings"][0])
    assert sum(report["levels"].values()) == len(report["findings"])


@pytest.mark.real
def test_movielens_100k(real_data: Callable[[str], Path]) -> None:
    report = examine(prepare(real_data("ml-100k"), "movielens"))
    assert report["time-ties"].share == pytest.approx(0.51, abs=0.005)
    assert report["time-ties"].level is Level.WARNING
    assert report["missing-picture"].count == 1682 - 1568
    assert "0.5% of interactions" in report["missing-picture"].message
    assert "0.8 hours" in report["times"].message
    assert report["unreadable-pictures"].level is Level.OK
    assert report.passed()
    assert not report.passed(strict=True)


@pytest.mark.real
def test_amazon_beauty(real_data: Callable[[str], Path]) -> None:
    data = prepare(real_data("amazon-2014-beauty"), "sequences")
    report = examine(data)
    assert report.counts == {"users": 22_363, "items": 12_101, "interactions": 198_502}
    assert report["cold-targets"].count == 6_197
    assert "138 of them none" in report["cold-targets"].message
    assert report["times"].level is Level.NOTE
    assert report["repeated-targets"].level is Level.OK
    assert np.isin(["time-ties", "time-leakage"], [finding.check for finding in report.findings]).sum() == 0
