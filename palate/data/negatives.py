"""Negatives: items that a user never had, drawn by the seed, uniformly or by popularity."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError

Source = Literal["uniform", "popularity"]


Ints = npt.NDArray[np.int64]


Items = npt.NDArray[np.int32]


_NEGATIVES = 0x6E6567  # a stream of the seed: other draws do not shift these


_ROUNDS = 4


def draw_negatives(dataset: Dataset, cases: Cases, *, source: Source, count: int, seed: int) -> Items:
    """Items that the user had neither in training nor in the case's history: int32 ``[cases, count]``, all different.

    Validation and test items of the user are not left out: who trains may not know them. Each case has draws of its
    own, which depend on the seed, the user and the length of the history alone: a larger sample of users keeps them.

    Args:
        source: ``uniform`` over the catalogue, or ``popularity``: in proportion to training interactions, so that
            negatives are as popular as positives are and popularity alone does not tell them apart.

    Raises:
        PalateError: a user has had so much that fewer than ``count`` items are left.
    """
    weights = np.ones(dataset.num_items + 1) if source == "uniform" else dataset.train_counts.astype(np.float64)
    weights[0] = 0.0
    bounds = np.cumsum(weights) / max(weights.sum(), 1.0)
    train = dataset.train_sequences()
    out = np.zeros((len(cases), count), np.int32)
    for row, (user, history, targets) in enumerate(zip(cases.users, cases.histories, cases.targets, strict=True)):
        had = np.concatenate([train[int(user)], history, targets])  # users that were held out have trained nothing
        rng = np.random.default_rng([seed, _NEGATIVES, int(user), len(history)])
        drawn = _draw(weights, bounds, had, count, rng)
        if len(drawn) < count:
            raise PalateError(
                f"user '{dataset.user_ids[int(user)]}' leaves {len(drawn)} items for {count} negatives",
                "Ask for fewer negatives or choices, or draw them uniformly.",
            )
        out[row] = drawn
    return out


def _draw(
    weights: npt.NDArray[np.float64],
    bounds: npt.NDArray[np.float64],
    had: npt.NDArray[np.int32],
    count: int,
    rng: np.random.Generator,
) -> Ints:
    """Up to ``count`` different items, one after another in proportion to ``weights``."""
    drawn = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        picks = np.searchsorted(bounds, rng.random(count + 4), side="right")
        picks = np.concatenate([drawn, picks[(picks < len(weights)) & ~np.isin(picks, had)]])
        drawn = picks[np.sort(np.unique(picks, return_index=True)[1])][:count]
        if len(drawn) == count:
            return drawn
    left = weights.copy()  # nearly everything is taken: draw from the rest alone
    left[had] = 0
    left[drawn] = 0
    rest = np.flatnonzero(left)
    more = min(count - len(drawn), len(rest))
    if more:
        drawn = np.concatenate([drawn, rng.choice(rest, more, replace=False, p=left[rest] / left[rest].sum())])
    return drawn
