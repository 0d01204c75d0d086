"""The cascade: what is proposed, in which order it comes out, and what the second stage is asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cascade_helpers import Slow, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.cascade.cascade import FEW, Cascade
from palate.cascade.normalise import random_scores, unit
from palate.errors import PalateError

RISING = list(range(31))  # item i scores i: the retriever likes 30 best
FALLING = [-item for item in range(31)]


def order_of(scores: torch.Tensor) -> list[int]:
    return [int(item) for item in torch.argsort(scores, descending=True, stable=True) if scores[item] > -torch.inf]


def test_what_is_proposed_comes_first_in_the_second_stages_order() -> None:
    slow = Slow(FALLING)
    scores = Cascade(Table(RISING), slow, depth=5).score([[]])[0]
    assert order_of(scores) == [26, 27, 28, 29, 30, *range(25, 0, -1)]
    assert scores[0] == -torch.inf
    assert torch.isfinite(scores[1:]).all()
    assert scores[26:].min() > scores[1:26].max()
    assert scores[26:].tolist() == [-26, -27, -28, -29, -30]  # the second stage's own scores can be read
    assert [sorted(items) for _, items in slow.asked] == [[26, 27, 28, 29, 30]]


def test_seen_items_are_not_proposed_unless_asked() -> None:
    kept = Cascade(Table(RISING), Slow(FALLING), depth=3, exclude_seen=False)
    left_out = Cascade(Table(RISING), Slow(FALLING), depth=3)
    assert order_of(kept.score([[30, 28]])[0])[:4] == [28, 29, 30, 27]
    assert order_of(left_out.score([[30, 28]])[0])[:5] == [26, 27, 29, 30, 28]
    assert left_out.recommend([[30, 28]], 4)[0].tolist() == [[26, 27, 29, 25]]
    assert left_out.recommend([[30, 28]], 4, exclude_seen=False)[0].tolist() == [[28, 29, 30, 27]]


def test_what_is_not_allowed_takes_nobodys_place() -> None:
    slow = Slow(FALLING)
    allowed = torch.zeros(31, dtype=torch.bool)
    allowed[[1, 2, 3, 4, 30]] = True
    items, scores = Cascade(Table(RISING), slow, depth=3).recommend([[30]], 6, allowed=allowed)
    assert items.tolist() == [[2, 3, 4, 1, 0, 0]]
    assert scores[0, 4:].tolist() == [-torch.inf] * 2
    assert sorted(slow.asked[0][1]) == [2, 3, 4]


def test_the_retrievers_ties_stay_ties_and_the_second_stages_too() -> None:
    retriever = Table([0, 5, 5, 5, 3, 3, 1, -torch.inf])
    scores = Cascade(retriever, Slow([0, 2, 2, 1, 9, 9, 9, 9]), depth=3).score([[]])[0]
    assert scores[1] == scores[2] > scores[3] > scores[4] == scores[5] > scores[6] > scores[7] == -torch.inf


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, 1e30, -1e30])
def test_wild_scores_stay_finite_and_above_the_others(value: float) -> None:
    second = list(FALLING)
    second[29] = value
    scores = Cascade(Table(RISING), Slow(second), depth=3).score([[]])[0]
    assert torch.isfinite(scores[1:]).all()
    assert scores[28:].min() > scores[27]
    assert order_of(scores)[:3] == ([29, 28, 30] if value > 0 else [28, 30, 29])
    assert order_of(scores)[3:] == list(range(27, 0, -1))


@settings(max_examples=60, deadline=None)
@given(
    retriever=st.lists(st.floats(-1e6, 1e6, width=32), min_size=12, max_size=12),
    second=st.lists(st.floats(-1e6, 1e6, width=32), min_size=12, max_size=12),
    depth=st.integers(1, 15),
    history=st.lists(st.integers(1, 11), max_size=11),
)
def test_order_holds_for_any_scores(
    retriever: list[float], second: list[float], depth: int, history: list[int]
) -> None:
    scores = Cascade(Table(retriever), Slow(second), depth=depth).score([history])[0]
    open_items = sorted(set(range(1, 12)) - set(history), key=lambda item: (-np.float32(retriever[item]), item))
    proposed = open_items[:depth]
    others = [item for item in range(1, 12) if item not in proposed]
    for one in proposed:
        for two in proposed:
            assert bool(scores[one] > scores[two]) == (np.float32(second[one]) > np.float32(second[two]))
        assert all(scores[one] > scores[other] for other in others)
    for one in others:
        for two in others:
            assert bool(scores[one] > scores[two]) == (np.float32(retriever[one]) > np.float32(retriever[two]))


def test_few_candidates_are_all_scored_by_the_second_stage() -> None:
    slow = Slow(FALLING)
    candidates = torch.tensor([[5, 1, 30, 0], [2, 9, 4, 7]])
    scores = Cascade(Table(RISING), slow, depth=2).score([[3], [8]], candidates)
    assert scores.tolist() == [[-5, -1, -30, -torch.inf], [-2, -9, -4, -7]]
    assert all(0 not in items for _, items in slow.asked)


def test_of_many_candidates_the_retrievers_best_are() -> None:
    width = FEW + 10
    slow = Slow([-item for item in range(width + 1)])
    candidates = torch.arange(width, 0, -1)[None]
    scores = Cascade(Table(list(range(width + 1))), slow, depth=4).score([[]], candidates)[0]
    best = candidates[0][torch.argsort(scores, descending=True)].tolist()
    assert best == [*range(width - 3, width + 1), *range(width - 4, 0, -1)]
    assert len(slow.asked) == 1


def test_nothing_is_asked_twice() -> None:
    slow = Slow(FALLING)
    cascade = Cascade(Table(RISING), slow, depth=4)
    histories = [[1], [2], [1], [3], [4]]
    whole = cascade.score(histories)
    assert (len(slow.asked), slow.calls) == (4, 2)  # two users share a history; three at a time
    cascade.variant("blend", 0.3).score(histories)
    cascade.variant("random").score(histories)
    cascade.score([[4], [1]], torch.tensor([[27, 28, 29, 30], [30, 29, 28, 27]]))
    assert torch.equal(cascade.score(histories), whole)
    assert len(slow.asked) == 4
    cascade.score([[5]])
    assert len(slow.asked) == 5


def test_the_list_does_not_tell_who_was_proposed_first() -> None:
    """The same items proposed in opposite orders are shown alike, and not in either's order."""
    rising, falling = Slow(RISING), Slow(RISING)
    Cascade(Table(RISING), rising, depth=30).score([[]])
    Cascade(Table(FALLING), falling, depth=30).score([[]])
    assert rising.asked == falling.asked
    assert rising.asked[0][1] not in (tuple(range(1, 31)), tuple(range(30, 0, -1)))


def test_blending_goes_from_one_order_to_the_other() -> None:
    cascade = Cascade(Table(RISING), Slow(FALLING), depth=5)
    tops = {w: order_of(cascade.variant("blend", w).score([[]])[0])[:5] for w in (0.0, 0.4, 0.6, 1.0)}
    assert tops[0.0] == tops[0.4] == [30, 29, 28, 27, 26]
    assert tops[0.6] == tops[1.0] == [26, 27, 28, 29, 30]
    # By hand: retriever 4, 3, 0 and second 0, 2, 1, weight 0.5, standardised within the list.
    by_hand = Cascade(Table([0, 4, 3, 0]), Slow([0, 0, 2, 1]), depth=3, mode="blend", weight=0.5).score([[]])[0, 1:]
    z = [np.array([4, 3, 0.0]), np.array([0, 2, 1.0])]
    wanted = sum(0.5 * (one - one.mean()) / one.std() for one in z)
    np.testing.assert_allclose(by_hand.numpy(), wanted, rtol=1e-5)


def test_ranks_share_the_places_of_equal_scores() -> None:
    assert unit(torch.tensor([1.0, 5.0, 5.0, 9.0, -torch.inf]), "rank").tolist() == [0.25, 0.625, 0.625, 1.0, 0.0]
    with pytest.raises(PalateError, match="Choose one of: rank, standard"):
        unit(torch.tensor([1.0, 2.0]), "softmax")  # type: ignore[arg-type]


def test_random_is_seeded_fair_and_asks_nobody() -> None:
    slow = Slow(FALLING)
    tops = []
    for seed in range(300):
        cascade = Cascade(Table(RISING), slow, depth=3, mode="random", seed=seed)
        scores = cascade.score([[1]])[0]
        assert torch.equal(scores, Cascade(Table(RISING), slow, depth=3, mode="random", seed=seed).score([[1]])[0])
        assert sorted(order_of(scores)[:3]) == [28, 29, 30]
        tops.append(order_of(scores)[0])
    assert not slow.asked
    counts = np.bincount(tops)[28:]
    assert counts.min() > 70  # 100 expected of each; 70 is 3.7 standard deviations below
    items = torch.tensor([7, 3, 9])
    again = random_scores(0, b"history", items.flip(0)).flip(0)
    assert torch.equal(random_scores(0, b"history", items), again)


def test_fewer_left_than_the_depth() -> None:
    slow = Slow([0, 1, 2, 3])
    scores = Cascade(Table([0, 3, 2, 1]), slow, depth=20).score([[1], [1, 2, 3]])
    assert order_of(scores[0]) == [3, 2, 1]
    assert order_of(scores[1]) == [1, 2, 3]  # nothing is left to propose: the retriever's order
    assert [sorted(items) for _, items in slow.asked] == [[2, 3]]


def test_describe_and_cost() -> None:
    cascade = Cascade(Table(RISING), Slow(FALLING), depth=2)
    cascade.score([[1]])
    facts = cascade.variant("blend", 0.25).describe()
    assert (facts["mode"], facts["depth"], facts["weight"]) == ("blend", 2, 0.25)
    assert (facts["retriever"]["name"], facts["second"]["name"]) == ("table", "slow")
    assert "weight" not in cascade.describe()
    assert cascade.cost() == {"prompts": 2, "tokens": 200, "seconds": 0.5}
    assert cascade.batch_size == 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"depth": 0}, "Give --depth of at least 1"),
        ({"mode": "blnd"}, "Did you mean 'blend'"),
        ({"mode": "blend", "weight": 1.5}, "a number from 0 to 1"),
    ],
)
def test_mistakes(options: dict[str, object], expected: str) -> None:
    with pytest.raises(PalateError, match=expected):
        Cascade(Table(RISING), Slow(FALLING), **options)  # type: ignore[arg-type]


def test_stages_that_do_not_fit_are_refused() -> None:
    with pytest.raises(PalateError, match="knows 30 items"):
        Cascade(Table(RISING), Slow([0, 1, 2]))
    with pytest.raises(PalateError, match="cannot rank the whole catalogue"):
        Cascade(Slow(RISING), Slow(FALLING))
    with pytest.raises(PalateError, match="the retriever gave scores that are not numbers"):
        Cascade(Table([torch.nan] * 31), Slow(FALLING)).score([[]])
    broken = Cascade(Table(RISING), Slow([torch.nan] * 31))
    with pytest.raises(PalateError, match="the model gave scores that are not numbers"):
        broken.score([[]])
