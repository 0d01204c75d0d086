"""The folder of a run is made once, held while it is trained, and opened again to resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs.start import run_to_train
from palate.runs.workers import Workers

IDENTITY: dict[str, Any] = {"model": "sasrec", "seed": 1, "options": {"dim": 8}, "features": {}}


def test_a_run_is_made_held_and_taken_up_again(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    data, out = ring(), tmp_path / "run"
    with run_to_train(out, IDENTITY, data, resume=False, facts={"parts": [1]}) as run:
        assert (run.folder, run.info["parts"], run.finished) == (out, [1], False)
        with (
            pytest.raises(PalateError, match="another process is at work in"),
            run_to_train(out, IDENTITY, data, resume=True),
        ):
            pass
        assert repr(run) == f"Run({out}: sasrec, seed 1, unfinished)"
        run.add(finished=True, best={"epoch": 3, "NDCG@10": 0.05})
    with run_to_train(out, IDENTITY, data, resume=True, facts={"parts": [1]}) as run:
        assert run.finished
        assert repr(run) == f"Run({out}: sasrec, seed 1, NDCG@10 0.0500)"
    for wrong, error in (
        ({"resume": False}, "holds a run already"),
        ({"resume": True, "facts": {"parts": [2]}}, "was started with other parts"),
    ):
        with pytest.raises(PalateError, match=error), run_to_train(out, IDENTITY, data, **wrong):
            pass


def test_only_the_main_worker_makes_the_folder(ring: Callable[..., Dataset], tmp_path: Path) -> None:
    data, out = ring(), tmp_path / "run"

    def main_worker() -> None:
        with run_to_train(out, IDENTITY, data, resume=False):
            pass

    second = Workers(index=1, count=2, wait=main_worker)
    with run_to_train(out, {**IDENTITY, "seed": 2}, data, resume=False, workers=second) as run:
        assert run.seed == 1
