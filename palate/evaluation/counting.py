"""Count what scores at least as high as the targets, in a matrix of scores of which each row has some."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.sequences import Sequences

# Floats counted at a time: 64 rows of 12,000 items are 3 MB, which stays in the cache between the two passes.
_BLOCK = 1 << 20
# Above this many items a float32 can no longer count them one by one.
_EXACT_FLOAT32 = 1 << 24


def sorted_targets(values: Tensor, targets: Sequences, missed: npt.NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
    """Scores and items of the targets, best first: ``[B, most targets]``, padded with -inf and 0.

    Args:
        values: ``[targets]``, their scores.
        missed: bool ``[targets]``, the last ones of each row: these count as -inf, which every score reaches.
    """
    real = np.arange(targets.lengths.max()) < targets.lengths[:, None]
    padded = np.zeros(real.shape, np.int64)
    padded[real] = targets.values
    items = torch.from_numpy(padded).to(values.device)
    scores = torch.full(items.shape, -torch.inf, device=values.device)
    scores[torch.from_numpy(real).to(values.device)] = values
    real[real] = ~missed
    scores.masked_fill_(torch.from_numpy(~real).to(values.device), -torch.inf)
    # The sort is stable, missed targets stand behind the others and padding behind both: so they do among -inf.
    best, at = scores.sort(dim=1, descending=True, stable=True)
    return best, items.gather(1, at)


def count(scores: Tensor, best: Tensor, targets: Sequences) -> Tensor:
    """How many of a row's scores reach those of its targets: int64 ``[B, most targets]``."""
    counts = torch.zeros(best.shape, dtype=torch.int64, device=scores.device)
    columns = scores.shape[1]
    exact = torch.float32 if columns < _EXACT_FLOAT32 else torch.float64
    block = max(1, _BLOCK // max(columns, 1))
    reached = torch.empty((min(block, len(scores)), columns), dtype=torch.float32, device=scores.device)
    with_more = _rows_with_more_than(targets)
    for start in range(0, len(scores), block):
        for j in range(best.shape[1]):
            stop = min(start + block, with_more[j])
            if stop <= start:
                break
            # 1.0 and 0.0 summed as floats: several times faster than summing booleans.
            ones = torch.ge(scores[start:stop], best[start:stop, j : j + 1], out=reached[: stop - start])
            counts[start:stop, j] = ones.sum(1, dtype=exact).long()
    return counts


def count_removed(scores: Tensor, best: Tensor, targets: Sequences, removed: Sequences) -> Tensor:
    """How many of the removed items :func:`count` has counted: int64 ``[B, most targets]``."""
    row = torch.from_numpy(np.repeat(np.arange(len(removed)), removed.lengths)).to(scores.device)
    values = scores[row, torch.from_numpy(removed.values.astype(np.int64)).to(scores.device)]
    offsets = torch.from_numpy(removed.offsets).to(scores.device)
    counts = torch.zeros(best.shape, dtype=torch.int64, device=scores.device)
    for j, rows in enumerate(_rows_with_more_than(targets)):
        stop = int(removed.offsets[rows])
        running = torch.zeros(stop + 1, dtype=torch.int64, device=scores.device)
        torch.cumsum(values[:stop] >= best[row[:stop], j], 0, out=running[1:])
        counts[:rows, j] = running[offsets[1 : rows + 1]] - running[offsets[:rows]]
    return counts


def _rows_with_more_than(targets: Sequences) -> list[int]:
    """``[j]``: how many rows have more than ``j`` targets; they are the first ones, for rows come sorted by that."""
    lengths = targets.lengths
    return [int(rows) for rows in np.searchsorted(-lengths, -np.arange(lengths.max()), side="left")]
