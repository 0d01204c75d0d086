"""Negatives: never a forbidden item, as likely as promised, and the same as a slow loop would find."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.errors import PalateError
from palate.negatives.base import SamplingContext
from palate.negatives.config import NegativesConfig, draw_rejected
from palate.negatives.row_sets import RowSets, draw_members, draw_uniform, draw_weighted

WIDTH = 12


def sets_of(rows: list[set[int]], width: int = WIDTH) -> RowSets:
    pairs = [(row, item) for row, members in enumerate(rows) for item in members]
    return RowSets.of(
        torch.tensor([r for r, _ in pairs], dtype=torch.long),
        torch.tensor([i for _, i in pairs], dtype=torch.long),
        len(rows),
        width,
    )


def situation(forbidden: list[set[int]], scores: torch.Tensor, seed: int = 0, **more: object) -> SamplingContext:
    given: dict[str, object] = {
        "targets": torch.tensor([min(row) if row else 0 for row in forbidden]),
        "forbidden": sets_of(forbidden, scores.shape[1]),
        "counts": torch.arange(1.0, scores.shape[1] + 1),
        "scores": lambda part: scores[part].clone(),
        "others": torch.arange(scores.shape[1]),
        "generator": torch.Generator().manual_seed(seed),
    }
    return SamplingContext(**{**given, **more})  # type: ignore[arg-type]


forbidden_rows = st.lists(st.sets(st.integers(0, WIDTH - 1), max_size=WIDTH), min_size=1, max_size=6)


@given(forbidden_rows, st.integers(0, 10_000), st.sampled_from(["uniform", "popularity", "in-batch", "top-k", "mixed"]))
@settings(max_examples=150, deadline=None)
def test_a_valid_negative_is_allowed(rows: list[set[int]], seed: int, strategy: str) -> None:
    scores = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    config = NegativesConfig(strategy=strategy, pool_k=4, num_negatives=3)  # type: ignore[arg-type]
    drawn = draw_rejected(config, situation(rows, scores, seed))
    for row, members in enumerate(rows):
        chosen = [int(c) for c, v in zip(drawn.classes[row], drawn.valid[row], strict=True) if v]
        assert not members & set(chosen)
        if strategy in ("uniform", "popularity"):
            assert len(chosen) == (3 if len(members) < WIDTH else 0)
        if strategy == "top-k":
            allowed = [i for i in range(WIDTH) if i not in members]
            best = sorted(allowed, key=lambda i: -float(scores[row, i]))[:4]
            assert set(chosen) <= set(best)
            assert len(set(chosen)) == len(chosen) == min(3, len(best))


@pytest.mark.parametrize("weighted", [False, True])
def test_draws_have_the_promised_frequencies(weighted: bool) -> None:
    rows = [{0, 3, 4, 11}, set(), {1, 2}]
    weights = torch.tensor([float(1 + i % 3) for i in range(WIDTH)], dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    count = 60_000
    if weighted:
        drawn, valid = draw_weighted(sets_of(rows), weights, count, generator)
    else:
        weights = torch.ones(WIDTH, dtype=torch.float64)
        drawn, valid = draw_uniform(sets_of(rows), count, generator)
    assert valid.all()
    for row, members in enumerate(rows):
        expected = torch.tensor([0.0 if i in members else float(weights[i]) for i in range(WIDTH)])
        seen = torch.bincount(drawn[row], minlength=WIDTH).float()
        assert (seen[expected == 0] == 0).all()
        # Five standard deviations of a binomial share.
        share = expected / expected.sum()
        assert ((seen / count - share).abs() <= 5 * (share * (1 - share) / count).sqrt() + 1e-9).all()


def test_hard_takes_the_best_and_k_1_is_hard() -> None:
    scores = torch.randn(5, 40, generator=torch.Generator().manual_seed(3))
    rows: list[set[int]] = [{int(scores[r].argmax())} for r in range(5)]
    hard = draw_rejected(NegativesConfig(strategy="hard"), situation(rows, scores))
    masked = scores.clone()
    masked[torch.arange(5), scores.argmax(1)] = -torch.inf
    assert hard.classes.squeeze(1).tolist() == masked.argmax(1).tolist()
    single = draw_rejected(NegativesConfig(strategy="top-k", pool_k=1), situation(rows, scores))
    assert single.classes.tolist() == hard.classes.tolist()


def test_a_pool_is_drawn_from_evenly_and_by_softened_score_on_request() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0, -5.0]]).expand(30_000, -1).contiguous()
    rows: list[set[int]] = [set() for _ in range(len(scores))]
    even = draw_rejected(NegativesConfig(pool_k=3), situation(rows, scores)).classes
    counts = Counter(even.flatten().tolist())
    assert set(counts) == {0, 1, 2}
    assert all(abs(c / len(scores) - 1 / 3) < 0.015 for c in counts.values())
    soft = draw_rejected(NegativesConfig(pool_k=3, temperature=2.0), situation(rows, scores)).classes
    share = torch.bincount(soft.flatten(), minlength=3)[:3] / len(scores)
    assert torch.allclose(share, torch.softmax(torch.tensor([1.5, 1.0, 0.5]), 0), atol=0.015)


def test_mixed_draws_from_the_pool_as_often_as_told() -> None:
    scores = torch.arange(50.0).expand(20_000, -1).contiguous()
    rows: list[set[int]] = [set() for _ in range(len(scores))]
    drawn = draw_rejected(NegativesConfig(strategy="mixed", pool_k=2, mix=0.25), situation(rows, scores)).classes
    inside = float((drawn >= 48).float().mean())
    assert abs(inside - (0.25 + 0.75 * 2 / 50)) < 0.015


def test_dislikes_come_from_the_rows_own_set() -> None:
    scores = torch.zeros(3, WIDTH)
    dislikes = sets_of([{4, 5}, set(), {7}])
    config = NegativesConfig(strategy="disliked", num_negatives=20)
    drawn = draw_rejected(config, situation([{1}, {2}, {7}], scores, dislikes=dislikes))
    assert set(drawn.classes[0].tolist()) == {4, 5}
    assert drawn.valid[0].all()
    assert not drawn.valid[1].any()
    assert not drawn.valid[2].any()  # what is forbidden is not drawn, whoever asks
    nobody = draw_rejected(config, situation([{1}], scores[:1], dislikes=sets_of([set()])))
    assert not nobody.valid.any()


def test_a_pool_larger_than_the_catalogue_allows_is_refused() -> None:
    NegativesConfig(pool_k=98).check_catalogue(100)
    NegativesConfig(pool_k="all").check_catalogue(100)
    NegativesConfig(strategy="uniform", pool_k=500).check_catalogue(100)
    with pytest.raises(PalateError, match=r"pool of 99 is larger.*at most 98"):
        NegativesConfig(pool_k=99).check_catalogue(100)
    with pytest.raises(ValueError, match="more than the pool of 2"):
        NegativesConfig(pool_k=2, num_negatives=3)
    with pytest.raises(ValueError, match="at least 1"):
        NegativesConfig(pool_k=0)


def test_draws_depend_on_the_generator_alone() -> None:
    scores = torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    rows: list[set[int]] = [{r} for r in range(8)]
    for strategy in ("uniform", "popularity", "in-batch", "top-k", "mixed"):
        config = NegativesConfig(strategy=strategy, pool_k=10, num_negatives=2)  # type: ignore[arg-type]
        first, again, other = (draw_rejected(config, situation(rows, scores, seed)).classes for seed in (5, 5, 6))
        assert first.tolist() == again.tolist()
        assert first.tolist() != other.tolist()


near_rows = st.lists(
    st.tuples(st.sets(st.integers(0, WIDTH - 1), max_size=WIDTH), st.sets(st.integers(0, WIDTH - 1), max_size=5)),
    min_size=1,
    max_size=6,
)
strategies = st.sampled_from(["uniform", "popularity", "in-batch", "hard", "top-k", "mixed", "disliked"])


@given(near_rows, st.integers(0, 10_000), strategies, st.sampled_from(["out", "only"]))
@settings(max_examples=200, deadline=None)
def test_twins_are_never_drawn_or_nothing_else_is(
    rows: list[tuple[set[int], set[int]]], seed: int, strategy: str, twins: str
) -> None:
    forbidden, near = [one for one, _ in rows], [two for _, two in rows]
    scores = torch.randn(len(rows), WIDTH, generator=torch.Generator().manual_seed(seed))
    config = NegativesConfig(strategy=strategy, pool_k=4, num_negatives=3, twins=twins, twin_source="look")  # type: ignore[arg-type]
    everything = sets_of([set(range(WIDTH))] * len(rows))
    drawn = draw_rejected(config, situation(forbidden, scores, seed, twins=sets_of(near), dislikes=everything))
    for row, (members, close) in enumerate(rows):
        allowed = close - members if twins == "only" else set(range(WIDTH)) - members - close
        chosen = [int(c) for c, v in zip(drawn.classes[row], drawn.valid[row], strict=True) if v]
        assert set(chosen) <= allowed
        if strategy in ("uniform", "popularity"):
            assert len(chosen) == (3 if allowed else 0)
        if strategy in ("hard", "top-k"):
            best = sorted(allowed, key=lambda i: -float(scores[row, i]))[: 3 if strategy == "hard" else 4]
            assert set(chosen) <= set(best)
            assert len(set(chosen)) == len(chosen) == min(3, len(best))


@pytest.mark.parametrize("weighted", [False, True])
def test_members_are_drawn_as_often_as_promised(weighted: bool) -> None:
    rows = [{0, 3, 4, 11}, set(), {5}, {1, 2}]
    weights = torch.tensor([float(1 + i % 3) for i in range(WIDTH)], dtype=torch.float64)
    count = 60_000
    drawn, valid = draw_members(sets_of(rows), count, torch.Generator().manual_seed(1), weights if weighted else None)
    for row, members in enumerate(rows):
        assert bool(valid[row].all()) == bool(members) == bool(valid[row].any())
        if members:
            mass = weights if weighted else torch.ones(WIDTH, dtype=torch.float64)
            expected = torch.tensor([float(mass[i]) if i in members else 0.0 for i in range(WIDTH)])
            seen = torch.bincount(drawn[row], minlength=WIDTH).float()
            share = expected / expected.sum()
            assert ((seen / count - share).abs() <= 5 * (share * (1 - share) / count).sqrt() + 1e-9).all()


def test_settings_of_twins_go_together_and_are_silent_where_nothing_looks_at_them() -> None:
    for name in ("twin_source", "twin_cosine", "twin_history"):
        with pytest.raises(ValueError, match=f"{name} does nothing without twins"):
            NegativesConfig.model_validate({name: "look" if name == "twin_source" else 1})
    with pytest.raises(ValueError, match="without a twin_source"):
        NegativesConfig(twins="only")
    plain = NegativesConfig().model_dump(mode="json")
    assert not [key for key in plain if key.startswith("twin")]  # keys of runs from before stay what they were
    config = NegativesConfig(twins="out", twin_source="look", twin_cosine=0.7)
    assert NegativesConfig.model_validate(config.model_dump(mode="json")) == config
    assert NegativesConfig.model_validate(plain) == NegativesConfig()
