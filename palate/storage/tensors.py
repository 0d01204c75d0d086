"""Arrays from files: read without pickle, and refused where they hold numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from palate.errors import PalateError
from palate.storage.small_files import check_regular

_ROWS = 65536  # of a matrix on disk, in memory at a time
_copies: ContextVar[bool] = ContextVar("copies", default=False)


@contextmanager
def in_memory() -> Iterator[None]:
    """Inside, :func:`load_tensors` copies tensors into memory, so that no later change of the files changes them.

    Mapped tensors change with their file, and reading them ends the process where the file was cut short.
    """
    token = _copies.set(True)
    try:
        yield
    finally:
        _copies.reset(token)


def load_tensors(path: Path, remedy: str, padded: Sequence[str] = ()) -> dict[str, Tensor]:
    """The tensors of a safetensors file, all of them finite; mapped into memory, unless :func:`in_memory`.

    Args:
        padded: tensors whose first entry is the padding's, and may be anything.

    Raises:
        PalateError: the file is missing or damaged, or a tensor holds NaN or infinity; it is named.
    """
    check_regular(path, remedy)
    try:
        tensors = load_file(path)
        if _copies.get():
            tensors = {name: one.clone() for name, one in tensors.items()}
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise PalateError(f"{path} is damaged ({error})", remedy) from None
    check_finite(path, {name: one[1:] if name in padded else one for name, one in tensors.items()}, remedy)
    return tensors


def check_finite(path: Path, tensors: Mapping[str, Tensor | npt.NDArray[Any]], remedy: str) -> None:
    """Refuse numbers that are none: a model would answer NaN, or the same to everybody.

    Raises:
        PalateError: naming the file and the tensor.
    """
    for name, one in tensors.items():
        if not is_finite(one):
            raise PalateError(f"{path}: the tensor '{name}' holds NaN or infinity", remedy)


def is_finite(values: Tensor | npt.NDArray[Any]) -> bool:
    """Whether all numbers are; a large matrix is read in blocks of rows."""
    if isinstance(values, Tensor):
        return not values.is_floating_point() or bool(torch.isfinite(values).all())
    if values.dtype.kind != "f":
        return True
    rows = np.atleast_1d(values)
    return all(bool(np.isfinite(rows[start : start + _ROWS]).all()) for start in range(0, len(rows), _ROWS))


def load_array(path: Path, *, mapped: bool = False) -> npt.NDArray[Any]:
    """The array of an ``.npy`` file.

    Args:
        mapped: leave it on the disk.

    Raises:
        ValueError: another kind of file, or one that was cut off.
        OSError: no such file.
    """
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError(f"{path.name} is an archive of arrays, not one array")
    return found if mapped else np.array(found)
