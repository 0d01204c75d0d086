"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# Fixture files hold no doctests, and several of one name cannot be collected as modules.
collect_ignore_glob = ["*conftest.py"]
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two torch threads on a busy two-core machine are far slower than one, and bit-equality needs a fixed count."""
    torch.set_num_threads(1)


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
