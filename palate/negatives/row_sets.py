"""A set of items per row, stored as sorted pairs and never as a matrix, and draws from the sets or from outside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


def contains(keys: Tensor, values: Tensor) -> Tensor:
    """bool, shaped like ``values``: which of them are in ``keys`` (int64, ascending)."""
    if not len(keys):
        return torch.zeros_like(values, dtype=torch.bool)
    place = torch.searchsorted(keys, values).clamp_max(len(keys) - 1)
    return keys[place] == values


@dataclass(frozen=True)
class RowSets:
    """A set of classes per row: ``P`` rows over classes ``0 .. width - 1``.

    Attributes:
        keys: int64 ``[M]``, ``row * width + class``, ascending, none twice.
        count: number of rows.
        width: number of classes.
    """

    keys: Tensor
    count: int
    width: int

    @classmethod
    def of(cls, rows: Tensor, classes: Tensor, count: int, width: int) -> RowSets:
        """From pairs in any order, with repetitions."""
        return cls(torch.unique(rows * width + classes), count, width)

    @cached_property
    def rows(self) -> Tensor:
        """int64 ``[M]``."""
        return self.keys // self.width

    @cached_property
    def classes(self) -> Tensor:
        """int64 ``[M]``."""
        return self.keys % self.width

    @cached_property
    def starts(self) -> Tensor:
        """int64 ``[P + 1]``: row ``p`` owns ``keys[starts[p]:starts[p + 1]]``."""
        edges = torch.arange(self.count + 1, device=self.keys.device) * self.width
        return torch.searchsorted(self.keys, edges)

    @cached_property
    def sizes(self) -> Tensor:
        """int64 ``[P]``, members of each row's set."""
        return self.starts.diff()

    def has(self, classes: Tensor) -> Tensor:
        """bool ``[n, C]``: which of ``classes`` (int64 ``[n, C]``, the first ``n`` rows) are in their row's set."""
        rows = torch.arange(len(classes), device=self.keys.device).unsqueeze(1)
        return contains(self.keys, rows * self.width + classes)

    def union(self, other: RowSets) -> RowSets:
        """What is in either, row by row."""
        return RowSets(torch.unique(torch.cat([self.keys, other.keys])), self.count, self.width)

    def minus(self, other: RowSets) -> RowSets:
        """What is not in ``other``, row by row."""
        return RowSets(self.keys[~contains(other.keys, self.keys)], self.count, self.width)

    def intersection(self, other: RowSets) -> RowSets:
        """What is in both, row by row."""
        return RowSets(self.keys[contains(other.keys, self.keys)], self.count, self.width)

    def mask(self, scores: Tensor, first: int = 0, value: float = -torch.inf) -> None:
        """Set the members' scores in place; ``scores`` is ``[n, width]``, the rows from ``first`` on."""
        scores.view(-1)[self._cells(scores, first)] = value

    def keep(self, scores: Tensor, first: int = 0, value: float = -torch.inf) -> None:
        """Set the scores of all but the members in place, as :meth:`mask` does those of the members."""
        cells = self._cells(scores, first)
        members = scores.view(-1)[cells]
        scores.fill_(value)
        scores.view(-1)[cells] = members

    def _cells(self, scores: Tensor, first: int) -> Tensor:
        part = slice(int(self.starts[first]), int(self.starts[first + len(scores)]))
        return self.keys[part] - first * self.width


def draw_uniform(forbidden: RowSets, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """``count`` allowed classes per row, with replacement, each as likely as any other.

    The ``u``-th allowed class is ``u`` plus the number of forbidden classes before it, which a binary search finds:
    the ``j``-th forbidden class ``f_j`` comes before it exactly if ``f_j - j <= u``.

    Returns:
        classes int64 ``[P, count]`` and valid bool ``[P, count]``, False in rows that allow nothing.
    """
    rows, width = forbidden.count, forbidden.width
    device = forbidden.keys.device
    allowed = width - forbidden.sizes
    share = torch.rand(rows, count, generator=generator, device=device, dtype=torch.float64)
    number = (share * allowed.unsqueeze(1)).long().clamp_max(width - 1)
    order = torch.arange(len(forbidden.keys), device=device) - forbidden.starts[forbidden.rows]
    gaps = forbidden.rows * (width + 1) + forbidden.classes - order
    sought = torch.arange(rows, device=device).unsqueeze(1) * (width + 1) + number
    before = torch.searchsorted(gaps, sought, right=True) - forbidden.starts[:-1].unsqueeze(1)
    valid = (allowed > 0).unsqueeze(1).expand(-1, count)
    return torch.where(valid, number + before, 0), valid


def draw_weighted(
    forbidden: RowSets, weights: Tensor, count: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """``count`` allowed classes per row, with replacement, in proportion to ``weights`` (float64 ``[width]``).

    Works like :func:`draw_uniform`, with the mass of the classes in place of their number.
    """
    rows, width = forbidden.count, forbidden.width
    device = forbidden.keys.device
    ends = weights.cumsum(0)
    mass = weights[forbidden.classes]
    through = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
    # Forbidden mass before each forbidden class within its row, and of the whole row.
    earlier = through[:-1] - through[forbidden.starts[:-1]][forbidden.rows]
    taken = through[forbidden.starts[1:]] - through[forbidden.starts[:-1]]
    free = (ends[-1] - taken).clamp_min(0)
    share = torch.rand(rows, count, generator=generator, device=device, dtype=torch.float64)
    number = share * free.unsqueeze(1)
    # Rows follow one another on one axis, so that one binary search serves them all.
    stride = ends[-1] * 2
    gaps = forbidden.rows * stride + (ends - weights)[forbidden.classes] - earlier
    sought = torch.arange(rows, device=device).unsqueeze(1) * stride + number
    before = torch.searchsorted(gaps, sought, right=True)
    shift = through[before] - through[forbidden.starts[:-1]].unsqueeze(1)
    chosen = torch.searchsorted(ends, number + shift, right=True).clamp_max(width - 1)
    # Rounding may end on a forbidden neighbour, or a row may allow nothing of any weight.
    valid = (free > 1e-12 * ends[-1]).unsqueeze(1) & ~forbidden.has(chosen)
    return chosen, valid


def draw_members(
    sets: RowSets, count: int, generator: torch.Generator | None, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``count`` members of each row's set, with replacement: evenly, or in proportion to ``weights`` (``[width]``).

    Returns:
        classes int64 ``[P, count]`` and valid bool ``[P, count]``, False in rows with an empty set.
    """
    device = sets.keys.device
    share = torch.rand(sets.count, count, generator=generator, device=device, dtype=torch.float64)
    sizes = sets.sizes.unsqueeze(1)
    if not len(sets.keys):
        return torch.zeros(sets.count, count, dtype=torch.long, device=device), sizes.expand(-1, count) > 0
    first = sets.starts[:-1].unsqueeze(1)
    if weights is None:
        place, valid = first + (share * sizes).long(), sizes > 0
    else:
        through = torch.cat([weights.new_zeros(1), weights[sets.classes].cumsum(0)])
        mass = through[sets.starts[1:]].unsqueeze(1) - through[first]
        # Rounding may end outside of the row.
        place = torch.searchsorted(through[1:], through[first] + share * mass, right=True)
        place, valid = torch.minimum(torch.maximum(place, first), first + sizes - 1), (sizes > 0) & (mass > 0)
    return sets.classes[place.clamp(0, len(sets.keys) - 1)], valid.expand(-1, count)
