"""Every preference objective against its formula in plain Python: values, and gradients by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from preference_helpers import SETTINGS, Row, make, pairs, plain, plain_response, rows_of, slopes

from palate.objectives import PREFERENCES, pair_weights

H = 1e-5


def test_no_objective_is_left_out() -> None:
    assert set(SETTINGS) == set(PREFERENCES)


def gaps_of(rows: list[Row]) -> list[float]:
    beta = SETTINGS["hanorec"]["beta"]
    return [
        beta * ((chosen - ref) - (y - r))
        for chosen, rejected, ref, refs, _ in rows
        for y, r in zip(rejected, refs, strict=True)
    ]


def difference(loss: Callable[[float], float]) -> float:
    return (loss(H) - loss(-H)) / (2 * H)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_values_and_gradients_equal_the_formula(name: str, seed: int) -> None:
    batch = pairs(seed=seed)
    rows = rows_of(batch)
    response = plain_response(gaps_of(rows), "stable") if name == "hanorec" else 1.0
    losses, left, right = slopes(make(name, **SETTINGS[name]), batch)
    weights = pair_weights(make(name, **SETTINGS[name]), batch)
    assert batch.valid is not None
    for n, row in enumerate(rows):
        chosen, rejected, *rest = row
        assert float(losses[n]) == pytest.approx(plain(name, row, response), abs=1e-9)
        if not rejected:
            assert float(losses[n]) == 0
            assert not left[n].any()
        else:
            slope = difference(lambda x: plain(name, (chosen + x, rejected, *rest), response))  # noqa: B023
            assert float(left[n]) == pytest.approx(slope, abs=1e-6)
        places = batch.valid[n].nonzero().flatten().tolist()
        assert not right[n][~batch.valid[n]].any()
        assert not weights[n][~batch.valid[n]].any()
        for k, place in enumerate(places):

            def moved(x: float, k: int = k) -> float:
                return plain(name, (chosen, [*rejected[:k], rejected[k] + x, *rejected[k + 1 :]], *rest), response)  # noqa: B023

            assert float(right[n, place]) == pytest.approx(difference(moved), abs=1e-6)
            assert float(weights[n, place]) == pytest.approx(abs(difference(moved)), abs=1e-6)


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_the_numbers_in_the_log(name: str) -> None:
    batch = pairs(seed=3)
    preference = make(name, **SETTINGS[name])
    beta = SETTINGS[name]["beta"]
    facts = preference(batch).diagnostics
    deltas, margins, wins, losers = [], [], [], []
    for chosen, rejected, ref, refs, _ in rows_of(batch):
        ref, refs = (ref, refs) if preference.needs_reference else (0.0, [0.0] * len(refs))
        wins += [beta * (chosen - ref)] if rejected else []
        losers += [beta * (y - r) for y, r in zip(rejected, refs, strict=True)]
        deltas += [(chosen - ref) - (y - r) for y, r in zip(rejected, refs, strict=True)]
        margins += [chosen - y for y in rejected]
    assert facts["reward_accuracy"] == pytest.approx(sum(d > 0 for d in deltas) / len(deltas))
    assert facts["reward_margin"] == pytest.approx(beta * sum(deltas) / len(deltas))
    assert facts["chosen_reward"] == pytest.approx(sum(wins) / len(wins))
    assert facts["rejected_reward"] == pytest.approx(sum(losers) / len(losers))
    assert facts["score_scale"] == pytest.approx(math.sqrt(sum(m * m for m in margins) / len(margins)))


def test_the_slopes_of_s_dpo_add_up_to_n_over_n_plus_1() -> None:
    """Where policy and reference agree; so beta is tuned anew for every number of negatives."""
    for count in (1, 4, 20):
        batch = pairs(rows=3, width=count, masked=False)
        same = type(batch)(batch.chosen, batch.rejected, batch.chosen.detach(), batch.rejected.detach())
        total = pair_weights(make("s-dpo", beta=0.5), same).sum(1)
        torch.testing.assert_close(total, torch.full_like(total, 0.5 * count / (count + 1)))


def test_cdpo_and_ipo_are_content_with_a_margin() -> None:
    """Their gradient is zero at log((1 - e) / e) / beta and at 1 / (2 beta), and turns beyond."""
    for name, target in (("cdpo", math.log(0.8 / 0.2) / 0.3), ("ipo", 1 / (2 * 0.25))):
        for offset, sign in ((-0.5, -1), (0.0, 0), (0.5, 1)):
            batch = pairs(rows=2, width=1, masked=False)
            at = type(batch)(
                torch.tensor([target + offset], dtype=torch.float64, requires_grad=True),
                torch.zeros(1, 1, dtype=torch.float64, requires_grad=True),
                torch.zeros(1, dtype=torch.float64),
                torch.zeros(1, 1, dtype=torch.float64),
            )
            slope = float(slopes(make(name, **SETTINGS[name]), at)[1])
            assert slope == pytest.approx(0, abs=1e-12) if sign == 0 else slope * sign > 0
