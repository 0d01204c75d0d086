"""Evaluation on a sample of users, for models that are too slow for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.dataset import Cases, Dataset
from palate.data.sample import sample_users
from palate.errors import PalateError


@dataclass(frozen=True)
class UserSample:
    """How many users are drawn, and with which seed; see :func:`palate.data.sample.sample_users`."""

    users: int
    seed: int = 0

    def of(self, dataset: Dataset, cases: Cases) -> Cases:
        """The cases of the drawn users, the same people in every split.

        Raises:
            PalateError: none of them has a case.
        """
        drawn = sample_users(dataset, self.users, self.seed)
        sample = cases.take(np.flatnonzero(np.isin(cases.users, drawn)))
        if not len(sample):
            raise PalateError(
                f"none of the {len(drawn)} users drawn with seed {self.seed} has targets in this split",
                "Draw more with --users.",
            )
        return sample
