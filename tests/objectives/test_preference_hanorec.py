"""HaNoRec: worked examples of its equations, its weights, its noise, and how it meets DPO."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from preference_helpers import make, pairs, plain_response, rows_of, sigma, slopes

from palate.errors import PalateError
from palate.objectives import Pairs, pair_weights
from palate.objectives.hanorec import HaNoRec, HaNoRecConfig, divergence
from palate.objectives.responsiveness import responsiveness

NEUTRAL = {"hardness": "one", "responsiveness": "one", "noise": "none"}


def gaps(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def response(values: torch.Tensor, form: str) -> float:
    return float(responsiveness(values, form))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [NEUTRAL, {**NEUTRAL, "noise": "logits", "sigma": 0.0}], ids=["no noise", "sigma 0"]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_with_everything_neutral_it_is_dpo(settings: dict[str, str], seed: int) -> None:
    batch = pairs(seed=seed)
    for got, want in zip(
        slopes(make("hanorec", beta=0.2, **settings), batch), slopes(make("dpo", beta=0.2), batch), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_stable_responsiveness_by_hand() -> None:
    """Gaps 9, 1, 1, 1: mean |gap| 3; scaled 3, 1/3, 1/3, 1/3; without the ends 1/3; the mean of all is 1."""
    assert response(gaps(9, 1, 1, 1), "stable") == pytest.approx(sigma(1 / 3) / sigma(1))
    # A mean of zero: -3, 1, 1, 1 has mean |gap| 1.5; scaled -2, 2/3, 2/3, 2/3; trimmed 2/3.
    assert response(gaps(-3, 1, 1, 1), "stable") == pytest.approx(sigma(2 / 3) / sigma(0))


def test_as_released_responsiveness_by_hand() -> None:
    """Divided by the mean: 9, 1, 1, 1 becomes 3, 1/3, 1/3, 1/3, and a batch that is lost looks like one that is won."""
    assert response(gaps(9, 1, 1, 1), "as-released") == pytest.approx(sigma(1 / 3) / sigma(1))
    assert response(gaps(-9, -1, -1, -1), "as-released") == pytest.approx(sigma(1 / 3) / sigma(1))
    assert response(gaps(-9, -1, -1, -1), "stable") == pytest.approx(sigma(-1 / 3) / sigma(-1))
    # Within 1e-8 of zero the scale is the mean of |gap|.
    assert response(gaps(-3, 1, 1, 1), "as-released") == pytest.approx(sigma(2 / 3) / sigma(0))


@pytest.mark.parametrize("form", ["stable", "as-released"])
def test_responsiveness_equals_the_steps_in_plain_python(form: str) -> None:
    random = torch.Generator().manual_seed(0)
    for size in (3, 4, 17):
        values = torch.randn(size, generator=random, dtype=torch.float64)
        assert response(values, form) == pytest.approx(plain_response(values.tolist(), form), rel=1e-12)


def test_as_released_is_chaotic_where_the_mean_gap_is_near_zero() -> None:
    """A shift of all gaps by a thousandth takes it from 1.37 over 0.83 to 1e-43; the stable form does not notice."""
    base = gaps(1.16, -0.56, -0.1, -0.1, -0.1, -0.1, -0.1, -0.1)
    below, at, above = (response(base + shift, "as-released") for shift in (-1e-3, 0.0, 1e-3))
    assert below == pytest.approx(1.37, abs=0.01)
    assert at == pytest.approx(0.83, abs=0.01)
    assert 1e-44 < above < 1e-42
    stable = [response(base + shift, "stable") for shift in (-1e-3, 0.0, 1e-3)]
    assert max(stable) - min(stable) < 1e-3
    assert stable[1] == pytest.approx(0.83, abs=0.01)


@pytest.mark.parametrize("form", ["stable", "as-released"])
def test_short_batches_and_models_that_have_not_moved_have_responsiveness_one(form: str) -> None:
    assert response(gaps(), form) == 1
    assert response(gaps(5.0, -2.0), form) == 1
    assert response(torch.zeros(8), form) == 1
    assert response(gaps(1, 2, 4), "one") == 1
    assert response(gaps(1, 2, 4), form) != 1


def test_stable_is_one_below_its_smallest_scale() -> None:
    assert response(gaps(9, 1, 1, 1) * 1e-10, "stable") == 1
    assert response(gaps(9, 1, 1, 1) * 1e-7, "stable") != 1


def test_each_pair_has_its_own_beta_and_none_a_gradient_of_it() -> None:
    """Value -log sigma(b delta), slope b sigma(-b delta) with b = beta R h: R and h are constants to the gradient."""
    batch = pairs(rows=5, width=3, seed=1, masked=False)
    losses, _, right = slopes(make("hanorec", beta=0.4, noise="none"), batch)
    told = make("hanorec", beta=0.4, noise="none")(batch).diagnostics
    rows = rows_of(batch)
    found = [[(c - rc) - (y - r) for y, r in zip(ys, rs, strict=True)] for c, ys, rc, rs, _ in rows]
    r = plain_response([0.4 * delta for row in found for delta in row], "stable")
    betas = [[0.4 * r * h for h in row[4]] for row in rows]
    for n, (row, own) in enumerate(zip(found, betas, strict=True)):
        terms = [-math.log(sigma(b * delta)) for b, delta in zip(own, row, strict=True)]
        assert float(losses[n]) == pytest.approx(sum(terms) / 3)
        for k in range(3):
            assert float(right[n, k]) == pytest.approx(own[k] * sigma(-own[k] * row[k]) / 3)
    flat = sorted(b for own in betas for b in own)
    hardness = torch.tensor([row[4] for row in rows])
    assert told["responsiveness"] == pytest.approx(r)
    assert (told["beta_min"], told["beta_max"]) == pytest.approx((flat[0], flat[-1]))
    assert told["beta_mean"] == pytest.approx(sum(flat) / 15)
    for name, share in (("hardness_p05", 0.05), ("hardness_p50", 0.5), ("hardness_p95", 0.95)):
        assert told[name] == pytest.approx(float(torch.quantile(hardness, share)), rel=1e-5)


def test_beta_has_a_floor() -> None:
    """As released, R may come to 1e-43: the pairs are then all but left out, not divided by zero."""
    deltas = gaps(1.16, -0.56, -0.1, -0.1, -0.1, -0.1, -0.1, -0.1) + 1e-3
    zeros = torch.zeros(8, dtype=torch.float64)
    batch = Pairs(deltas, zeros.unsqueeze(1), zeros, zeros.unsqueeze(1))
    told = make("hanorec", hardness="one", responsiveness="as-released", noise="none")(batch).diagnostics
    assert told["responsiveness"] < 1e-42
    assert told["beta_min"] == told["beta_max"] == pytest.approx(1e-6)


def test_responsiveness_is_of_all_workers() -> None:
    """Two workers, of four rows and of two, gather what one would see; each keeps its own rows."""
    whole = pairs(rows=6, width=3, seed=5)
    preference = make("hanorec", noise="none")
    expected = preference(whole)
    valid = whole.mask
    everything = (0.1 * whole.deltas.detach())[valid]

    def part(rows: slice) -> Pairs:
        fields = ("chosen", "rejected", "reference_chosen", "reference_rejected", "valid", "hardness")
        return Pairs(**{name: getattr(whole, name)[rows] for name in fields}, gather=lambda own: everything)

    for rows in (slice(0, 4), slice(4, 6)):
        result = preference(part(rows))
        torch.testing.assert_close(result.losses, expected.losses[rows])
        assert result.diagnostics["responsiveness"] == pytest.approx(expected.diagnostics["responsiveness"])
        alone = preference(replace(part(rows), gather=lambda own: own))
        assert alone.diagnostics["responsiveness"] != pytest.approx(expected.diagnostics["responsiveness"])


def test_noise_is_drawn_once_on_the_policy_alone() -> None:
    """One number a score: the chosen item's is the same against all its negatives; the reference stays clean."""
    batch = pairs(rows=5, width=3, seed=2, masked=False)
    noisy = make("hanorec", **{**NEUTRAL, "noise": "logits", "sigma": 0.7}, beta=0.4)
    result = noisy(batch)
    drawn = 0.7 * torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    by_hand = replace(batch, chosen=batch.chosen + drawn[:, 0], rejected=batch.rejected + drawn[:, 1:])
    expected = make("dpo", beta=0.4)(by_hand)
    torch.testing.assert_close(result.losses, expected.losses)
    # The numbers in the log are of the clean scores.
    clean = make("dpo", beta=0.4)(batch).diagnostics
    assert {name: result.diagnostics[name] for name in clean} == pytest.approx(clean)
    assert clean["reward_margin"] != pytest.approx(expected.diagnostics["reward_margin"])
    assert not torch.equal(noisy(batch).losses, result.losses)  # the next forward draws anew


def test_responsiveness_comes_from_the_noisy_forward() -> None:
    batch = pairs(rows=5, width=3, seed=2, masked=False)
    settings = {"hardness": "one", "noise": "logits", "sigma": 2.0, "beta": 0.4}
    drawn = 2.0 * torch.randn(5, 4, generator=torch.Generator().manual_seed(2)).double()
    told = make("hanorec", **settings)(batch).diagnostics
    deltas = (batch.deltas + drawn[:, :1] - drawn[:, 1:]).detach().flatten()
    assert told["responsiveness"] == pytest.approx(plain_response((0.4 * deltas).tolist(), "stable"))


def test_the_noise_has_the_spread_that_was_asked_for() -> None:
    rows = 20_000
    zeros, table = torch.zeros(rows), torch.zeros(rows, 1)
    batch = Pairs(zeros, table, zeros, table, generator=torch.Generator().manual_seed(0))
    seen = HaNoRec(HaNoRecConfig(sigma=0.3))._perturbed(batch)
    for scores in (seen.chosen, seen.rejected):
        assert float(scores.mean()) == pytest.approx(0, abs=0.01)
        assert float(scores.std()) == pytest.approx(0.3, rel=0.03)
    assert float(seen.deltas.std()) == pytest.approx(0.3 * math.sqrt(2), rel=0.03)


def test_pair_weights_see_the_noise_to_come_and_leave_the_generator() -> None:
    batch = pairs(seed=3)
    assert batch.generator is not None
    noisy = make("hanorec", beta=0.4, sigma=0.9)
    before = batch.generator.get_state()
    with torch.no_grad():
        weights = pair_weights(noisy, batch)
    assert torch.equal(batch.generator.get_state(), before)
    torch.testing.assert_close(weights, slopes(noisy, batch)[2].abs())
    assert not torch.equal(batch.generator.get_state(), before)


def test_consistency_is_the_divergence_of_a_rows_two_distributions() -> None:
    batch = pairs(rows=4, width=3, seed=6)
    assert batch.valid is not None
    settings = {**NEUTRAL, "noise": "logits", "sigma": 0.8, "beta": 0.4}
    drawn = 0.8 * torch.randn(4, 4, generator=torch.Generator().manual_seed(6))
    extra = make("hanorec", **settings, consistency=2.0)(batch).losses
    batch.generator.manual_seed(6)  # type: ignore[union-attr]
    extra = extra - make("hanorec", **settings)(batch).losses
    for row in range(4):
        kept = [0] + [n + 1 for n in range(3) if batch.valid[row, n]]
        clean = [float(x) for x in torch.cat([batch.chosen[row : row + 1], batch.rejected[row]]).detach()]
        moved = [x + float(drawn[row, n]) for n, x in enumerate(clean)]
        p, q = ([math.exp(s[n]) / sum(math.exp(s[m]) for m in kept) for n in kept] for s in (clean, moved))
        expected = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert float(extra[row].detach()) == pytest.approx(2 * expected, abs=1e-9)
    assert float(extra[2].detach()) == 0  # the row without a valid negative


def test_the_divergence_has_a_finite_gradient_with_masked_infinities() -> None:
    batch = pairs(rows=4, width=3, seed=6)
    assert batch.valid is not None
    spoilt = replace(batch, rejected=batch.rejected.detach().masked_fill(~batch.valid, -torch.inf).requires_grad_())
    moved = replace(spoilt, rejected=spoilt.rejected + 0.5, chosen=spoilt.chosen - 0.5)
    found = torch.autograd.grad(divergence(spoilt, moved).sum(), (spoilt.chosen, spoilt.rejected))
    for gradient in found:
        assert gradient.isfinite().all()
    assert not found[1][~batch.valid].any()


def test_what_the_caller_must_supply_is_asked_for_by_name() -> None:
    batch = pairs()
    assert not make("hanorec", **NEUTRAL).needs_hardness
    preference = make("hanorec", noise="none")
    assert preference.needs_hardness
    with pytest.raises(PalateError, match="hardness"):
        preference(replace(batch, hardness=None))
    with pytest.raises(PalateError, match="generator"):
        make("hanorec", sigma=0.1)(replace(batch, generator=None))
    # Noise on adapters is in the scores already.
    noisy = replace(batch, generator=None, hardness=torch.ones_like(batch.rejected))
    clean = make("hanorec", noise="none")(noisy).losses
    assert torch.equal(make("hanorec", noise="lora", sigma=0.5)(noisy).losses, clean)
