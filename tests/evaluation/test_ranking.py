"""rank_targets against a ranking done one user at a time with a plain sort."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_helpers import Fixed
from worlds import random_logs

from palate.data.dataset import Cases
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.evaluation.ranking import rank_targets


def naive_ranks(scores, cases, exclude_seen, pool=None):
    """Sort each user's candidates, others before targets at equal scores, and read off the places of the targets.

    Excluded targets, which nobody can recommend, come behind everything.
    """
    out, sizes, items_out = [], [], []
    for row in range(len(cases)):
        targets = set(cases.targets[row].tolist())
        items = range(1, scores.shape[1]) if pool is None else [i for i in range(1, scores.shape[1]) if pool[i]]
        seen = set(cases.histories[row].tolist()) if exclude_seen else set()
        items = [i for i in items if i not in seen or i in targets]
        ordered = sorted(items, key=lambda i: (i in seen, -scores[row, i], i in targets))
        places = [(place, item) for place, item in enumerate(ordered, 1) if item in targets]
        out.append([place for place, _ in places])
        items_out.append({item for _, item in places})
        sizes.append(len(ordered))
    return out, sizes, items_out


def check(ranks, expected, sizes, items):
    assert [ranks.take([c]).values.tolist() for c in range(len(ranks))] == expected
    assert ranks.num_candidates.tolist() == sizes
    assert [set(ranks.take([c]).items.tolist()) for c in range(len(ranks))] == items


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("levels", [3, 10_000])  # 3 levels: nearly everything ties
@pytest.mark.parametrize("batch_size", [7, 1024])
def test_agrees_with_a_sort_per_user(exclude_seen, tests, levels, batch_size):
    dataset = random_logs(tests=tests, repeats=True)
    cases = dataset.cases("test")
    table = torch.randint(0, levels, (20, dataset.num_items + 1), generator=torch.Generator().manual_seed(1)).float()
    model = Fixed(table)
    scores = model.score(cases.histories).numpy()
    ranks = rank_targets(model, cases, exclude_seen=exclude_seen, batch_size=batch_size)
    check(ranks, *naive_ranks(scores, cases, exclude_seen))


def test_ragged_numbers_of_targets_keep_their_cases():
    rng = np.random.default_rng(3)
    lists = [rng.choice(np.arange(1, 31), rng.integers(1, 9), replace=False).tolist() for _ in range(50)]
    histories = [rng.choice(np.arange(1, 31), rng.integers(0, 9)).tolist() for _ in range(50)]
    cases = Cases(np.arange(50), Sequences.from_lists(histories), Sequences.from_lists(lists))
    model = Fixed(torch.randn(10, 31, generator=torch.Generator().manual_seed(0)))
    scores = model.score(cases.histories).numpy()
    for exclude_seen in (True, False):
        ranks = rank_targets(model, cases, exclude_seen=exclude_seen, batch_size=16)
        check(ranks, *naive_ranks(scores, cases, exclude_seen))


def test_a_block_smaller_than_the_batch_gives_the_same_ranks(monkeypatch):
    dataset = random_logs(tests=3)
    model = Fixed(torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(2)))
    whole = rank_targets(model, dataset.cases("test"), exclude_seen=True)
    monkeypatch.setattr("palate.evaluation.counting._BLOCK", 3 * (dataset.num_items + 1))
    assert np.array_equal(rank_targets(model, dataset.cases("test"), exclude_seen=True).values, whole.values)
    monkeypatch.setattr("palate.evaluation.counting._EXACT_FLOAT32", 1)
    assert np.array_equal(rank_targets(model, dataset.cases("test"), exclude_seen=True).values, whole.values)


def test_a_constant_model_comes_last_not_first():
    dataset = random_logs(tests=1)
    ranks = rank_targets(Fixed(torch.zeros(1, dataset.num_items + 1)), dataset.cases("test"), exclude_seen=False)
    assert (ranks.values == dataset.num_items).all()


def test_minus_infinity_is_the_last_place_and_padding_no_competitor():
    cases = Cases(np.arange(2), Sequences.from_lists([[1], []]), Sequences.from_lists([[2], [3, 2]]))
    table = torch.full((2, 5), -torch.inf)
    table[:, 4] = 1.0
    ranks = rank_targets(Fixed(table), cases, exclude_seen=True)
    assert ranks.values.tolist() == [3, 3, 4]
    assert ranks.num_candidates.tolist() == [3, 4]


def test_a_seen_target_cannot_be_recommended_and_comes_last():
    cases = Cases(np.arange(1), Sequences.from_lists([[1, 2, 2]]), Sequences.from_lists([[2, 2]]))
    model = Fixed(torch.tensor([[0.0, 5.0, 4.0, 3.0]]))
    ranks = rank_targets(model, cases, exclude_seen=True, depth=2)
    assert (ranks.values.tolist(), ranks.num_candidates.tolist()) == ([2], [2])
    assert ranks.lists.tolist() == [[3, 0]]
    kept = rank_targets(model, cases, exclude_seen=False, depth=2)
    assert (kept.values.tolist(), kept.lists.tolist()) == ([2], [[1, 2]])


def test_several_seen_targets_take_the_last_places_even_behind_minus_infinity():
    table = torch.tensor([[0.0, 9.0, 8.0, 7.0, -torch.inf, 1.0, 2.0]])
    cases = Cases(np.arange(1), Sequences.from_lists([[1, 2, 3]]), Sequences.from_lists([[1, 3, 4]]))
    ranks = rank_targets(Fixed(table), cases, exclude_seen=True, depth=6)
    assert ranks.num_candidates.tolist() == [5]  # all but item 2
    assert ranks.values.tolist() == [3, 4, 5]
    assert ranks.items.tolist() == [4, 1, 3]
    assert ranks.lists.tolist() == [[6, 5, 0, 0, 0, 0]]


def test_pool_ranks_among_its_items_only():
    dataset = random_logs(tests=3)
    model = Fixed(torch.randint(0, 9, (20, dataset.num_items + 1), generator=torch.Generator().manual_seed(5)).float())
    pool = np.zeros(dataset.num_items + 1, bool)
    pool[1::2] = True
    cases = dataset.cases("test")
    even_last = Sequences.from_lists([[i for i in row if pool[i]] or [1] for row in cases.targets.to_lists()])
    cases = Cases(cases.users, cases.histories, even_last)
    for exclude_seen in (True, False):
        ranks = rank_targets(model, cases, exclude_seen=exclude_seen, pool=pool)
        check(ranks, *naive_ranks(model.score(cases.histories).numpy(), cases, exclude_seen, pool))
    with pytest.raises(PalateError, match="not among the items to rank"):
        rank_targets(model, dataset.cases("test"), exclude_seen=True, pool=pool)


def test_candidates_agree_with_a_sort():
    dataset = random_logs(tests=3)
    model = Fixed(torch.randint(0, 9, (20, dataset.num_items + 1), generator=torch.Generator().manual_seed(5)).float())
    cases = dataset.cases("test")
    candidates = sample_candidates(dataset, "test", negatives=12, seed=4)
    ranks = rank_targets(model, cases, exclude_seen=True, candidates=candidates, batch_size=7)
    scores = model.score(cases.histories).numpy()
    expected, sizes = [], []
    for row in range(len(cases)):
        pool = np.zeros(dataset.num_items + 1, bool)
        pool[candidates.items[row]] = True
        pool[0] = False
        one, size, _ = naive_ranks(scores[row : row + 1], cases.take([row]), False, pool)
        expected += one
        sizes += size
    assert [ranks.take([c]).values.tolist() for c in range(len(ranks))] == expected
    assert ranks.num_candidates.tolist() == sizes


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("tests", [1, 3])
def test_lists_are_what_recommend_gives(repeats, tests):
    dataset = random_logs(repeats=repeats, tests=tests)
    model = Fixed(torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(5)))
    cases = dataset.cases("test")
    for exclude_seen in (True, False):
        lists = rank_targets(model, cases, exclude_seen=exclude_seen, depth=5, batch_size=9).lists
        assert lists is not None
        assert lists.tolist() == model.recommend(cases.histories, 5, exclude_seen)[0].tolist()


def test_no_hit_that_no_list_shows():
    dataset = random_logs(repeats=True, tests=2)
    cases = dataset.cases("test")
    model = Fixed(torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(6)))
    for exclude_seen in (True, False):
        ranks = rank_targets(model, cases, exclude_seen=exclude_seen, depth=5)
        shown = [
            set(row) & set(items) for row, items in zip(cases.targets.to_lists(), ranks.lists.tolist(), strict=True)
        ]
        assert ranks.sum(ranks.values <= 5).tolist() == [len(hits) for hits in shown]


def test_lists_are_padded_where_the_catalogue_is_short():
    cases = Cases(np.arange(1), Sequences.from_lists([[1, 2]]), Sequences.from_lists([[3]]))
    ranks = rank_targets(Fixed(torch.tensor([[0.0, 3.0, 2.0, 1.0]])), cases, exclude_seen=True, depth=6)
    assert ranks.lists is not None
    assert ranks.lists.tolist() == [[3, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("bad", ["nan", "shape", "outside", "none", "batch"])
def test_refusals(bad):
    dataset = random_logs()
    cases = dataset.cases("test")
    table = torch.randn(20, dataset.num_items + 1, generator=torch.Generator().manual_seed(5))
    batch_size = 64
    if bad == "nan":
        table[3, 7] = torch.nan
        wording = "NaN"
    elif bad == "shape":
        model = Fixed(table)
        model.num_items += 1
        wording = "shape"
    elif bad == "outside":
        table = table[:, :20]
        wording = "outside the model's 19 items"
    elif bad == "none":
        cases = Cases(cases.users, cases.histories, Sequences.from_lists([[]] * len(cases)))
        wording = "case 0 has no target"
    else:
        batch_size, wording = 0, "batch_size is 0"
    with pytest.raises(PalateError, match=wording):
        rank_targets(model if bad == "shape" else Fixed(table), cases, exclude_seen=True, batch_size=batch_size)


def test_infinite_scores_are_not_mistaken_for_nan():
    cases = Cases(np.arange(1), Sequences.from_lists([[]]), Sequences.from_lists([[2]]))
    table = torch.tensor([[0.0, torch.inf, 1.0, -torch.inf]])
    assert rank_targets(Fixed(table), cases, exclude_seen=True).values.tolist() == [2]
