"""Blocks of items and batches of users of any size give the ranks, lists and metrics of whole rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from evaluation_helpers import Fixed
from exact_ranker import sasrec, with_neighbours, with_newcomers
from torch import Tensor
from worlds import random_logs, ring_with_cold_items

import palate.evaluation.budget as budget
from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.budget import Plan, plan
from palate.evaluation.evaluate import evaluate
from palate.evaluation.ranking import rank_targets
from palate.evaluation.ranks import Ranks
from palate.rankers.blend import Blend, BlendConfig
from palate.rankers.item_knn import ItemKNN
from palate.rankers.popularity import Popularity
from palate.rankers.sasrec import SASRec
from palate.recommender import Recommender


def blend(*parts: Recommender) -> Blend:
    facts = [{"kind": part.name, "weight": 0.5 + number, "scale": 2.0} for number, part in enumerate(parts)]
    return Blend(parts, BlendConfig.parse({"parts": facts}, where="test"))


MODELS: dict[str, Callable[[Dataset], Recommender]] = {
    "sasrec": sasrec,
    "sasrec in training": lambda dataset: sasrec(dataset, training=True),
    "sasrec by cosine": lambda dataset: sasrec(dataset, similarity="cosine"),
    "sasrec with neighbours": lambda dataset: with_neighbours(sasrec(dataset)),
    "popularity": Popularity.fit,
    "item-knn": ItemKNN.fit,
    "blend": lambda dataset: blend(sasrec(dataset), Popularity.fit(dataset)),
    "blend with neighbours": lambda dataset: blend(with_neighbours(sasrec(dataset)), Popularity.fit(dataset)),
    "blend of whole rows": lambda dataset: blend(sasrec(dataset), ItemKNN.fit(dataset)),
}


def same(one: Ranks, other: Ranks) -> None:
    for name in ("values", "items", "offsets", "num_candidates", "lists"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_any_block_gives_the_same_ranks_and_lists(
    kind: str, pooled: bool, exclude_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = random_logs(tests=3, repeats=True)
    model, cases = MODELS[kind](dataset), with_newcomers(dataset.cases("test"))
    pool = None
    if pooled:
        pool = np.zeros(dataset.num_items + 1, np.bool_)
        pool[cases.targets.values] = True
        pool[-3:] = False
        kept = [[item for item in row if pool[item]] or [int(pool.argmax())] for row in cases.targets.to_lists()]
        cases = Cases(cases.users, cases.histories, Sequences.from_lists(kept))

    def ranked(users: int, items: int, memory: int = 0) -> Ranks:
        items = items if model.scores_in_blocks else dataset.num_items + 1
        monkeypatch.setattr("palate.evaluation.ranking.plan", lambda *_: Plan(users, items, memory))
        return rank_targets(model, cases, exclude_seen=exclude_seen, depth=7, pool=pool)

    whole = ranked(256, dataset.num_items + 1)
    for users, items in ((1000, 1), (7, 6), (1000, 16), (64, dataset.num_items)):
        if isinstance(model, SASRec):
            model._table = None
            same(ranked(users, items), whole)
            assert model._table is None  # the vectors of all items were never there at once
        same(ranked(users, items, memory=2**30), whole)
    assert getattr(model, "training", False) == (kind == "sasrec in training")


def test_one_rounding_more_or_less_is_noticed() -> None:
    """A target is counted by its score in its own block, even if it was another beforehand."""

    class Rounded(Fixed):
        scores_in_blocks = True  # type: ignore[assignment]

        def item_scorer(self, histories: object, memory: int) -> Callable[[slice | Tensor], Tensor]:
            def scorer(items: slice | Tensor) -> Tensor:
                scores = self.score(histories)[:, items]  # type: ignore[arg-type]
                return scores + 1e-3 if isinstance(items, Tensor) else scores

            return scorer

    dataset = random_logs(tests=2)
    table = torch.randint(0, 4, (20, dataset.num_items + 1), generator=torch.Generator().manual_seed(1)).float()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("palate.evaluation.ranking.plan", lambda *_: Plan(9, 5, 0))
        found = rank_targets(Rounded(table), dataset.cases("test"), exclude_seen=True, depth=5)
    same(found, rank_targets(Fixed(table), dataset.cases("test"), exclude_seen=True, depth=5))


@pytest.mark.parametrize("kind", ["sasrec", "sasrec with neighbours", "item-knn", "blend"])
def test_results_do_not_depend_on_the_budget(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = ring_with_cold_items(0)
    model = MODELS[kind](dataset)
    whole = evaluate(model, dataset, ks=[1, 5])
    monkeypatch.setattr(budget, "_MATRICES", 2**18 // 40)  # 40 scores in a MiB
    monkeypatch.setattr(budget, "_LEAST_ITEMS", 7)
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(
        "palate.evaluation.ranking._checked",
        lambda rows, scores, columns: shapes.append(tuple(scores.shape)) or scores.float(),
    )
    small = evaluate(model, dataset, ks=[1, 5], memory_mb=1)
    assert shapes
    assert max(rows * columns for rows, columns in shapes) <= 40
    assert small.frame.equals(whole.frame)
    assert small.totals == whole.totals


def test_a_plan_follows_from_the_budget() -> None:
    few, many = Fixed(torch.zeros(1, 12_101)), Fixed(torch.zeros(1, 2_000_001))
    assert plan(few, None) == Plan(256, 12_101, 2**30)
    assert plan(few, 9).users == 9
    assert plan(many, None).users == 2**26 // 2_000_001  # whole rows only
    assert plan(many, None, memory_mb=1).users == 1
    in_blocks = plan(Popularity(torch.zeros(2_000_001), Popularity.Config()), None)
    assert in_blocks == Plan(1024, 2**16, 2**30)
    assert plan(Popularity(torch.zeros(2_000_001), Popularity.Config()), None, memory_mb=64).items == 4096
    for wrong in ({"batch_size": 0}, {"batch_size": None, "memory_mb": 0}):
        with pytest.raises(PalateError):
            plan(few, **wrong)


def test_a_plug_in_with_scores_of_its_own_is_ranked_by_whole_rows() -> None:
    class Own(SASRec):
        def score(self, histories, candidates=None):  # type: ignore[no-untyped-def]
            return -super().score(histories, candidates)

    assert not Own(SASRec.Config(dim=16, layers=1, heads=1), 30, {}).scores_in_blocks
    assert SASRec(SASRec.Config(dim=16, layers=1, heads=1), 30, {}).scores_in_blocks
