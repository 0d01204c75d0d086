"""Recommenders with known scores, for tests of cascades."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.recommender import Histories, Recommender, as_sequences


class Table(Recommender):
    """Scores of items that are the same for every history: ``[num_items + 1]``, column 0 of no account."""

    name: ClassVar[str] = "table"

    def __init__(self, scores: Any) -> None:
        self.table = torch.tensor(scores, dtype=torch.float32)
        self.table[0] = -torch.inf
        self.num_items = len(self.table) - 1

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        scores = self.table.expand(len(as_sequences(histories)), -1).clone()
        return scores if candidates is None else scores.gather(1, candidates)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise NotImplementedError


class Slow(Table):
    """Affords given candidates only, keeps count, and remembers what it was asked."""

    name: ClassVar[str] = "slow"
    whole_catalogue: ClassVar[bool] = False
    batch_size = 3

    def __init__(self, scores: Any) -> None:
        super().__init__(scores)
        self.asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.calls = 0

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        if candidates is None:
            raise PalateError("the whole catalogue would take a week", "Give --retriever RUN0.")
        rows = as_sequences(histories)
        self.calls += 1
        self.asked += [(tuple(h.tolist()), tuple(c.tolist())) for h, c in zip(rows, candidates, strict=True)]
        return super().score(rows, candidates)

    def cost(self) -> dict[str, float]:
        prompts = sum(len([item for item in items if item]) for _, items in self.asked)
        return {"prompts": prompts, "tokens": 100 * prompts, "seconds": 0.5}
