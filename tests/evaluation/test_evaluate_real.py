"""Amazon Beauty: the slices must hold the users that were counted independently of this code."""

from __future__ import annotations

import pytest

from palate.data.prepare import prepare
from palate.evaluation.evaluate import evaluate
from palate.evaluation.slices import COLD_AMONG_COLD
from palate.rankers.item_knn import ItemKNN
from palate.rankers.popularity import Popularity


@pytest.mark.real
def test_beauty(real_data):
    dataset = prepare(real_data("amazon-2014-beauty"), "sequences")
    result = evaluate(Popularity.fit(dataset), dataset, exclude_seen=False, metrics=["ndcg", "coverage"], ks=[10])
    counts = {name: len(result.users(name)) for name in result.slices}
    assert counts["all"] == 22_363
    assert counts["tail items, <= 5"] == 6_197
    assert counts["cold items"] == counts[COLD_AMONG_COLD] == 138
    popular = result.summary()["ndcg@10"]
    neighbours = evaluate(ItemKNN.fit(dataset), dataset, exclude_seen=False, metrics=["ndcg"], ks=[10])
    # Bands: what these models reach on this data, whoever implements them.
    assert 0.003 < popular < 0.008
    assert 0.028 < neighbours.summary()["ndcg@10"] < 0.042
