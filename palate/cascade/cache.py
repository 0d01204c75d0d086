"""Lists that an expensive recommender has scored, so that each is scored only once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.ranking import shuffled
from palate.recommender import Recommender


class ScoredLists:
    """Scores of (history, items), by content.

    Args:
        recommender: scores what is not stored yet.
        batch_size: histories a question.

    Attributes:
        proposed: what a retriever has proposed, by history and conditions; see :class:`palate.cascade.cascade.Cascade`.
    """

    def __init__(self, recommender: Recommender, batch_size: int) -> None:
        self.recommender, self.batch_size = recommender, batch_size
        self.proposed: dict[bytes, Tensor] = {}
        self._scores: dict[bytes, Tensor] = {}

    def __len__(self) -> int:
        """Lists scored so far."""
        return len(self._scores)

    def forget(self, most: int) -> None:
        """Keep about ``most`` lists: the oldest go. For callers without an end, such as a service."""
        for stored in (self.proposed, self._scores):
            for key in list(stored)[: max(0, len(stored) - most)]:
                del stored[key]

    def of(self, histories: Sequences, items: Sequence[Tensor]) -> list[Tensor]:
        """A score for each of the ``items`` (int64 ``[n]``, different ones) of each history: float32 ``[n]``.

        A list is shown in an order that depends on what is in it alone: not on who proposed which item first.
        """
        orders = [shuffled(row[None])[0] for row in items]
        keys = [
            row + b"|" + one[order].numpy().tobytes()
            for row, one, order in zip(histories.row_keys(), items, orders, strict=True)
        ]
        # Lists of one length go together, each only once even where two users share a history.
        waiting: dict[int, dict[bytes, int]] = {}
        for number, key in enumerate(keys):
            if key not in self._scores:
                waiting.setdefault(len(items[number]), {}).setdefault(key, number)
        for length, some in waiting.items():
            rows = list(some.values())
            for start in range(0, len(rows), self.batch_size):
                numbers = rows[start : start + self.batch_size]
                shown = torch.stack([items[number][orders[number]] for number in numbers])
                self._ask(histories.take(numbers), shown, [keys[number] for number in numbers], length)
        found = []
        for key, order in zip(keys, orders, strict=True):
            found.append(torch.empty(len(order)).scatter_(0, order, self._scores[key]))
        return found

    def _ask(self, histories: Sequences, shown: Tensor, keys: Sequence[bytes], length: int) -> None:
        if not length:
            self._scores.update((key, torch.empty(0)) for key in keys)
            return
        with torch.no_grad():
            scores = self.recommender.score(histories, shown).detach().float().cpu()
        if scores.shape != shown.shape:
            raise PalateError(
                f"the model gave scores of shape {tuple(scores.shape)} instead of {tuple(shown.shape)}",
                "Mend its score().",
            )
        if torch.isnan(scores).any():
            raise PalateError("the model gave scores that are not numbers (NaN)", "Train it again with a lower rate.")
        self._scores.update((key, row.clone()) for key, row in zip(keys, scores, strict=True))
