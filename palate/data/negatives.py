"""Different items that were not the answer, drawn in proportion to weights, for single cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError

Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]

_NEGATIVES = 0x6E6567  # a stream of the seed: other draws do not shift these
_ROUNDS = 4


def draw_negatives(dataset: Dataset, cases: Cases, *, weights: npt.NDArray[np.float64], count: int, seed: int) -> Items:
    """Items that the user had neither in training nor in the case's history: int32 ``[cases, count]``, all different.

    Validation and test items of the user are not left out: who trains may not know them. Each case has draws of its
    own, which depend on the seed, the user and the length of the history alone: a larger sample of users keeps them.

    Args:
        weights: ``[num_items + 1]``, see :class:`WeightedDraw`.

    Raises:
        PalateError: a user has had so much that fewer than ``count`` items are left.
    """
    draw, train = WeightedDraw(weights), dataset.train_sequences()
    out = np.zeros((len(cases), count), np.int32)
    for row, (user, history, targets) in enumerate(zip(cases.users, cases.histories, cases.targets, strict=True)):
        had = np.unique(np.concatenate([train[int(user)], history, targets]))  # held-out users have trained nothing
        rng = np.random.default_rng([seed, _NEGATIVES, int(user), len(history)])
        out[row] = draw(1, had, count, rng, spare=4)[0]
        if not out[row, -1]:
            raise PalateError(
                f"user '{dataset.user_ids[int(user)]}' leaves {np.count_nonzero(out[row])} items for {count} negatives",
                "Ask for fewer negatives or choices, or draw them uniformly.",
            )
    return out


@dataclass(frozen=True)
class WeightedDraw:
    """Draws different items for each row, one after another in proportion to weights, none of those that are banned.

    Draws with replacement whose repetitions are dropped are exactly that. Rows that are still short after a few rounds
    (nearly everything is banned) are finished with exponential races, which cost a number per item
    (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).

    Attributes:
        weights: float64 ``[num_items + 1]``, not negative; 0, padding, has none.
    """

    weights: npt.NDArray[np.float64]

    @cached_property
    def _bounds(self) -> npt.NDArray[np.float64]:
        bounds = np.cumsum(self.weights)
        return np.asarray(bounds / bounds[-1])

    def __call__(self, rows: int, banned: Ints | Items, count: int, rng: np.random.Generator, spare: int) -> Ints:
        """int64 ``[rows, count]``, filled up with 0 where fewer items are left.

        Args:
            banned: ascending keys ``row * (num_items + 1) + item``.
            spare: numbers drawn per row and round beyond ``count``: part of the random stream.
        """
        width = len(self.weights)
        drawn = np.zeros((rows, count), np.int64)
        if not self.weights.any():
            return drawn
        short = np.arange(rows)
        for _ in range(_ROUNDS):
            picks = np.searchsorted(self._bounds, rng.random((len(short), count + spare)), side="right")
            tried = np.concatenate([drawn[short], picks], axis=1)
            bad = (tried == 0) | _contains(banned, short[:, None] * width + tried) | _repeated(tried)
            drawn[short] = _first(tried, ~bad, count)
            short = short[drawn[short, -1] == 0]
            if not len(short):
                return drawn
        for row in short:
            left = self.weights.copy()
            left[banned[slice(*np.searchsorted(banned, [row * width, (row + 1) * width]))] - row * width] = 0
            have = int(np.count_nonzero(drawn[row]))
            left[drawn[row, :have]] = 0
            open_items = np.flatnonzero(left)
            race = rng.exponential(size=len(open_items)) / left[open_items]
            more = open_items[np.argsort(race)[: count - have]]
            drawn[row, have : have + len(more)] = more
        return drawn


def _contains(sorted_keys: Ints | Items, keys: Ints) -> npt.NDArray[np.bool_]:
    if not len(sorted_keys):
        return np.zeros(keys.shape, np.bool_)
    at = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return np.asarray(sorted_keys[at] == keys)


def _repeated(rows: Ints) -> npt.NDArray[np.bool_]:
    """Marks what is found further left in its row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    marks = np.empty_like(again)
    np.put_along_axis(marks, order, again, axis=1)
    return marks


def _first(rows: Ints, usable: npt.NDArray[np.bool_], count: int) -> Ints:
    """The first ``count`` usable values of each row, then zeros: int64 ``[rows, count]``."""
    place = np.cumsum(usable, axis=1) - 1
    row, column = np.nonzero(usable & (place < count))
    out = np.zeros((len(rows), count), np.int64)
    out[row, place[row, column]] = rows[row, column]
    return out
