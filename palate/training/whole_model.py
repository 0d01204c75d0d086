"""The whole model of a training, in files: a table of ids that is sharded is gathered a block of rows at a time."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from palate.rankers.sequential import SequentialRanker
from palate.rankers.sharded_ids import BLOCK_ROWS, sharded_ids
from palate.rankers.stored import save_sequential
from palate.rankers.trained import TrainedRanker


@torch.no_grad()
def save_whole(model: TrainedRanker, folder: Path | None) -> None:
    """Write a model, which is in eval mode, as its own ``save`` does.

    Where its ids are sharded, all workers call it together: the first one with an existing folder, the others without,
    only to let the first one read.
    """
    ids = sharded_ids(model)
    if ids is None:
        if folder is not None:
            model.save(folder)
        return
    assert isinstance(model, SequentialRanker)  # no other has a table of ids
    files = [] if folder is None else [folder / "ids", folder / "vectors"]
    shapes = (ids.num_rows, ids.width), (ids.num_rows, model.items.out_dim)
    whole = [_mapped(file, shape) for file, shape in zip(files, shapes, strict=False)]
    for start in range(0, ids.num_rows, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, ids.num_rows) if whole else start
        index = torch.arange(start, stop, device=model.device)
        read = ids(index)
        blocks = read, model.items.rows(index, ids=read)
        for table, block in zip(whole, blocks, strict=False):
            table[start:stop] = block
    if folder is not None:
        save_sequential(model, folder, *whole)
        for file in files:
            file.unlink()


def _mapped(file: Path, shape: tuple[int, int]) -> Tensor:
    """A tensor that is a file's pages, so that it takes no memory that the system could not free."""
    return torch.from_file(str(file), shared=True, size=shape[0] * shape[1]).view(shape)
