"""How responsive a model is to the pairs of one batch: HaNoRec's factor on beta."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Responsiveness = Literal["stable", "as-released", "one"]
_TINY = 1e-8  # a scale below it is taken for zero


@torch.no_grad()
def responsiveness(gaps: Tensor, form: Responsiveness) -> Tensor:
    """``R = sigma(mean of the trimmed gaps) / sigma(mean of all)``, the gaps divided by their scale first.

    Section 2 of HaNoRec (arXiv 2511.18740). The largest and the smallest gap are dropped from the trimmed mean. R is
    above 1 where one lost pair drags the mean down, below 1 where one won pair lifts it.

    Args:
        gaps: reward gaps ``beta * delta`` of one forward over all workers, float ``[n]``.
        form: the scale. ``stable``: the mean of ``|gap|``. ``as-released``: the mean gap, or the mean of ``|gap|``
            where the mean is within 1e-8 of zero; the sign of a negative mean cancels, and near zero R jumps between
            1.37 (``1 / sigma(1)``) and 0. ``one``: R is 1.

    Returns:
        A scalar. 1 for fewer than three gaps, and where the scale is below 1e-8 (before the first step all gaps are 0).

    >>> float(responsiveness(torch.tensor([9.0, 1.0, 1.0, 1.0]), "stable"))  # sigma(1/3) / sigma(1)
    0.796...
    """
    if form == "one" or len(gaps) < 3:
        return gaps.new_ones(())
    mean, size = gaps.mean(), gaps.abs().mean()
    scale = size if form == "stable" else torch.where(mean.abs() > _TINY, mean, size)
    moved = scale.abs() >= (_TINY if form == "stable" else torch.finfo(gaps.dtype).tiny)
    scaled = gaps / torch.where(moved, scale, 1.0)
    trimmed = (scaled.sum() - scaled.max() - scaled.min()) / (len(gaps) - 2)
    ratio = torch.sigmoid(trimmed) / torch.sigmoid(scaled.mean())
    return torch.where(moved, ratio, torch.ones_like(ratio))
