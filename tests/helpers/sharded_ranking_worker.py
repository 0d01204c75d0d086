"""What each worker does in the tests of a divided catalogue: it ranks and recommends with the others, and compares with
a model that has all items.

The ranks, lists and recommendations of all must be those of the whole model, and no worker may make the vectors of more
items than its own, and those of the histories that it encodes.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import sharded_table_worker
import torch
import torch.distributed as dist
from exact_ranker import sasrec, with_newcomers
from processes import end_together
from torch import Tensor
from worlds import dataset_of, random_logs

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.evaluation.budget import Plan
from palate.evaluation.ranking import rank_targets
from palate.evaluation.ranks import Ranks
from palate.rankers import block_scores
from palate.rankers.items import ItemEncoder
from palate.rankers.sasrec import SASRec
from palate.rankers.sharded_ids import RowShare, sharded, sharded_ids
from palate.training.validation import Validation

DEPTH = 25  # more than a shard holds


def divided(whole: SASRec, share: RowShare) -> SASRec:
    """The same model with a share of the rows of its table."""
    with sharded(share):
        model = type(whole)(whole.config, whole.num_items, whole.widths)
    state = whole.state_dict()
    state["items.ids.own.weight"] = state.pop("items.ids.weight")[share.index :: share.count]
    model.load_state_dict(state)
    for name, feature in whole.items.features.items():
        model.items.features[name].vectors = feature.vectors
    model.popularity = whole.popularity
    return model.train(whole.training)


class Made:
    """Counts the vectors that are made at a time of the items of a model that is divided."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.most, rows = 0, ItemEncoder.rows

        def counted(items: ItemEncoder, index: Tensor, ids: Tensor | None = None) -> Tensor:
            if sharded_ids(items) is not None:
                self.most = max(self.most, len(index))
            return rows(items, index, ids)

        patch.setattr(ItemEncoder, "rows", counted)


def same(one: Ranks, other: Ranks) -> None:
    for name in ("values", "items", "offsets", "num_candidates", "lists"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def compare(whole: SASRec, dataset: Dataset, share: RowShare, *, to_the_bit: bool = True) -> None:
    """Every way to rank and to recommend, with the items at once and in blocks."""
    cases = with_newcomers(dataset.cases("test"))
    pool = np.random.default_rng(0).random(dataset.num_items + 1) < 0.5
    pool[1] = True
    kept = Sequences.from_lists([[item for item in row if pool[item]] or [1] for row in cases.targets.to_lists()])
    ways: list[tuple[Cases, dict[str, Any]]] = [
        (cases, {}),
        (Cases(cases.users, cases.histories, kept), {"pool": pool}),
    ]
    model = divided(whole, share)
    with pytest.MonkeyPatch.context() as patch:

        def ranked(ranker: SASRec, how: Plan, some: Cases, **options: Any) -> Ranks:
            patch.setattr("palate.evaluation.ranking.plan", lambda *_: how)
            return rank_targets(ranker, some, depth=DEPTH, **options)

        def recommended(ranker: SASRec, cells: int, *options: Any) -> tuple[Tensor, Tensor]:
            patch.setattr("palate.recommender._SCORES", cells)
            return ranker.recommend(cases.histories, DEPTH, *options)

        patch.setattr(block_scores, "_HISTORIES", 1)  # so that few rows are read for the histories
        made = Made(patch)
        for exclude_seen in (True, False):
            for some, options in ways:
                expected = ranked(
                    whole, Plan(256, dataset.num_items + 1, 0), some, exclude_seen=exclude_seen, **options
                )
                for plan in (Plan(1000, 1000, 2**30), Plan(7, 6, 0), Plan(1000, 1, 0)):
                    model._table = None
                    same(ranked(model, plan, some, exclude_seen=exclude_seen, **options), expected)
            for allowed in (None, torch.from_numpy(pool), torch.arange(dataset.num_items + 1) == 2):
                items, scores = recommended(whole, 2**26, exclude_seen, allowed)
                for cells in (2**26, 4 * len(cases)):
                    found = recommended(model, cells, exclude_seen, allowed)
                    assert torch.equal(found[0], items)
                    torch.testing.assert_close(found[1], scores, rtol=0, atol=0 if to_the_bit else 1e-5)
    assert len(model.recommend([], 3)[0]) == 0
    assert model.training == whole.training
    assert 0 < made.most <= max(len(share.rows(dataset.num_items + 1)), whole.config.max_length)


def main() -> None:
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))
    torch.set_num_threads(1)
    share = RowShare(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    dataset = random_logs(tests=3, repeats=True)
    compare(sasrec(dataset), dataset, share)
    compare(sasrec(dataset, training=True), dataset, share)
    compare(sasrec(dataset, similarity="cosine"), dataset, share, to_the_bit=False)
    compare(
        sharded_table_worker.build(None).eval(), random_logs(items=sharded_table_worker.ITEMS), share, to_the_bit=False
    )
    two_items = dataset_of([[1, 2, 1, 1], [2, 1, 2]], pl.DataFrame({"item_id": ["a", "b"]}), manifest={"name": "two"})
    compare(sasrec(two_items), two_items, share)  # of three workers one has the padding only
    validation = Validation(dataset, "NDCG@10", exclude_seen=True)
    assert validation(divided(sasrec(dataset), share)) == validation(sasrec(dataset))
    end_together()


if __name__ == "__main__":
    main()
