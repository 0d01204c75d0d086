"""How the command-line tests call Palate: in a process of its own where that matters, else in this one."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from palate.cli.app import main


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Shell:
    """Runs ``palate WORDS...`` in this process, as the installed command would."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys, self.monkeypatch = capsys, monkeypatch

    def __call__(self, *words: object) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["palate", *map(str, words)])
        self.monkeypatch.setenv("COLUMNS", "200")
        self.capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        out, err = self.capsys.readouterr()
        return Outcome(code, out, err)
