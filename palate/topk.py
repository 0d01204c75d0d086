"""The k largest of many scores, the one selection that serving, recommending and evaluating share."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError

# Columns of which only the largest is looked at first; fewer make the maxima cost more than the selection they save.
_LEAST_BLOCK = 64
# Fewer scores are selected from in one step.
_MANY = 2**16
# Scores with ties that are ordered at a time: bounds the memory of their keys (32 MiB).
_KEYS = 2**22


def checked_k(k: Any) -> int:
    """How many items are asked for, as a whole number of at least 1.

    >>> checked_k(10)
    10

    Raises:
        PalateError: it is none, such as 1.5, True or "5".
    """
    try:
        number = 0 if isinstance(k, bool) else operator.index(k)
    except TypeError:
        number = 0
    if number < 1:
        raise PalateError(f"k is {k!r}", "Ask for a whole number of items, at least 1.")
    return number


def best_items(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best columns of every row, best first; of equal scores the lower column comes first.

    A row is cut into blocks. Its ``k`` best columns are in the ``k`` blocks with the largest maxima, the lower block
    first among equal ones (were one elsewhere, each of those ``k`` blocks would hold a better one), and a maximum costs
    far less than a selection.

    Args:
        scores: float ``[B, N]``, not changed. NaN counts as larger than everything, so that it is seen.

    Returns:
        columns int64 ``[B, k]`` and scores ``[B, k]``; where fewer than ``k`` are above ``-inf``, the rest is padding:
        column 0 with score ``-inf``.

    >>> best_items(torch.tensor([[1.0, 3.0, 2.0, 3.0]]), 3)[0].tolist()
    [[1, 3, 2]]
    """
    width = scores.shape[1]
    block = _block(len(scores), width, k)
    if block:
        whole = width // block * block
        blocks = scores[:, :whole].view(len(scores), whole // block, block)
        chosen = _largest(blocks.amax(2), k)[1].sort(1).values
        some = blocks.gather(1, chosen.unsqueeze(2).expand(-1, -1, block)).flatten(1)
        some = torch.cat([some, scores[:, whole:]], dim=1)
        values, places = _largest(some, k)
        inside = chosen.gather(1, (places // block).clamp_max(k - 1)) * block + places % block
        columns = torch.where(places < k * block, inside, places + (whole - k * block))
    else:
        values, columns = _largest(scores, min(k, width))
    columns = columns.masked_fill(values == -torch.inf, 0)
    if width < k:
        pad = (0, k - width)
        columns = torch.nn.functional.pad(columns, pad)
        values = torch.nn.functional.pad(values, pad, value=-torch.inf)
    return columns, values


def merged(parts: Iterable[tuple[Tensor, Tensor]], k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` best items of a catalogue from the best of its parts: what :func:`best_items` finds in the whole.

    The best ``k`` of all are among the best ``k`` of their parts, whichever items these hold; of equal scores the lower
    item comes first here too.

    Args:
        parts: items int64 ``[B, k']`` and their scores ``[B, k']`` of each part, none twice; ``-inf``: padding. A part
            with fewer items than ``k`` may be narrower.

    Returns:
        items int64 ``[B, k]`` and scores ``[B, k]``, padded as by :func:`best_items`.

    >>> one, other = (torch.tensor([[4, 2]]), torch.tensor([[9.0, 5.0]])), (torch.tensor([[1]]), torch.tensor([[5.0]]))
    >>> merged([one, other], 2)[0].tolist()
    [[4, 1]]
    """
    items, scores = (torch.cat(one, dim=1) for one in zip(*parts, strict=True))
    items, order = items.sort(dim=1)
    places, scores = best_items(scores.gather(1, order), k)
    found = torch.nn.functional.pad(items, (0, max(0, 1 - items.shape[1]))).gather(1, places)
    return found.masked_fill(scores == -torch.inf, 0), scores


def _block(rows: int, width: int, k: int) -> int:
    """A block size that makes the maxima about as many as the columns looked at afterwards; 0 where none saves time."""
    block = max(_LEAST_BLOCK, 1 << round((width / max(k, 1)) ** 0.5).bit_length())
    return block if rows * width >= _MANY and 4 * k * block <= width else 0


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` largest of each row and their columns, int64 ``[B, k]``: the largest first, the lower first among
    equal."""
    # One more than is needed shows whether the last place is shared.
    values, columns = scores.topk(min(k + 1, scores.shape[1]), dim=1)
    clear = values[:, 1:] < values[:, :-1]
    values, columns = values[:, :k], columns[:, :k]
    if not bool(clear.all()):
        rows = (~clear.all(1)).nonzero()[:, 0]
        for some in torch.split(rows, max(1, _KEYS // scores.shape[1])):
            columns[some] = _in_order(scores[some], k)
            values[some] = scores[some].gather(1, columns[some])
    return values, columns


def _in_order(scores: Tensor, k: int) -> Tensor:
    """The same where scores are equal or NaN: by whole numbers that are ordered as (score, column from the end)."""
    if scores.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    width = scores.shape[1]
    bits = (scores.float() + 0.0).view(torch.int32)  # -0.0 + 0.0 = 0.0: equal scores have equal bits
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).masked_fill(scores.isnan(), 0x7FFFFFFF)
    keys = (ordered.long() << 32) | torch.arange(width - 1, -1, -1, device=scores.device)
    return width - 1 - (keys.topk(k, dim=1).values & 0xFFFFFFFF)
