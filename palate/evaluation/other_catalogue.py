"""A recommender that answers for another catalogue than the one it was trained on: yesterday's model, today's items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.recommender import Histories, Recommender, as_sequences


class NotANumber(PalateError):
    """A model's scores are NaN."""


class OtherCatalogue(Recommender):
    """Items are matched by their ids. One that the model does not know is not found by it (its score is ``-inf``), and
    is left out of histories.

    Args:
        model: of the whole catalogue.
        own: the catalogue it was trained on.
        other: the one whose items are scored.
    """

    name: ClassVar[str] = "other-catalogue"

    def __init__(self, model: Recommender, own: Catalogue, other: Catalogue) -> None:
        self.model, self.num_items, self.batch_size = model, len(other), model.batch_size
        self.to_model = other.indices_in(own)
        self._columns = torch.from_numpy(self.to_model.astype(np.int64))

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """bool ``[num_items + 1]``: which items of the other catalogue the model knows."""
        return self.to_model > 0

    @property
    def reads_times(self) -> bool:
        return self.model.reads_times

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        items = self.to_model[rows.values]
        scores = self.model.score(replace(rows, values=items).only(items > 0)).float()
        if torch.isnan(scores).any():
            raise NotANumber("the model gave scores that are not numbers (NaN)", "Train it again with a lower rate.")
        columns = self._columns.to(scores.device)
        found = scores[:, columns]
        found[:, columns == 0] = -torch.inf
        return found if candidates is None else found.gather(1, candidates.to(found.device))

    def cost(self) -> dict[str, float]:
        return self.model.cost()

    def save(self, folder: Path) -> NoReturn:
        raise NotImplementedError("only the model itself is saved")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise NotImplementedError("only the model itself is saved")

    def describe(self) -> dict[str, Any]:
        return self.model.describe()
