"""Which metrics may choose an epoch, and by which name they are found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.metrics import METRICS, metric
from palate.evaluation.ranks import Floats, Ranks
from palate.rankers.popularity import Popularity
from palate.training.validation import Validation, parse_metric


@pytest.fixture
def plugins() -> Iterator[None]:
    @metric("NDCG")
    def mine(ranks: Ranks, k: int) -> Floats:
        return np.full(len(ranks), 0.25)

    @metric("Mean rank", at_k=False, higher_is_better=False)
    def mean_rank(ranks: Ranks, k: int) -> Floats:
        return ranks.best.astype(float)

    with METRICS.registered("my-ndcg", mine), METRICS.registered("mean-rank", mean_rank):
        yield


def test_a_plugin_is_found_by_its_name_whatever_its_label(plugins: None, ring: Callable[..., Dataset]) -> None:
    written = parse_metric("my-ndcg@10")[0]
    assert written == "my-ndcg@10"
    assert parse_metric(written)[0] == written
    found = Validation(ring(), written, exclude_seen=True)(Popularity.fit(ring()))
    assert found["my-ndcg@10"] == 0.25
    assert found["NDCG@10"] != 0.25


def test_the_lower_the_better_cannot_choose_an_epoch(plugins: None) -> None:
    with pytest.raises(PalateError, match="of 'mean-rank', the lower the better"):
        parse_metric("mean-rank")


def test_a_metric_that_reads_training_counts_has_them(ring: Callable[..., Dataset]) -> None:
    written = parse_metric("serendipity@5")[0]
    assert np.isfinite(Validation(ring(), written, exclude_seen=True)(Popularity.fit(ring()))[written])
