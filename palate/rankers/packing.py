"""Sequences of different lengths in one batch without computing on padding.

Everything that works token by token (embedding, projections, feed-forward, loss) sees one flat row of real tokens.
Attention alone needs a grid: short sequences share its rows, and a mask keeps them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.sequences import NO_TIME, Sequences


@dataclass(frozen=True)
class PackedBatch:
    """Flat tokens of ``B`` sequences, ``T`` in all, none of them padding.

    Attributes:
        items: int64 ``[T]`` item indices, sequence after sequence, oldest first.
        lengths: int64 ``[B]``, each at least 1 (numpy: layouts are made on the host).
        width: the longest length that a sequence may have.
        device: where the tensors live.
        times: int64 ``[T]`` Unix milliseconds, :data:`palate.data.sequences.NO_TIME` where one is not known; None: none
            is.
        asked: int64 ``[B]``, when what follows each sequence is asked for, likewise.
    """

    items: Tensor
    lengths: npt.NDArray[np.int64]
    width: int
    device: torch.device
    times: Tensor | None = field(default=None, kw_only=True)
    asked: Tensor | None = field(default=None, kw_only=True)

    @classmethod
    def of(cls, sequences: Sequences, width: int, device: torch.device | str = "cpu") -> PackedBatch:
        """Pack the last ``width`` items of every sequence; an empty one is held by a single padding token."""
        device = torch.device(device)
        lengths = sequences.lengths
        if len(lengths) and (lengths.max() > width or lengths.min() == 0):
            sequences = sequences.last(width)
            if (empty := sequences.lengths == 0).any():
                places = sequences.offsets[:-1][empty]
                sequences = Sequences(
                    np.insert(sequences.values, places, 0),
                    np.concatenate([[0], np.cumsum(np.maximum(sequences.lengths, 1))]),
                    None if sequences.times is None else np.insert(sequences.times, places, NO_TIME),
                    sequences.asked,
                )
            lengths = sequences.lengths
        items = torch.from_numpy(sequences.values.astype(np.int64)).to(device)
        times, asked = (
            None if one is None else torch.tensor(one, device=device) for one in (sequences.times, sequences.asked)
        )
        return cls(items, lengths, width, device, times=times, asked=asked)

    def only(self, keep: npt.NDArray[np.bool_]) -> PackedBatch:
        """Some of the sequences.

        Args:
            keep: bool ``[B]``, which.
        """
        tokens = torch.from_numpy(np.flatnonzero(np.repeat(keep, self.lengths))).to(self.device)
        rows = torch.from_numpy(np.flatnonzero(keep)).to(self.device)
        times = None if self.times is None else self.times[tokens]
        asked = None if self.asked is None else self.asked[rows]
        return PackedBatch(self.items[tokens], self.lengths[keep], self.width, self.device, times=times, asked=asked)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """int64 ``[B]``: the first token of each sequence."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def last(self) -> Tensor:
        """int64 ``[B]``: the last token of each sequence."""
        return torch.from_numpy(self.starts + self.lengths - 1).to(self.device)

    def at_last(self, hidden: Tensor) -> Tensor:
        """``[B, d]``: what each sequence's last token has of ``hidden``, ``[T, d]``."""
        return hidden.index_select(0, self.last)

    def followed_by(self, last: Tensor) -> PackedBatch:
        """The sequences with one item more at each end: ``last``, int64 ``[B]``."""
        lengths = self.lengths + 1
        ends = torch.from_numpy(np.cumsum(lengths) - 1).to(self.device)
        items = self.items.new_empty(int(lengths.sum()))
        before = torch.ones(len(items), dtype=torch.bool, device=self.device)
        before[ends] = False
        items[before], items[ends] = self.items, last
        return PackedBatch(items, lengths, self.width + 1, self.device)

    @cached_property
    def positions(self) -> Tensor:
        """int64 ``[T]``: 0 for the oldest item of its sequence."""
        return self._send(np.arange(int(self.lengths.sum())) - np.repeat(self.starts, self.lengths))

    @cached_property
    def positions_from_end(self) -> Tensor:
        """int64 ``[T]``: 0 for the newest item of its sequence."""
        ends = np.repeat(self.starts + self.lengths - 1, self.lengths)
        return self._send(ends - np.arange(int(self.lengths.sum())))

    @cached_property
    def asked_at(self) -> Tensor:
        """int64 ``[T]``: when what follows each item is asked for, which is when the next one of its sequence was
        taken; of the last one what :attr:`asked` has. Where that is not known: when the item itself was taken."""
        assert self.times is not None
        following = self.times.roll(-1)
        following[self.last] = NO_TIME if self.asked is None else self.asked
        return torch.where(following == NO_TIME, self.times, following)

    def pasts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Every position with every different item of its past, the item at the position included.

        Returns:
            rows int64 ``[N]`` (positions, ascending), items int64 ``[N]``, lags int64 ``[N]``: 0 for the item at the
            position itself; of an item that occurs twice, the newer occurrence.
        """
        return self._all_pasts

    @cached_property
    def _all_pasts(self) -> tuple[Tensor, Tensor, Tensor]:
        places = np.arange(len(self.items)) - np.repeat(self.starts, self.lengths)
        counts = places + 1
        rows = np.repeat(np.arange(len(places)), counts)
        lags = places[rows] - (np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts))
        return self._past(rows, lags, rows - lags)

    def whole_pasts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same for the last position of each sequence only; rows are sequences."""
        rows = np.repeat(np.arange(len(self.lengths)), self.lengths)
        tokens = np.arange(len(rows))
        return self._past(rows, np.repeat(self.starts + self.lengths - 1, self.lengths) - tokens, tokens)

    def _past(
        self, rows: npt.NDArray[np.int64], lags: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]
    ) -> tuple[Tensor, Tensor, Tensor]:
        items = self.items.cpu().numpy()[tokens]
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        pairs = np.sort(owner * (int(items.max(initial=0)) + 1) + self.items.cpu().numpy())
        if (pairs[1:] == pairs[:-1]).any():
            order = np.lexsort((lags, items, rows))
            rows, lags, items = rows[order], lags[order], items[order]
            fresh = np.ones(len(rows), bool)
            fresh[1:] = (rows[1:] != rows[:-1]) | (items[1:] != items[:-1])
            rows, lags, items = rows[fresh], lags[fresh], items[fresh]
        return self._send(rows), self._send(items), self._send(lags)

    @cached_property
    def grid(self) -> Grid:
        return Grid.pack(self.lengths, self.width, self.device)

    def _send(self, array: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(array).to(self.device)


class OneSequence(PackedBatch):
    """A batch of a single sequence: nothing is packed, and all that follows from its length costs next to nothing.

    A service gets most requests alone, and at a few dozen tokens the layout would cost as much as the encoder.
    """

    @classmethod
    def of_newest(cls, history: Sequences, width: int, device: torch.device) -> OneSequence:
        """The newest ``width`` items of a single history; none are held by a single padding token."""
        items = history.values
        kept = np.array(items[-width:] if len(items) else [0], np.int64)
        times, asked = history.times if len(items) else None, history.asked
        return cls(
            torch.from_numpy(kept).to(device),
            np.array([len(kept)]),
            width,
            device,
            times=None if times is None else torch.tensor(times[-width:], device=device),
            asked=None if asked is None else torch.tensor(asked, device=device),
        )

    @cached_property
    def last(self) -> Tensor:
        return torch.tensor([len(self.items) - 1], device=self.device)

    def at_last(self, hidden: Tensor) -> Tensor:
        return hidden[-1:]

    @cached_property
    def positions(self) -> Tensor:
        return torch.arange(len(self.items), device=self.device)

    @cached_property
    def positions_from_end(self) -> Tensor:
        return torch.arange(len(self.items) - 1, -1, -1, device=self.device)

    def whole_pasts(self) -> tuple[Tensor, Tensor, Tensor]:
        newest = dict(zip(self.items.tolist(), range(len(self.items) - 1, -1, -1), strict=True))
        items = torch.tensor(list(newest), device=self.device)
        return torch.zeros_like(items), items, torch.tensor(list(newest.values()), device=self.device)

    @cached_property
    def grid(self) -> Grid:
        return Grid(None, None, None, len(self.items))


@dataclass(frozen=True)
class Grid:
    """Where each token stands in a grid of ``R`` rows and ``W`` columns, several sequences per row.

    Attributes:
        cells: int64 ``[T]``, the flat cell of each token; None: the cells are the tokens, in their order.
        tokens: int64 ``[R * W]``, the token in each cell (free cells repeat token 0 and are never read), or None.
        mask: bool ``[R, 1, W, W]``, True where the query's cell may look at the key's: same sequence, and not
            later where the grid is causal. None:
            every row is one sequence.
    """

    cells: Tensor | None
    tokens: Tensor | None
    mask: Tensor | None
    width: int

    @classmethod
    def pack(cls, lengths: npt.NDArray[np.int64], width: int, device: torch.device, causal: bool = True) -> Grid:
        """Lay sequences out in rows; ``causal``: none of its items sees a later one."""
        width = min(width, max(int(lengths.max()), 32)) if len(lengths) else width
        first_cell, rows = _fill_rows(lengths, width)
        starts = np.cumsum(lengths) - lengths
        within = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
        cells = np.repeat(first_cell, lengths) + within
        tokens = np.zeros(rows * width, np.int64)
        tokens[cells] = np.arange(len(cells))
        # Free cells see only themselves, so that their softmax is finite.
        owner = -1 - np.arange(rows * width, dtype=np.int64)
        owner[cells] = np.repeat(np.arange(len(lengths)), lengths)
        owners = torch.from_numpy(owner).to(device).view(rows, width)
        same = owners.unsqueeze(2) == owners.unsqueeze(1)
        mask = (torch.tril(same) if causal else same).unsqueeze(1)
        return cls(torch.from_numpy(cells).to(device), torch.from_numpy(tokens).to(device), mask, width)


def _fill_rows(lengths: npt.NDArray[np.int64], width: int) -> tuple[npt.NDArray[np.int64], int]:
    """First-fit-decreasing bin packing by counting: each row takes the longest sequences that still fit.

    Returns:
        The first cell of each sequence, and the number of rows.
    """
    order = np.argsort(-lengths, kind="stable")
    counts = np.bincount(lengths, minlength=width + 1).tolist()
    # Within ``order``, sequences of one length are neighbours; ``cursor[n]`` is the next one of length n.
    cursor = [0] * (width + 1)
    position = 0
    for length in range(width, 0, -1):
        cursor[length] = position
        position += counts[length]
    first_cell = np.zeros(len(lengths), np.int64)
    left, row = len(lengths), 0
    while left:
        free = width
        length = width
        while free > 0 and left:
            length = min(length, free)
            while length and not counts[length]:
                length -= 1
            if not length:
                break
            first_cell[order[cursor[length]]] = row * width + width - free
            cursor[length] += 1
            counts[length] -= 1
            free -= length
            left -= 1
        row += 1
    return first_cell, row
