"""``from palate import ...``: what is promised is there, typed, and costs nothing until it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import palate


@pytest.mark.parametrize("name", palate.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(palate, name) is not None
    assert name in dir(palate)


def test_the_stub_says_the_same() -> None:
    stub = Path(palate.__file__).with_suffix(".pyi").read_text()
    told = {name: module for module, name in re.findall(r"^from (\S+) import (\w+) as \2$", stub, re.M)}
    assert told == palate._CALLS  # type: ignore[attr-defined]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = palate.trian  # type: ignore[attr-defined]


def test_importing_palate_is_light() -> None:
    script = "import sys, palate; print(sorted({'torch', 'polars', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
