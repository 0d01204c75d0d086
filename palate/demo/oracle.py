"""The oracle: the demo's generator as a recommender, so that a table shows what was possible at all."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from palate.data.dataset import Dataset, Part
from palate.demo.shop.truth import Truth
from palate.errors import PalateError
from palate.recommender import Histories, Recommender, as_sequences

LABEL = "oracle"
NOTE = (
    "The oracle is no model: it ranks by the probabilities that the purchases were drawn with (taste, likings, the "
    "moment), which no model learns from. What lies between it and 1 is chance."
)


class Oracle(Recommender):
    """Scores items by the logarithm of the generator's own probability of each at the moment of a case.

    A history stands for the validation or test case that it belongs to. Where cases have the same history, their
    probabilities are averaged. What the user has had has probability 0, as has what was not on sale yet.

    Args:
        data: a demo dataset.
        truth: what lies beside it.
    """

    name = "oracle"

    def __init__(self, data: Dataset, truth: Truth) -> None:
        self.num_items = data.num_items
        self._truth, self._users = truth, data.rows_user
        self._rows: dict[bytes, list[int]] = defaultdict(list)
        for cases, part in ((data.cases("valid"), Part.VALID), (data.cases("test"), Part.TEST)):
            rows = np.flatnonzero(data.parts == part)
            first = dict(zip(data.rows_user[rows[::-1]].tolist(), rows[::-1].tolist(), strict=True))
            for user, history in zip(cases.users.tolist(), cases.histories, strict=True):
                self._rows[_key(history)].append(first[user])

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        """Log-probabilities; see :meth:`palate.recommender.Recommender.score`.

        Raises:
            PalateError: a history of no case, of which the generator knows nothing.
        """
        scores = torch.stack([self._log_probability(history) for history in as_sequences(histories)])
        return scores if candidates is None else scores.gather(1, candidates)

    def _log_probability(self, history: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Tensor:
        rows = self._rows.get(_key(history))
        if rows is None:
            raise PalateError(
                "the oracle knows only the demo's own validation and test cases",
                "Evaluate it on the demo's dataset, with whole histories.",
            )
        worth = self._truth.utility(rows, self._users[rows])
        worth[:, history] = -np.inf
        each = torch.log_softmax(torch.from_numpy(worth).double(), dim=1)
        mean: Tensor = torch.logsumexp(each, dim=0) - np.log(len(rows))
        return mean.float()

    def save(self, folder: Path) -> NoReturn:
        """Refused: what it knows is the dataset's truth."""
        raise PalateError("the oracle is no model that could be kept", "It is made from the demo's truth.npz.")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Refused, as :meth:`save` is."""
        raise PalateError("the oracle is no model that could be kept", "It is made from the demo's truth.npz.")


def _key(history: np.ndarray[tuple[int], np.dtype[np.int32]]) -> bytes:
    return np.ascontiguousarray(history, np.int32).tobytes()
