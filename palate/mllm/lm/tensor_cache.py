"""Tensors kept under keys within a limit of bytes; the least recently used go first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from torch import Tensor


class TensorCache:
    """A cache of tensors, for several threads at once.

    Args:
        max_bytes: kept at most.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self._tensors: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tensors)

    def find(self, key: Hashable) -> Tensor | None:
        """What is kept under the key, or None."""
        with self._lock:
            if key in self._tensors:
                self._tensors.move_to_end(key)
            return self._tensors.get(key)

    def put(self, key: Hashable, tensor: Tensor) -> Tensor:
        """Keep a copy, and return it: a view would keep all that it belongs to."""
        copy = tensor.clone()
        with self._lock:
            if (before := self._tensors.pop(key, None)) is not None:
                self.bytes -= before.nbytes
            self._tensors[key] = copy
            self.bytes += copy.nbytes
            while self.bytes > self.max_bytes:
                self.bytes -= self._tensors.popitem(last=False)[1].nbytes
        return copy
