"""What tests of engines share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from palate.engines.base import Engine
from palate.engines.ray_cluster import connect


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Two workers of a Ray that runs for these tests."""
    from palate.engines.ray_engine import RayEngine

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import helpers
        end = connect(None, cpus=2)
        with RayEngine(workers=2) as made:
            yield made
        end()
