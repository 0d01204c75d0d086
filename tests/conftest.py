"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tiny_llms import tiny_model

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.sequences import offsets_of

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
    """Build it: each user starts somewhere and mostly takes the next item of the ring."""

    def build(users: int = 80, items: int = 30, longest: int = 14, seed: int = 0, first_item: int = 0) -> Dataset:
        random = np.random.default_rng(seed)
        lengths = random.integers(4, longest + 1, users)
        starts = random.integers(0, items, users)
        rows = [
            (start + np.cumsum(random.choice([1, 2], size, p=[0.9, 0.1]))) % items + 1
            for start, size in zip(starts, lengths, strict=True)
        ]
        parts = [[Part.TRAIN] * (size - 2) + [Part.VALID, Part.TEST] for size in lengths]
        names = [f"item-{first_item + i}" for i in range(items)]
        frame = pl.DataFrame({"item_id": names, "title": names, "image": pl.Series([None] * items, dtype=pl.String)})
        return Dataset(
            catalogue=Catalogue(frame),
            user_ids=pl.Series("user_id", [f"user-{u}" for u in range(users)]),
            offsets=offsets_of(lengths.astype(np.int64)),
            items=np.concatenate(rows).astype(np.int32),
            parts=np.concatenate(parts).astype(np.uint8),
            timestamps=None,
            weights=None,
            manifest={"name": "ring", "split": {"name": "leave-last-out"}},
        )

    return build
