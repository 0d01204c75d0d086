"""The prefix tree of a catalogue's codes: what a search may write next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Level:
    """The ``n`` prefixes of one length, in lexical order.

    Attributes:
        codes: int64 ``[n]``, the last code of each.
        first: int64 ``[n + 1]``: the children of prefix ``p`` are the next level's ``first[p]`` to ``first[p + 1]``.
        leaves: int64 ``[n]``, items that begin so.
        of_leaf: int64 ``[num_items]``, the prefix of each leaf.
    """

    codes: Tensor
    first: Tensor
    leaves: Tensor
    of_leaf: Tensor

    def eligible(self, leaves: Tensor) -> Tensor:
        """bool ``[n]``: the prefixes of some of the leaves, bool ``[num_items]``."""
        return torch.bincount(self.of_leaf[leaves], minlength=len(self.codes)) > 0


@dataclass(frozen=True)
class Trie:
    """Leaves are items in the lexical order of their codes.

    Attributes:
        levels: by length; the prefixes of the last one are the leaves.
        items: int64 ``[num_items]``, the item of each leaf.
        leaf: int64 ``[num_items + 1]``, the leaf of each item; -1 of the padding, and of what is left out.
    """

    levels: Sequence[Level]
    items: Tensor
    leaf: Tensor

    def continued(self, number: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """The children of prefixes ``nodes`` (int64 ``[n]``) of the level ``number``, one after the other.

        Returns:
            int64 ``[M]``: whose child each is, from 0 to ``n - 1``, and its place in the next level.
        """
        begin = self.levels[number].first[nodes]
        counts = self.levels[number].first[nodes + 1] - begin
        owners = torch.arange(len(nodes), device=nodes.device).repeat_interleave(counts)
        return owners, torch.arange(len(owners), device=nodes.device) + (begin - counts.cumsum(0) + counts)[owners]

    @classmethod
    def of(cls, codes: Tensor, items: Tensor | None = None) -> Trie:
        """The tree of ``[num_items + 1, levels]`` codes, no two rows of which are the same.

        Args:
            items: int64 ``[n]``, ascending, the only ones in it; None: all, without the padding.
        """
        items = torch.arange(1, len(codes), device=codes.device) if items is None else items
        rows = codes[items]
        order = torch.arange(len(rows), device=codes.device)
        for column in rows.T.flip(0):
            order = order[torch.sort(column[order], stable=True).indices]
        ordered = rows[order]
        begins = torch.zeros(len(rows), dtype=torch.bool, device=codes.device)
        begins[:1] = True
        starts = []
        for column in ordered.T:
            begins = begins.clone()
            begins[1:] |= column[1:] != column[:-1]
            starts.append(begins)
        levels = []
        end = order.new_tensor([len(rows)])
        for depth, here in enumerate(starts):
            at = here.nonzero().squeeze(1)
            below = starts[min(depth + 1, len(starts) - 1)]
            first = torch.cat([below.new_zeros(1, dtype=torch.long), below.cumsum(0)])[torch.cat([at, end])]
            sizes = torch.diff(torch.cat([at, end]))
            levels.append(Level(ordered[at, depth], first, sizes, here.cumsum(0) - 1))
        leaf = torch.full((len(codes),), -1, dtype=torch.long, device=codes.device)
        leaf[items[order]] = torch.arange(len(rows), device=codes.device)
        return cls(levels, items[order], leaf)


def log_shares(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """``log softmax`` within each group: ``[M]`` of ``values`` ``[M]``, which are of the groups ``group``, ``[M]``."""
    largest = values.detach().new_full((groups,), -torch.inf).scatter_reduce(0, group, values.detach(), "amax")
    centred = values - largest[group]
    sums = values.new_zeros(groups).index_add(0, group, centred.exp())
    return centred - sums.log()[group]
