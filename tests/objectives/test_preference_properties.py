"""What must hold for every preference objective, whatever the scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from preference_helpers import SETTINGS, make, pairs, slopes
from torch import Tensor

from palate.errors import PalateError
from palate.objectives import PREFERENCES, Pairs, Preference, pair_weights
from palate.objectives.preference import row_mean

NAMES = sorted(SETTINGS)
every = pytest.mark.parametrize("name", NAMES)
# bce judges each item by itself, the others compare.
comparing = pytest.mark.parametrize("name", [name for name in NAMES if name != "bce"])
batches = st.builds(pairs, rows=st.integers(3, 7), width=st.integers(1, 6), seed=st.integers(0, 10_000))
few = settings(max_examples=15, deadline=None)


def same(got: tuple[Tensor, ...], want: tuple[Tensor, ...]) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@comparing
@few
@given(batch=batches, shift=st.floats(-50, 50), reference=st.floats(-50, 50))
def test_a_constant_on_all_scores_of_a_model_changes_nothing(
    name: str, batch: Pairs, shift: float, reference: float
) -> None:
    """A softmax's normaliser is such a constant: raw scores serve as well as log-probabilities."""
    assert batch.reference_chosen is not None
    assert batch.reference_rejected is not None
    moved = replace(
        batch,
        chosen=(batch.chosen + shift).detach().requires_grad_(),
        rejected=(batch.rejected + shift).detach().requires_grad_(),
        reference_chosen=batch.reference_chosen + reference,
        reference_rejected=batch.reference_rejected + reference,
    )
    preference = make(name, **SETTINGS[name])
    same(slopes(preference, moved), slopes(preference, batch))


@few
@given(batch=batches)
def test_bce_is_the_cross_entropy_of_each_item_by_itself(batch: Pairs) -> None:
    mask, loss = batch.mask, torch.nn.functional.binary_cross_entropy_with_logits
    chosen = loss(batch.chosen, torch.ones_like(batch.chosen), reduction="none")
    rejected = loss(batch.rejected, torch.zeros_like(batch.rejected), reduction="none")
    each = chosen + row_mean(rejected, mask)
    same((make("bce")(batch).losses,), (each.masked_fill(~mask.any(1), 0.0),))


@every
@few
@given(batch=batches, seed=st.integers(0, 100))
def test_the_order_of_negatives_does_not_matter(name: str, batch: Pairs, seed: int) -> None:
    order = torch.randperm(batch.rejected.shape[1], generator=torch.Generator().manual_seed(seed))
    columns: dict[str, Any] = {
        field: getattr(batch, field)[:, order] for field in ("reference_rejected", "valid", "hardness")
    }
    moved = replace(batch, rejected=batch.rejected.detach()[:, order].requires_grad_(), **columns)
    preference = make(name, **SETTINGS[name])
    losses, left, right = slopes(preference, batch)
    same(slopes(preference, moved), (losses, left, right[:, order]))
    same((pair_weights(preference, moved),), (pair_weights(preference, batch)[:, order],))


@every
@pytest.mark.parametrize("junk", [0.0, 1e30, torch.inf, -torch.inf, torch.nan])
def test_what_is_not_valid_counts_for_nothing(name: str, junk: float) -> None:
    batch = pairs(seed=4)
    assert batch.valid is not None
    preference = make(name, **SETTINGS[name])
    kept = slopes(preference, batch)
    numbers = preference(batch).diagnostics
    out = ~batch.valid

    def spoil(values: Tensor | None) -> Tensor:
        assert values is not None
        return values.detach().masked_fill(out, junk)

    empty = out.all(1)
    assert empty.any()
    spoilt = replace(
        batch,
        chosen=batch.chosen.detach().masked_fill(empty, junk).requires_grad_(),
        rejected=spoil(batch.rejected).requires_grad_(),
        reference_rejected=spoil(batch.reference_rejected),
        hardness=spoil(batch.hardness),
    )
    losses, left, right = slopes(preference, spoilt)
    same((losses, left, right), kept)
    assert preference(spoilt).diagnostics == pytest.approx(numbers)
    assert not losses[empty].any()
    assert not left[empty].any()
    assert not right[out].any()
    assert not pair_weights(preference, spoilt)[out].any()


@every
def test_a_batch_without_a_valid_negative(name: str) -> None:
    batch = replace(pairs(), valid=torch.zeros(6, 4, dtype=torch.bool))
    result = make(name, **SETTINGS[name])(batch)
    assert not result.losses.any()
    assert result.diagnostics == {}
    result.losses.sum().backward()
    assert batch.chosen.grad is not None
    assert not batch.chosen.grad.any()


@every
@pytest.mark.parametrize("size", [1e2, 1e4, 1e8])
def test_large_scores_stay_finite(name: str, size: float) -> None:
    batch = pairs(dtype=torch.float32, masked=False)
    large = replace(
        batch,
        chosen=(batch.chosen.detach() * size).requires_grad_(),
        rejected=(batch.rejected.detach() * size).requires_grad_(),
    )
    preference = make(name, **SETTINGS[name])
    for values in (*slopes(preference, large), pair_weights(preference, large)):
        assert values.isfinite().all()


@few
@given(batch=batches)
def test_relatives_meet(batch: Pairs) -> None:
    """One negative: S-DPO and DMPO are DPO, the softmax is BPR. No margin: SimPO is BPR. No smoothing: cDPO is DPO."""
    plain = slopes(make("dpo", beta=0.3), batch)
    same(slopes(make("cdpo", beta=0.3, label_smoothing=0.0), batch), plain)
    bpr = slopes(make("bpr"), batch)
    same(slopes(make("simpo", beta=1.0, gamma=0.0), batch), bpr)
    assert batch.reference_rejected is not None
    one = Pairs(
        batch.chosen,
        batch.rejected[:, :1],
        batch.reference_chosen,
        batch.reference_rejected[:, :1],
        None if batch.valid is None else batch.valid[:, :1],
    )
    single = slopes(make("dpo", beta=0.3), replace(one, rejected=batch.rejected[:, :1].detach().requires_grad_()))
    for name in ("s-dpo", "dmpo"):
        moved = replace(one, rejected=batch.rejected[:, :1].detach().requires_grad_())
        same(slopes(make(name, beta=0.3), moved), single)
    moved = replace(one, rejected=batch.rejected[:, :1].detach().requires_grad_())
    same(slopes(make("softmax"), moved), slopes(make("bpr"), moved))
    # A reference that scores everything alike leaves the controls without one.
    flat = replace(
        batch,
        reference_chosen=torch.zeros_like(batch.chosen),
        reference_rejected=torch.zeros_like(batch.rejected),
    )
    same(slopes(make("dpo", beta=1.0), flat), bpr)
    same(slopes(make("s-dpo", beta=1.0), flat), slopes(make("softmax"), batch))


@every
@few
@given(batch=batches)
def test_pair_weights_are_the_slopes(name: str, batch: Pairs) -> None:
    preference = make(name, **SETTINGS[name])
    right = slopes(preference, batch)[2]
    with torch.no_grad():
        weights = pair_weights(preference, batch)
    same((weights,), (right.abs(),))
    assert not weights.requires_grad
    assert batch.chosen.grad is None


def test_pair_weights_in_inference_mode_and_from_inference_tensors() -> None:
    with torch.inference_mode():
        batch = Pairs(torch.zeros(2), torch.ones(2, 3), torch.zeros(2), torch.zeros(2, 3), torch.ones(2, 3).bool())
        weights = pair_weights(make("dpo", beta=0.5), batch)
    torch.testing.assert_close(weights, torch.full((2, 3), 0.5 * float(torch.sigmoid(torch.tensor(0.5))) / 3))


def test_half_precision_scores_are_widened_before_they_are_subtracted_from_another() -> None:
    batch = pairs(seed=2)
    half = Pairs(batch.chosen.detach().bfloat16(), batch.rejected.detach().bfloat16())
    assert half.deltas.dtype == torch.float32
    assert make("bpr")(half).losses.dtype == torch.float32
    assert pair_weights(make("bpr"), half).isfinite().all()


@every
def test_descent_raises_the_chosen_above_the_rejected(name: str) -> None:
    """The contract of every objective: the loss falls and the reward accuracy goes to 1."""
    preference = make(name, **SETTINGS[name])
    batch = pairs(rows=40, seed=7)
    optimizer = torch.optim.Adam([batch.chosen, batch.rejected], lr=0.1)
    before = preference(batch)
    for _ in range(60):
        optimizer.zero_grad()
        preference(batch).losses.sum().backward()
        optimizer.step()
    after = preference(batch)
    assert after.losses.mean() < before.losses.mean()
    assert before.diagnostics["reward_accuracy"] < 0.8
    assert after.diagnostics["reward_accuracy"] > 0.95
    assert after.diagnostics["reward_margin"] > before.diagnostics["reward_margin"]


@every
def test_a_reference_is_asked_for_exactly_where_it_is_used(name: str) -> None:
    preference = make(name, **SETTINGS[name])
    bare = pairs().without_reference()
    if preference.needs_reference:
        with pytest.raises(PalateError, match="reference"):
            preference(bare)
    else:
        same(slopes(preference, bare), slopes(preference, pairs()))


def test_pairs_that_do_not_fit_together_are_refused() -> None:
    score, table = torch.zeros(3), torch.zeros(3, 2)
    with pytest.raises(PalateError, match=r"\[P\] and \[P, N\]"):
        Pairs(table, score)
    with pytest.raises(PalateError, match=r"\[P\] and \[P, N\]"):
        Pairs(score, torch.zeros(2, 2))
    with pytest.raises(PalateError, match="half a reference"):
        Pairs(score, table, score)
    with pytest.raises(PalateError, match="'valid' of shape"):
        Pairs(score, table, valid=torch.ones(3).bool())
    with pytest.raises(PalateError, match="'hardness' of shape"):
        Pairs(score, table, hardness=score)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dpo", {"beta": 0}),
        ("dpo", {"beta": -1}),
        ("cdpo", {"label_smoothing": 0.5}),
        ("simpo", {"gamma": -0.1}),
        ("hanorec", {"sigma": -1}),
        ("hanorec", {"spread": 1.0}),
        ("hanorec", {"responsiveness": "wild"}),
        ("hanorec", {"noise": "none", "consistency": 1.0}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(PalateError, match="the test"):
        make(name, **options)


def test_names_are_corrected() -> None:
    with pytest.raises(PalateError, match=r"there is no preference named 's-dpa'.*Did you mean 's-dpo'"):
        PREFERENCES["s-dpa"]


def test_a_preference_of_ones_own() -> None:
    """One class with one method, in the registry like the built-in ones; weights and numbers come with it."""

    class Hinge(Preference):
        def losses(self, pairs: Pairs) -> tuple[Tensor, dict[str, float]]:
            return row_mean((1 - self.config.beta * pairs.deltas).clamp_min(0), pairs.mask), {"own": 1.0}

    with PREFERENCES.registered("hinge", Hinge):
        result = make("hinge", beta=0.5)(pairs())
        weights = pair_weights(make("hinge", beta=0.5), pairs(masked=False))
    assert result.diagnostics["own"] == 1
    assert "reward_accuracy" in result.diagnostics
    assert set(weights.flatten().tolist()) <= {0.0, 0.125}
