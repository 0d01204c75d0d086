"""A sample of users: drawn once by seed, so that summaries, training and evaluation speak of the same people."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Dataset
from palate.errors import PalateError


def sample_users(dataset: Dataset, n: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """``n`` users, drawn uniformly; whoever draws from the same dataset with the same seed has the same ones.

    The split does not matter: a user without a target in some split is drawn like any other, and that split then has
    fewer cases. A larger sample of the same seed holds every smaller one, so a study can grow without starting again.

    Args:
        n: how many; all of them if the dataset has no more.
        seed: of the draw.

    Returns:
        int64 ``[min(n, users)]``: rows of the user table, ascending.

    Raises:
        PalateError: ``n`` is less than 1.
    """
    if n < 1:
        raise PalateError(f"a sample of {n} users is none", "Ask for at least 1.")
    return np.sort(user_order(dataset, seed)[:n])


def user_order(dataset: Dataset, seed: int = 0) -> npt.NDArray[np.int64]:
    """All users, rows of the user table, in the order in which :func:`sample_users` takes them."""
    rng = np.random.default_rng([seed, 0x75736572])  # "user": a stream of its own
    return rng.permutation(dataset.num_users).astype(np.int64)
