"""What the nearest items of those that were just taken add to a ranker's scores.

A product of one query and one item vector a few dozen numbers wide forgets what two items have in common word by word,
and ids learnt beside the texts absorb them. Neighbours add it directly:

``s'(i) = s(i) + sum_{m, l} w[m, l] S_m[h_l, i]``

where ``h_1, h_2 ...`` are the newest items of the history (lag 1 is the last), ``S_m`` the cosine by source ``m``
(the training log, words, texts, pictures) of each item's nearest, and ``w`` a weight for each source and lag. An
item of the history gets nothing: what was taken already is left to ``repeat_bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.objectives.base import Bias

FILE = "neighbours.safetensors"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class NeighbourEffect:
    """What one item of the history adds to an item's score.

    Attributes:
        source: by which the two are alike.
        lag: 1 for the newest item of the history.
        cosine: of the two items.
        effect: what is added to the score.
    """

    source: str
    lag: int
    cosine: float
    effect: float


@dataclass(frozen=True)
class Additions:
    """What neighbours add to single scores, one source and lag after the other.

    They are not summed beforehand, since a sum of floats depends on the order: scores of a few items are to be those of
    whole rows to the last bit, and equal where these are equal.

    Attributes:
        rows: int64 ``[N]``, ascending: which history.
        items: int64 ``[N]``; an item may come several times in a row.
        values: float32 ``[N]``.
    """

    rows: torch.Tensor
    items: torch.Tensor
    values: torch.Tensor

    def moved(self, start: int, device: torch.device) -> Additions:
        """The same on a device, where the first history is row ``start``."""
        return Additions((self.rows + start).to(device), self.items.to(device), self.values.to(device))

    def add_to(self, scores: torch.Tensor, index: torch.Tensor) -> None:
        """Add them to the scores of some items, in place; on a CPU to the bit as :meth:`NeighbourScores.add_to` does.

        Args:
            scores: float32 ``[B, n]``, contiguous.
            index: int64 ``[n]``, ascending and none twice: the items.
        """
        near = (self.items >= index[0]) & (self.items <= index[-1])
        rows, items, values = self.rows[near], self.items[near], self.values[near]
        places = torch.searchsorted(index, items)
        here = index[places] == items
        _scatter_add(scores.view(1, -1), (rows * len(index) + places)[here][None], values[here][None])


class NeighbourScores:
    """Lists of neighbours and their weights. Not trained by gradient: the weights are fitted once the ranker is.

    Args:
        lists: one for each source, of the same items.
        weights: float ``[sources, lags]``, at least 0.
    """

    def __init__(self, lists: Sequence[NeighbourList], weights: npt.ArrayLike) -> None:
        self.lists = list(lists)
        self.weights = np.asarray(weights, np.float32)
        if not self.lists or self.weights.ndim != 2 or len(self.weights) != len(self.lists):
            raise ValueError(f"{len(self.lists)} lists do not go with weights {self.weights.shape}")
        self._tensors: dict[torch.device, list[tuple[torch.Tensor, torch.Tensor]]] = {}

    @cached_property
    def _stacked(self) -> sparse.csr_matrix:
        """The lists one under the other, so that one sparse product sums over lags and sources: the quickest way for
        many rows. Nothing that answers needs it."""
        return sparse.vstack([source_matrix(one) for one in self.lists], format="csr")

    @property
    def lags(self) -> int:
        return int(self.weights.shape[1])

    @property
    def sources(self) -> list[str]:
        return [one.source for one in self.lists]

    def of(self, histories: Sequences) -> sparse.csr_matrix:
        """What is added after each history: float32 CSR ``[B, num_items + 1]``, columns ascending in each row.

        Takes no longer for a larger catalogue, as a product of sparse matrices does.
        """
        columns, data = self._near(histories)
        rows, width = len(columns), self.lists[0].num_items + 1
        starts = np.arange(rows + 1) * columns.shape[1]
        added = sparse.csr_matrix((data.reshape(-1), columns.reshape(-1), starts), shape=(rows, width))
        added.sum_duplicates()
        _leave_out(added, histories)
        return added

    def additions(self, histories: Sequences, among: range) -> Additions:
        """The same, not summed: for scores that are made for some items after the others.

        Args:
            among: leave out all items but these, a range without a gap: those of a shard, say.
        """
        items, values = self._near(histories)
        width = self.lists[0].num_items + 1
        rows, places = np.nonzero((items >= max(among.start, 1)) & (items < among.stop))
        items, values = items[rows, places].astype(np.int64), values[rows, places]
        own = np.repeat(np.arange(len(histories)), histories.lengths) * width + histories.values
        new = np.isin(rows * width + items, own, invert=True)
        return Additions(*(torch.from_numpy(one[new]) for one in (rows, items, values)))

    def _near(self, histories: Sequences) -> tuple[npt.NDArray[np.int32], Floats]:
        """Neighbours of the newest items, ``[B, n]`` by source, then by lag, and what each adds; 0 and 0 is none.

        Of the lists it reads the rows of these items only.
        """
        latest = newest(histories, self.lags)
        rows = len(latest)
        items, values = [np.empty((rows, 0), np.int32)], [np.empty((rows, 0), np.float32)]
        for one, weights in zip(self.lists, self.weights, strict=True):
            lags = np.flatnonzero(weights)
            places = latest[:, lags]
            items.append(one.items[places].reshape(rows, len(lags) * one.keep))
            values.append((one.values[places] * weights[lags, None]).reshape(rows, len(lags) * one.keep))
        return np.concatenate(items, axis=1), np.concatenate(values, axis=1)

    def add_to(self, scores: torch.Tensor, histories: Sequences) -> None:
        """Add what :meth:`of` gives to whole rows of scores, in place: far less work than a sparse matrix made first.

        Args:
            scores: float32 ``[B, num_items + 1]``; what becomes of column 0, the padding, is of no meaning.
            histories: ``B`` of them.
        """
        latest = torch.from_numpy(newest(histories, self.lags)).to(scores.device)
        rows = torch.repeat_interleave(torch.arange(len(histories)), torch.from_numpy(histories.lengths))
        own = rows.to(scores.device), torch.from_numpy(histories.values).long().to(scores.device)
        before = scores[own]
        for (items, values), weights in zip(self._on(scores.device), self.weights, strict=True):
            lags = np.flatnonzero(weights)
            if not len(lags):
                continue
            places = latest[:, lags].reshape(-1)
            by_lag = torch.from_numpy(weights[lags]).to(scores.device)
            index = items.index_select(0, places).view(len(latest), -1).long()
            added = values.index_select(0, places).view(len(latest), len(lags), -1) * by_lag[:, None]
            _scatter_add(scores, index, added.view(len(latest), -1))
        scores[own] = before

    def _on(self, device: torch.device) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Items and cosines of each list; on the CPU the very arrays of the lists, elsewhere copied once."""
        if device not in self._tensors:
            arrays = [
                [np.require(part, requirements=["C", "W"]) for part in (one.items, one.values)] for one in self.lists
            ]
            self._tensors[device] = [
                (torch.from_numpy(items).to(device), torch.from_numpy(values).to(device)) for items, values in arrays
            ]
        return self._tensors[device]

    def at_positions(self, items: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> sparse.csr_matrix:
        """What is added after each item of packed sequences: float32 CSR ``[T, num_items + 1]``.

        Args:
            items: int64 ``[T]``, sequence after sequence, oldest first.
            lengths: int64 ``[B]``, each at least 1.
        """
        place = np.arange(len(items)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        back = np.arange(self.lags)
        index = np.arange(len(items))[:, None] - back
        latest = np.where(back <= place[:, None], items[np.maximum(index, 0)], 0)
        pasts = Sequences(
            items[_past_index(place)].astype(np.int32), np.concatenate([[0], np.cumsum(place + 1)]).astype(np.int64)
        )
        width = self._stacked.shape[1]
        columns = latest[:, None, :] + width * np.arange(len(self.lists))[:, None]
        values = np.where(latest[:, None, :] > 0, self.weights[None], 0).astype(np.float32)
        starts = np.arange(len(items) + 1) * self.weights.size
        picked = sparse.csr_matrix(
            (values.reshape(-1), columns.reshape(-1), starts), shape=(len(items), self._stacked.shape[0])
        )
        added = (picked @ self._stacked).tocsr()
        added.sort_indices()
        _leave_out(added, pasts)
        return added

    def effects(self, history: Sequence[int], item: int) -> list[NeighbourEffect]:
        """What every source and lag adds to one item's score, the largest first; nothing for an item of the history."""
        if item in history:
            return []
        found = []
        latest = newest(Sequences.from_lists([list(history)]), self.lags)[0]
        for one, weights in zip(self.lists, self.weights, strict=True):
            for lag, other in enumerate(latest):
                place = np.flatnonzero(one.items[other] == item)
                if other and len(place) and weights[lag] > 0:
                    cosine = float(one.values[other, place[0]])
                    found.append(NeighbourEffect(one.source, lag + 1, cosine, cosine * float(weights[lag])))
        return sorted(found, key=lambda one: -one.effect)

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """``neighbours.safetensors`` in an existing folder: the lists, what dense features were compared by, and the
        weights."""
        tensors: dict[str, npt.NDArray[Any]] = {"weights": self.weights}
        for number, one in enumerate(self.lists):
            tensors |= {f"{number}.{name}": array for name, array in one.arrays.items()}
        save_file(tensors, folder / FILE, metadata={str(n): one.source for n, one in enumerate(self.lists)})

    @classmethod
    def load(cls, folder: Path, num_items: int, part: range | None = None) -> Self | None:
        """Read what :meth:`save` wrote; None where there is no such file.

        Args:
            part: leave the lists in the file, mapped into memory, and check the rows of these items only: for one of
                several processes that have a part of the items each. Scores read the rows of the newest items.

        Raises:
            PalateError: a file that is damaged or of other items.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            # Tensors of torch are mapped, arrays of numpy are copies.
            with safe_open(path, framework="np" if part is None else "pt") as file:
                sources = [name for _, name in sorted((file.metadata() or {}).items(), key=lambda pair: int(pair[0]))]
                tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  (no dict)
                lists = []
                for number, name in enumerate(sources):
                    first = f"{number}."
                    arrays = {key.removeprefix(first): one for key, one in tensors.items() if key.startswith(first)}
                    if part is None:
                        lists.append(NeighbourList.of_arrays(name, arrays))
                    else:
                        lists.append(NeighbourList.mapped(name, arrays["items"], arrays["values"], part))
                made = cls(lists, tensors["weights"])
            weights = made.weights
            if any(one.num_items != num_items for one in lists) or not (np.isfinite(weights) & (weights >= 0)).all():
                raise ValueError(f"lists or weights do not fit {num_items} items")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise PalateError(f"{path} is damaged ({error})", "Train the run again, or get the bundle again.") from None
        return made

    def with_lists(self, lists: Sequence[NeighbourList]) -> NeighbourScores:
        """The same weights on other lists of the same sources (of a catalogue that has grown)."""
        return NeighbourScores(lists, self.weights)

    def describe(self) -> dict[str, Any]:
        """Facts for reports: coverage and weights by source."""
        return {
            one.source: {"coverage": round(one.coverage, 6), "weights": [round(float(w), 4) for w in weights]}
            for one, weights in zip(self.lists, self.weights, strict=True)
        }


def as_bias(added: sparse.csr_matrix, device: torch.device) -> Bias:
    """A sparse matrix of additions as scores carry it; explicit zeros are left out."""
    nonzero = added.data != 0
    rows = np.repeat(np.arange(added.shape[0]), np.diff(added.indptr))[nonzero]
    columns = added.indices[nonzero].astype(np.int64)
    values = torch.from_numpy(added.data[nonzero].astype(np.float32)).to(device)
    return Bias(torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device), values)


def joined(one: Bias | None, other: Bias | None) -> Bias | None:
    """Two biases that never touch the same cell (of the history, and of all but the history) as one."""
    if one is None or other is None:
        return one or other
    rows = torch.cat([one.rows, other.rows])
    order = torch.argsort(rows, stable=True)
    items, values = torch.cat([one.items, other.items]), torch.cat([one.values, other.values])
    return replace(one, rows=rows[order], items=items[order], values=values[order])


def _scatter_add(scores: torch.Tensor, index: torch.Tensor, values: torch.Tensor) -> None:
    """``scores[b, index[b, n]] += values[b, n]``, in an order that is the same every time."""
    if scores.device.type == "cpu":
        scores.scatter_add_(1, index, values)
    else:
        rows = torch.arange(len(index), device=index.device)[:, None].expand_as(index)
        scores.index_put_((rows, index), values, accumulate=True)


def source_matrix(one: NeighbourList) -> sparse.csr_matrix:
    """A list's matrix with columns ascending in each row."""
    matrix = one.matrix()
    matrix.sort_indices()
    return matrix


def newest(histories: Sequences, lags: int) -> npt.NDArray[np.int64]:
    """int64 ``[B, lags]``: the newest item of each history first, 0 where a history is shorter."""
    back = np.arange(1, lags + 1)
    index = histories.offsets[1:, None] - back
    there = back <= histories.lengths[:, None]
    values = histories.values if len(histories.values) else np.zeros(1, np.int32)
    return np.where(there, values[np.where(there, index, 0)], 0).astype(np.int64)


def _past_index(place: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For every position the indices of its sequence from the first item to its own, one position after the other."""
    counts = place + 1
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    first = np.repeat(np.arange(len(place)) - place, counts)
    index: npt.NDArray[np.int64] = first + np.arange(len(starts)) - starts
    return index


def _leave_out(added: sparse.csr_matrix, histories: Sequences) -> None:
    """Set what is added to the items of each history to zero, in place; columns ascend in each row."""
    if not added.nnz or not len(histories.values):
        return
    width = added.shape[1]
    keys = np.repeat(np.arange(added.shape[0], dtype=np.int64), np.diff(added.indptr)) * width + added.indices
    own = np.repeat(np.arange(len(histories), dtype=np.int64), histories.lengths) * width + histories.values
    place = np.minimum(np.searchsorted(keys, own), len(keys) - 1)
    added.data[place[keys[place] == own]] = 0
