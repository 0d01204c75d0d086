"""Small random worlds that the evaluation tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from palate.recommender import Histories, Recommender, as_sequences


class Fixed(Recommender):
    """Scores that are a function of the history's length and a table: any pattern of scores a test wants."""

    name = "fixed"

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.num_items = table.shape[1] - 1

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = torch.from_numpy(as_sequences(histories).lengths) % len(self.table)
        scores = self.table[rows].clone()
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise NotImplementedError
