"""A model in half precision, computed in fp32: the same weights and the same operations, without their rounding.

Two ways of reading a prompt are compared by it. In half precision an error of structure hides in what rounding leaves
of two readings (a few tenths in a deep model); in fp32 they agree to the last digits or not at all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from palate.mllm.lm.chat_model import ChatModel

_HALF = (torch.bfloat16, torch.float16)
_GATHERS = ("embedding", "__getitem__", "index_select")

T = TypeVar("T")


class Float32(TorchFunctionMode):
    """Within it every operation on tensors in half precision gets them in fp32, and dtypes are said to be fp32.

    Weights stay as they are: each is converted when it is used, so that no second model is held.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func == torch.Tensor.dtype.__get__:  # type: ignore[attr-defined]
            return torch.float32 if func(*args) in _HALF else func(*args)
        if name in ("__get__", "__set__"):  # of shape, device, data ...: nothing is computed
            return func(*args)
        first = args[0] if args else None
        in_place = name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        if in_place and isinstance(first, Tensor) and first.dtype in _HALF:
            return func(*args, **(kwargs or {}))  # a copy in fp32 would be changed instead
        if name in _GATHERS:  # exact as it is: no need to convert a whole vocabulary
            return tree_map(_raised, func(*args, **(kwargs or {})))
        return func(*tree_map(_raised, args), **tree_map(_raised, kwargs or {}))


def _raised(one: Any) -> Any:
    if isinstance(one, Tensor):
        return one.float() if one.dtype in _HALF else one
    return torch.float32 if isinstance(one, torch.dtype) and one in _HALF else one


@contextmanager
def _without_tf32() -> Iterator[None]:
    """GPUs multiply fp32 by 10 bits of it in convolutions, unless they are told not to."""
    if not torch.cuda.is_available():
        yield
        return
    places: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    try:
        for place in places:
            place.allow_tf32 = False
        yield
    finally:
        for place, was in zip(places, before, strict=True):
            place.allow_tf32 = was


def precisely(model: ChatModel, compute: Callable[[], T]) -> tuple[T, bool]:
    """What ``compute`` gives in fp32, and whether it was: where a kernel takes half precision only, it was not."""
    if model.core.dtype not in _HALF:
        with _without_tf32():
            return compute(), True
    try:
        with Float32(), _without_tf32(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compute(), True
    except Exception:  # kernels raise what they like
        return compute(), False
