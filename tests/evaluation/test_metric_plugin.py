"""A metric from a user's own installed package: found by its entry point, usable by name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from evaluation_helpers import Fixed
from worlds import random_logs

from palate.errors import PalateError
from palate.evaluation.evaluate import evaluate
from palate.evaluation.metrics import METRICS

CODE = '''
from palate.evaluation.metrics import metric

@metric("Precision")
def precision(ranks, k):
    """Share of the first k that are targets."""
    return ranks.sum(ranks.values <= k) / k
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch):
    """Lays a package with one entry point where Python finds it."""

    def make(name: str) -> None:
        (tmp_path / "tastemetrics.py").write_text(CODE)
        info = tmp_path / "tastemetrics-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tastemetrics\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[palate.metrics]\n{name} = tastemetrics:precision\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()

    yield make
    sys.modules.pop("tastemetrics", None)


def test_it_is_measured_like_a_builtin(install):
    install("precision")
    dataset = random_logs(tests=3)
    model = Fixed(torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(0)))
    result = evaluate(model, dataset, metrics=["recall", "precision"], ks=[5])
    assert "precision" in METRICS
    expected = result.values("recall@5") * result.frame.filter(result.frame["slice"] == "all")["targets"].to_numpy() / 5
    assert result.values("precision@5").tolist() == pytest.approx(expected.tolist())
    assert expected.any()


def test_it_may_not_take_a_builtin_name(install):
    install("ndcg")
    with pytest.raises(PalateError, match="takes the name of the built-in metric 'ndcg'"):
        METRICS["recall"]
