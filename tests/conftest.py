"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import worlds
from tiny_llms import tiny_model

from palate.data.dataset import Dataset
from palate.progress.lines import LINES

# Fixture files hold no doctests, and several of one name cannot be collected as modules.
collect_ignore_glob = ["*conftest.py"]
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two torch threads on a busy two-core machine are far slower than one, and bit-equality needs a fixed count."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_lines_of_progress() -> None:
    """On a busy machine lines about progress would come into what tests read; how they come has tests of its own."""
    LINES.first = float("inf")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Path of a real public data set by folder name; skips with a reason where it is not at hand."""
    root = Path(os.environ.get("PALATE_DATA", REPOSITORY.parent / "shared" / "data"))

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            pytest.skip(f"no real data at {folder} (set PALATE_DATA to a folder that has it)")
        return folder

    return find


@pytest.fixture
def palate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs ``palate WORDS...`` in this process, as if nobody had set up a server: exit code, output and errors."""
    from palate.cli.app import main

    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palate", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny random model: llama (text only), llava, qwen2.5-vl, qwen3-vl, smolvlm, idefics3."""
    pytest.importorskip("transformers")
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = tiny_model(tmp_path_factory.mktemp("tiny") / family, family)
        return made[family]

    return of


@pytest.fixture(scope="session")
def ring() -> Callable[..., Dataset]:
    """Builds :func:`worlds.ring`."""
    return worlds.ring
