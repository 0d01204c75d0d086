"""A seeded sample of users, for models that are too slow to be judged on all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset, Part
from palate.errors import PalateError

_PARTS = {"train": Part.TRAIN, "valid": Part.VALID, "test": Part.TEST}


def sample_users(
    dataset: Dataset, n: int, seed: int = 0, split: Literal["train", "valid", "test"] | None = None
) -> npt.NDArray[np.int64]:
    """``n`` users, drawn without replacement: sorted rows of the user table, int64 ``[min(n, users)]``.

    Every user gets a place in a queue that depends on the seed alone; the first ``n`` are taken. So the users of a
    small sample are among those of a larger one, and all splits draw from the same queue: where everyone has targets
    in both (leave-last-out), the users of a sample are the same for validation and test.

    Args:
        split: only users with an interaction in this split stand in the queue; None: everyone.

    Raises:
        PalateError: ``n`` is below 1.
    """
    if n < 1:
        raise PalateError(f"a sample of {n} users has nobody in it", "Give --users at least 1.")
    queue = np.random.default_rng(seed).permutation(dataset.num_users)
    if split is not None:
        there = np.zeros(dataset.num_users, np.bool_)
        there[dataset.rows_user[dataset.parts == _PARTS[split]]] = True
        queue = queue[there[queue]]
    return np.sort(queue[:n]).astype(np.int64)


@dataclass(frozen=True)
class UserSample:
    """How many users are looked at, and the seed that draws them."""

    users: int
    seed: int = 0

    def of(self, dataset: Dataset, split: Literal["valid", "test"], cases: Cases) -> Cases:
        """The cases of the sampled users of a split."""
        rows = np.isin(cases.users, sample_users(dataset, self.users, self.seed, split))
        return cases.take(np.flatnonzero(rows))

    def facts(self, drawn: int, there: int) -> dict[str, Any]:
        """What a report says of it: users drawn, out of how many, with which seed."""
        return {"drawn": drawn, "of": there, "seed": self.seed}
