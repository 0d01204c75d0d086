"""Random pairs, and every preference formula once more in plain Python, as its paper writes it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from palate.objectives import PREFERENCES, Pairs, Preference


def make(name: str, **settings: Any) -> Preference:
    kind = PREFERENCES[name]
    return kind(kind.Config.parse(settings, "the test"))


# One of each, with settings that make none a special case of another.
SETTINGS: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.3},
    "cdpo": {"beta": 0.3, "label_smoothing": 0.2},
    "s-dpo": {"beta": 0.7},
    "dmpo": {"beta": 0.4},
    "ipo": {"beta": 0.25},
    "simpo": {"beta": 1.5, "gamma": 0.8},
    "bpr": {"beta": 1.0},
    "softmax": {"beta": 1.0},
    "bce": {"beta": 1.0},
    "hanorec": {"beta": 0.3, "noise": "none"},
}


def pairs(
    rows: int = 6, width: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64, masked: bool = True
) -> Pairs:
    """Scores that require a gradient, a reference, hardness around 1; row 2 has no valid negative where ``masked``."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=dtype)

    valid = None
    if masked:
        valid = torch.rand(rows, width, generator=random) < 0.7
        valid[:, 0] = True
        valid[2] = False
    return Pairs(
        chosen=normal(rows).requires_grad_(),
        rejected=normal(rows, width).requires_grad_(),
        reference_chosen=normal(rows),
        reference_rejected=normal(rows, width),
        valid=valid,
        hardness=1 + 0.3 * torch.rand(rows, width, generator=random, dtype=dtype),
        generator=torch.Generator().manual_seed(seed),
    )


def slopes(preference: Preference, batch: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, and their sum's gradients to the chosen and rejected scores."""
    losses = preference(batch).losses
    left, right = torch.autograd.grad(losses.sum(), (batch.chosen, batch.rejected))
    return losses.detach(), left, right


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


Row = tuple[float, list[float], float, list[float], list[float]]


def rows_of(batch: Pairs) -> list[Row]:
    """Per row: chosen, valid rejected, their references, their hardness; as plain numbers."""
    found = []
    for row in range(len(batch.chosen)):
        kept = [n for n in range(batch.rejected.shape[1]) if batch.valid is None or bool(batch.valid[row, n])]

        def pick(values: Tensor | None, row: int = row, kept: list[int] = kept) -> list[float]:
            assert values is not None
            return [float(values[row, n]) for n in kept]

        assert batch.reference_chosen is not None
        found.append(
            (
                float(batch.chosen[row].detach()),
                pick(batch.rejected.detach()),
                float(batch.reference_chosen[row]),
                pick(batch.reference_rejected),
                pick(batch.hardness),
            )
        )
    return found


def plain(name: str, row: Row, response: float = 1.0) -> float:
    """The loss of one row as the paper states it; ``response`` is HaNoRec's R, which has no gradient."""
    chosen, rejected, ref_chosen, ref_rejected, hardness = row
    if not rejected:
        return 0.0
    s = SETTINGS[name]
    beta = s["beta"]
    count = len(rejected)
    win = beta * (chosen - ref_chosen)  # beta log(pi(y+) / pi_ref(y+))
    lose = [beta * (y - r) for y, r in zip(rejected, ref_rejected, strict=True)]
    if name == "dpo":
        return sum(-math.log(sigma(win - one)) for one in lose) / count
    if name == "cdpo":
        e = s["label_smoothing"]
        return sum(-(1 - e) * math.log(sigma(win - x)) - e * math.log(1 - sigma(win - x)) for x in lose) / count
    if name == "s-dpo":
        return -math.log(sigma(-math.log(sum(math.exp(one - win) for one in lose))))
    if name == "dmpo":
        return -math.log(sigma(win - sum(lose) / count))
    if name == "ipo":
        return sum(((win - one) / beta - 1 / (2 * beta)) ** 2 for one in lose) / count
    if name == "simpo":
        return sum(-math.log(sigma(beta * chosen - beta * one - s["gamma"])) for one in rejected) / count
    if name == "bpr":
        return sum(-math.log(sigma(chosen - one)) for one in rejected) / count
    if name == "softmax":
        return -math.log(math.exp(chosen) / (math.exp(chosen) + sum(math.exp(one) for one in rejected)))
    if name == "bce":
        return -math.log(sigma(chosen)) - sum(math.log(1 - sigma(one)) for one in rejected) / count
    assert name == "hanorec"
    betas = [max(1e-6, beta * response * h) for h in hardness]
    return sum(-math.log(sigma(b * (win - one) / beta)) for b, one in zip(betas, lose, strict=True)) / count


def plain_response(gaps: list[float], form: str) -> float:
    """HaNoRec's R, step by step."""
    mean, size = sum(gaps) / len(gaps), sum(abs(g) for g in gaps) / len(gaps)
    scale = size if form == "stable" or abs(mean) <= 1e-8 else mean
    scaled = sorted(g / scale for g in gaps)
    inner = scaled[1:-1]
    return sigma(sum(inner) / len(inner)) / sigma(sum(scaled) / len(scaled))
