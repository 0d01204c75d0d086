"""benchmarks/nightly.py on a log of a few users: every model of a night is judged, and a second call goes on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_two_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    nightly = importlib.import_module("nightly")
    log = tmp_path / "log.csv"
    rows = [
        f"u{user},i{(user + 3 * day + step) % 20},{1_600_000_000 + 86_400 * day + 10 * user + step}"
        for day in range(4)
        for user in range(20 - day)
        for step in range(3)
    ]
    log.write_text("\n".join(["user,item,timestamp", *rows]))
    words = [str(log), "--days", "1", "--first", "2", "--nights", "1", "--held-out", "4", "--epochs", "1"]
    words += ["--warm", "1", "--given", "2", "--dim", "4", "--layers", "1", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["nightly.py", *words])
    nightly.main()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[2:]] == ["anew", "stale", "warm 1", "active 1"]
    rows_before = (tmp_path / "out" / "nights.jsonl").read_text()
    nightly.main()
    assert (tmp_path / "out" / "nights.jsonl").read_text() == rows_before
