"""Tiny models, made once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_llms import tiny_model


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
