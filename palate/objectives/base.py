"""What an objective sees: factored scores, a batch of targets, and nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from palate.config import Config as Options


@dataclass(frozen=True)
class Bias:
    """What is added to a few of the scores: ``values[n]`` to the item ``items[n]`` at position ``rows[n]``.

    Attributes:
        rows: int64 ``[N]``, ascending.
        items: int64 ``[N]``; no item twice in a row.
        values: float ``[N]``, may carry a gradient.
    """

    rows: Tensor
    items: Tensor
    values: Tensor


@dataclass(frozen=True)
class Scores:
    """Scores of items for every target position, as factors: ``s[t, i] = queries[t] @ items[i] + bias``.

    Attributes:
        queries: float ``[T, d]``, what the model expects next at each position.
        items: float ``[num_items + 1, d]``, one vector per item; row 0 is padding. Of the items of ``index`` only,
            ``[n, d]``, if there is one.
        bias: added to a few of the scores, or None; it may name items that are not in the index.
        penalty: a scalar that the encoder wants minimised beside any objective (a load-balancing loss), or None.
        facts: named numbers of the encoder for the log.
        index: int64 ``[n]``, ascending and none twice: whose vectors ``items`` holds; None: all items'.
    """

    queries: Tensor
    items: Tensor
    bias: Bias | None = None
    penalty: Tensor | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    index: Tensor | None = None

    def at(self, index: Tensor) -> Tensor:
        """Scores ``[T, C]`` of the items ``index`` (int64 ``[T, C]``, its own items per row, or ``[C]``, shared).

        Where only some items have a vector here, ``index`` must be among them.
        """
        places = index if self.index is None else torch.searchsorted(self.index, index)
        if index.dim() == 1:
            products = self.queries @ self.items.index_select(0, places).T
            index = index.expand(len(products), -1)
        else:
            chosen = self.items.index_select(0, places.reshape(-1)).view(*index.shape, self.items.shape[1])
            products = torch.bmm(chosen, self.queries.unsqueeze(2)).squeeze(2)
        return products if self.bias is None else products + self._bias_at(index)

    def full(self) -> Tensor:
        """The whole matrix ``[T, num_items + 1]``.

        Raises:
            ValueError: only some items have a vector here.
        """
        if self.index is not None:
            raise ValueError(f"vectors of {len(self.index)} items only")
        products = self.queries @ self.items.T
        if self.bias is not None:
            products.index_put_((self.bias.rows, self.bias.items), self.bias.values, accumulate=True)
        return products

    def take(self, rows: Tensor) -> Scores:
        """The scores of some positions: ``rows`` int64 ``[P]``, ascending, none twice."""
        bias = self.bias
        if bias is not None:
            places = torch.searchsorted(rows, bias.rows)
            found = torch.zeros_like(places, dtype=torch.bool)
            inside = places < len(rows)
            found[inside] = rows[places[inside]] == bias.rows[inside]
            bias = Bias(places[found], bias.items[found], bias.values[found])
        return Scores(self.queries.index_select(0, rows), self.items, bias, index=self.index)

    def _bias_at(self, index: Tensor) -> Tensor:
        """The bias of each cell of ``index``, found by binary search in the sorted pairs (row, item)."""
        assert self.bias is not None
        if not len(self.bias.rows):
            return torch.zeros_like(index, dtype=self.queries.dtype)
        width = 1 + torch.maximum(self.bias.items.max(), index.max())
        keys, order = torch.sort(self.bias.rows * width + self.bias.items)
        cells = torch.arange(len(index), device=index.device).unsqueeze(1) * width + index
        place = torch.searchsorted(keys, cells).clamp_max(len(keys) - 1)
        return torch.where(keys[place] == cells, self.bias.values[order[place]], 0.0)


@dataclass(frozen=True)
class Batch:
    """The targets of one step and what may serve as a negative.

    Attributes:
        targets: int64 ``[T]``, the item that came next at each position.
        classes: int64 ``[n]``, ascending: the items that were trained on; only these are negatives (an item without a
            training interaction is never pushed away).
        counts: float ``[num_items + 1]``, training interactions of each item.
        weights: float ``[T]`` of mean 1, how much each target counts, or None for all alike.
        generator: where random draws come from, on the device of ``targets``.
        memo: what was computed of ``classes`` and ``counts``, which are the same in all steps of a training.
        share: what this worker's mean is multiplied by, so that the mean over all workers is the mean over all their
            targets: 1 for a lone worker, 0 where none of the targets is this worker's own.
        gather: joins a 1-d tensor over all workers, whose lengths may differ; None for a lone worker.
    """

    targets: Tensor
    classes: Tensor
    counts: Tensor
    weights: Tensor | None = None
    generator: torch.Generator | None = None
    memo: dict[tuple[object, ...], Tensor | None] = field(default_factory=dict, compare=False)
    share: float = 1.0
    gather: Callable[[Tensor], Tensor] | None = None

    def step_targets(self) -> Tensor:
        """int64, the targets of all workers; all of them call it together."""
        if self.gather is None:
            return self.targets
        return self.gather(self.targets if self.share else self.targets[:0])

    def once(self, key: tuple[object, ...], make: Callable[[], Tensor | None]) -> Tensor | None:
        """What ``make`` computes of ``classes`` and ``counts``, once for all batches that share the memo."""
        if key not in self.memo:
            self.memo[key] = make()
        return self.memo[key]

    def mean(self, losses: Tensor) -> Tensor:
        """The weighted mean of one loss per target, ``[T]``."""
        return losses.mean() if self.weights is None else (losses * self.weights).mean()


@dataclass(frozen=True)
class Loss:
    """A loss to minimise (scalar, mean over targets) and named numbers for the log."""

    value: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


class Objective(ABC):
    """Turns scores and a batch into a loss. Holds settings, no parameters and no state of the run.

    Attributes:
        Config: its settings; without any, all are refused.
    """

    Config: ClassVar[type[Options]] = Options
    config: Options

    def __init__(self, config: Options | None = None) -> None:
        self.config = config or self.Config()

    @abstractmethod
    def __call__(self, scores: Scores, batch: Batch) -> Loss:
        """The loss of one step."""
