"""The whole model of a training whose table of ids is sharded: gathered into files, a block of rows at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from palate.rankers.sequential import SequentialRanker
from palate.rankers.sharded_ids import BLOCK_ROWS, sharded_ids
from palate.rankers.stored import save_sequential
from palate.runs.workers import Workers
from palate.storage.files import atomic_folder


@contextmanager
def whole_model(model: SequentialRanker, workers: Workers, folder: Path) -> Iterator[Path]:
    """A folder with the model as :meth:`SequentialRanker.save` writes it, for the length of the block.

    In the block all workers score with the vectors of that file, which on a CPU are mapped into memory, not copied.
    They call it together, with the model in eval mode.

    Args:
        folder: of the run, which all workers see.
    """
    place = folder / "checkpoints" / "validated"
    if workers.main:
        with atomic_folder(place, replace=True) as part:
            _write(model, part)
    else:
        _write(model, None)
    workers.wait()
    model._table = load_file(place / "items.safetensors")["items"].to(workers.device)
    yield place
    model._table = None
    if workers.main:  # the others have read it: a validation ends by joining what all have found
        shutil.rmtree(place)


def move_files(source: Path, target: Path) -> None:
    """Move the files of a folder into another one on the same file system."""
    for file in source.iterdir():
        file.replace(target / file.name)


@torch.no_grad()
def _write(model: SequentialRanker, folder: Path | None) -> None:
    """Read all rows of the table and the vectors of all items, and write the model's files; without a folder, only let
    the first worker read."""
    ids = sharded_ids(model)
    assert ids is not None
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
