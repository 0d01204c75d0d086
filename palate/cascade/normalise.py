"""Scores of one list on a scale that another recommender's can share."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from palate.errors import PalateError, suggest

if TYPE_CHECKING:
    pass

Normalisation = Literal["standard", "rank"]


def finite(values: Tensor) -> Tensor:
    """Infinite scores as finite ones just beyond the others: float32 ``[n]``.

    >>> finite(torch.tensor([1.0, -torch.inf, 3.0])).tolist()
    [1.0, 0.0, 3.0]
    """
    real = values[torch.isfinite(values)]
    if len(real) == len(values):
        return values
    low, high = (float(real.min()), float(real.max())) if len(real) else (0.0, 0.0)
    return torch.nan_to_num(values, nan=0.0, posinf=high + 1, neginf=low - 1)


def unit(values: Tensor, normalise: Normalisation) -> Tensor:
    """Scores of one list on a scale that another recommender's can share: float32 ``[n]``.

    >>> unit(torch.tensor([2.0, 4.0, 6.0]), "rank").tolist()
    [0.0, 0.5, 1.0]
    >>> unit(torch.tensor([7.0, 7.0]), "standard").tolist()
    [0.0, 0.0]
    """
    if normalise not in ("standard", "rank"):
        raise PalateError(f"scores cannot be normalised by '{normalise}'", suggest(normalise, ["standard", "rank"]))
    values = finite(values).double()
    if len(values) < 2 or bool((values == values[0]).all()):
        return torch.zeros(len(values))
    if normalise == "rank":  # equal scores share the mean of their places
        return torch.from_numpy((rankdata(values.numpy()) - 1) / (len(values) - 1)).float()
    return ((values - values.mean()) / values.std(correction=0)).float()


def random_scores(seed: int, history: bytes, items: Tensor) -> Tensor:
    """A random order of a list, the same whenever the seed, the history and the set of items are: float32 ``[n]``."""
    inside = items.sort()
    key = blake2b(repr((seed, history)).encode() + inside.values.numpy().tobytes(), digest_size=8).digest()
    drawn = np.random.default_rng(int.from_bytes(key, "little")).permutation(len(items))
    return torch.empty(len(items)).scatter_(0, inside.indices, torch.from_numpy(drawn).float())
