"""Log-probabilities of items by the tree of their codes: of given ones, or of the best that a beam finds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from palate.rankers.tiger.decoder import Cache, CodeDecoder, Memory
from palate.rankers.tiger.trie import Trie, log_shares


@dataclass(frozen=True)
class Frontier:
    """Prefixes of one length that are followed, of each history.

    Attributes:
        nodes: int64 ``[B, W]``, places in the trie's level; -1 where a history has fewer.
        scores: float32 ``[B, W]``, their log-probabilities; ``-inf`` where there is none.
        slots: int64 ``[B, W]``, where ``path`` holds the codes before the last one; means nothing below a prefix that
            had one item only.
        path: keys and values of those codes, see :meth:`CodeDecoder.extend`.
    """

    nodes: Tensor
    scores: Tensor
    slots: Tensor
    path: Cache


@dataclass(frozen=True)
class Children:
    """All continuations of a frontier, flat, histories and then nodes ascending.

    Attributes:
        rows, nodes, slots: int64 ``[M]``, histories, places in the next level, and of the parent in ``path``.
        scores: float32 ``[M]``, log-probabilities of the longer prefixes.
        path: keys and values of the codes so far.
        level: the number of their level.
    """

    rows: Tensor
    nodes: Tensor
    slots: Tensor
    scores: Tensor
    path: Cache
    level: int


class Search:
    """Follows the codes of items behind histories that were read.

    The probability of a code is a softmax over those codes that continue the prefix in the catalogue, so that the
    probabilities of all items add up to one. A prefix of one item is followed without computing anything.
    """

    def __init__(self, decoder: CodeDecoder, trie: Trie, memory: Memory) -> None:
        self.decoder, self.trie, self.memory = decoder, trie, memory
        self.size = len(memory.last)
        self.depth = len(trie.levels)

    def exact(self, leaves: Tensor) -> Tensor:
        """Log-probabilities ``[B, C]`` of given leaves, int64 ``[B, C]``; ``-inf`` where one is -1."""
        children = self.first
        for level in self.trie.levels[:-1]:
            parents = torch.where(leaves < 0, -1, level.of_leaf[leaves.clamp_min(0)])
            children = self._children(_these(children, _once(parents)), children.level)
        return _these(children, leaves).scores

    def best(self, width: int, leaves: Tensor | None = None) -> tuple[Frontier, Tensor]:
        """Beam search.

        Args:
            width: prefixes that are kept at each level.
            leaves: bool ``[num_items]``, the only ones to look for; None: all.

        Returns:
            The leaves that were found, with their log-probabilities; and of every leaf, ``[B, num_items]``, the
            log-probability of the longest prefix of it that was looked at, divided evenly among its items.
        """
        children = self.first
        known = self._shared_out(children, None)
        while True:
            eligible = None if leaves is None else self.trie.levels[children.level].eligible(leaves)
            frontier = _best(children, self.size, width, eligible)
            if children.level + 1 == self.depth:
                return frontier, known
            children = self._children(frontier, children.level)
            known = self._shared_out(children, known)

    @cached_property
    def first(self) -> Children:
        """The prefixes of one code."""
        codes = self.trie.levels[0].codes
        scores = self.decoder.logits(self.memory.last, 0)[:, codes].log_softmax(1)
        rows = torch.arange(self.size, device=codes.device).repeat_interleave(len(codes))
        nodes = torch.arange(len(codes), device=codes.device).repeat(self.size)
        return Children(rows, nodes, torch.zeros_like(nodes), scores.flatten(), [], 0)

    def _children(self, frontier: Frontier, number: int) -> Children:
        """The continuations of prefixes at the level ``number``."""
        level, below = self.trie.levels[number], self.trie.levels[number + 1]
        there = frontier.nodes >= 0
        nodes = frontier.nodes.clamp_min(0)
        branching = there & (level.leaves[nodes] > 1)
        # Those to compute stand first, so that the others cost nothing.
        width = int(branching.sum(1).max()) if len(there) else 0
        order = torch.sort(branching, dim=1, descending=True, stable=True).indices[:, :width]
        parents, scores = nodes.gather(1, order), frontier.scores.gather(1, order)
        path = _taken(frontier.path, frontier.slots.gather(1, order))
        single = (there & ~branching).nonzero(as_tuple=True)
        ends = level.first[nodes[single]]
        parts = [(single[0], ends, torch.zeros_like(ends), frontier.scores[single])]
        if width:
            states, path = self.decoder.extend(self.memory, path, level.codes[parents], number)
            logits = self.decoder.logits(states, number + 1).flatten(0, 1)
            owners = branching.gather(1, order).flatten().nonzero().squeeze(1)
            group, made = self.trie.continued(number, parents.flatten()[owners])
            owner = owners[group]
            shares = log_shares(logits[owner, below.codes[made]], group, len(owners))
            parts.append((owner // width, made, owner % width, scores.flatten()[owner] + shares))
        rows, made, slots, values = (torch.cat(one) for one in zip(*parts, strict=True))
        order = torch.argsort(rows * len(below.codes) + made)
        return Children(rows[order], made[order], slots[order], values[order], path, number + 1)

    def _shared_out(self, children: Children, known: Tensor | None) -> Tensor:
        """What is known of each leaf, ``[B, num_items]``, once these prefixes are."""
        level = self.trie.levels[children.level]
        found = torch.full((self.size, len(level.codes)), torch.nan, device=children.scores.device)
        found[children.rows, children.nodes] = children.scores - level.leaves[children.nodes].log()
        of_leaves = found[:, level.of_leaf]
        return of_leaves if known is None else torch.where(of_leaves.isnan(), known, of_leaves)


def _once(nodes: Tensor) -> Tensor:
    """The different nodes of each row, ``[B, W]``, -1 behind them."""
    ordered = nodes.sort(1, descending=True).values
    repeated = torch.zeros_like(ordered, dtype=torch.bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    ordered = ordered.masked_fill(repeated, -1).sort(1, descending=True).values
    width = int((ordered >= 0).sum(1).max()) if len(ordered) else 0
    return ordered[:, : max(width, 1)]


def _these(children: Children, nodes: Tensor) -> Frontier:
    """The frontier of given nodes ``[B, W]``, all of which are among the children; -1 is none."""
    most = int(torch.cat([children.nodes, nodes.flatten()]).max()) + 1 if nodes.numel() else 1
    rows = torch.arange(len(nodes), device=nodes.device).unsqueeze(1)
    at = torch.searchsorted(children.rows * most + children.nodes, rows * most + nodes.clamp_min(0))
    at = at.clamp_max(max(len(children.nodes) - 1, 0))
    scores = children.scores[at].masked_fill(nodes < 0, -torch.inf)
    return Frontier(nodes, scores, children.slots[at], children.path)


def _best(children: Children, rows: int, width: int, eligible: Tensor | None) -> Frontier:
    """The frontier of each history's ``width`` most probable children; of equal ones those that come first."""
    scores = children.scores
    if eligible is not None:
        scores = scores.masked_fill(~eligible[children.nodes], -torch.inf)
    counts = torch.bincount(children.rows, minlength=rows)
    place = torch.arange(len(scores), device=scores.device) - (counts.cumsum(0) - counts)[children.rows]
    grid = scores.new_full((rows, int(counts.max()) if rows else 0), -torch.inf)
    grid[children.rows, place] = scores
    values, columns = torch.sort(grid, dim=1, descending=True, stable=True)
    values, columns = values[:, :width], columns[:, :width]
    at = (columns + (counts.cumsum(0) - counts).unsqueeze(1)).clamp_max(max(len(scores) - 1, 0))
    nodes = children.nodes[at].masked_fill(values == -torch.inf, -1)
    return Frontier(nodes, values, children.slots[at], children.path)


def _taken(path: Cache, slots: Tensor) -> Cache:
    """The paths ``[B, heads, S, ...]`` at ``slots``, ``[B, W]``."""
    rows = torch.arange(len(slots), device=slots.device).unsqueeze(1)
    return [(key.transpose(1, 2)[rows, slots].transpose(1, 2), value.transpose(1, 2)[rows, slots].transpose(1, 2))
            for key, value in path]  # fmt: skip
