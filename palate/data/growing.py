"""An array whose length is known only at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_STEP = 1 << 16


class Growing:
    """Appends in place: its memory is extended, where a list of pieces would be copied to join them."""

    def __init__(self, kind: npt.DTypeLike = np.float64) -> None:
        """``kind`` is the type of an array to which nothing is appended; else its values have one."""
        self._array: npt.NDArray[Any] = np.empty(0, kind)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def extend(self, values: npt.NDArray[Any]) -> None:
        """Append values; of several types the array takes the one that holds all, as ``np.concatenate`` does."""
        kind = np.result_type(self._array, values) if self._size else values.dtype
        if kind != self._array.dtype:
            self._array = self._array[: self._size].astype(kind)
        end = self._size + len(values)
        if end > len(self._array):
            self._array.resize(end + max(_STEP, end // 16), refcheck=False)
        self._array[self._size : end] = values
        self._size = end

    def done(self) -> npt.NDArray[Any]:
        """The array; nothing is appended any more."""
        self._array.resize(self._size, refcheck=False)
        return self._array
