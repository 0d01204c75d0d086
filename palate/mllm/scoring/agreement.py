"""Whether a short way of reading prompts gives what the plain way gives, compared in fp32.

In half precision an error of structure hides in what rounding leaves of two readings (a few tenths in a deep model); in
fp32, with the same weights and the same operations, they agree to the last digits or not at all.
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

# How far two readings may differ in fp32: a part of how far prompts do (what matters is their order), no more than that
# part of the logits' size over 10, and never less than what rounding leaves of logits of that size.
_CLOSE, _LARGE, _FP32 = 1e-3, 10.0, 1e-5
# How far they may differ where fp32 could not be had, per unit of the differences between answers, or 1; or twice as
# far as the plain way differs from itself with other padding.
_ROUNDED = 0.02
_HALF = (torch.bfloat16, torch.float16)
_GATHERS = ("embedding", "__getitem__", "index_select")

T = TypeVar("T")


def disagreement(
    model: ChatModel,
    plain: Callable[[], Tensor],
    short: Callable[[], Tensor],
    again: Callable[[], Tensor] | None = None,
) -> tuple[float, float]:
    """The largest difference between two readings ``[prompts, answers]`` of the same prompts, and the largest allowed.

    Models in half precision are computed in fp32 for it, and compared by the differences between answers: what moves
    all logits alike moves no score.

    Args:
        again: the plain way with other padding, for kernels that take half precision only; none in fp32.
    """
    (naive, found), exact = in_float32(model, lambda: (plain(), short()))
    size = float(naive.abs().max())
    if model.core.dtype != torch.float32:
        naive, found = (one - one.mean(dim=1, keepdim=True) for one in (naive, found))
    difference = float((naive - found).abs().max())
    if exact or again is None:
        spread = float((naive - naive.mean(dim=0)).abs().max())
        return difference, max(_FP32 * max(1.0, size), _CLOSE * min(spread, max(1.0, size / _LARGE)))
    other = again()
    noise = float((naive - (other - other.mean(dim=1, keepdim=True))).abs().max())
    return difference, max(_ROUNDED * max(1.0, float(naive.abs().max())), 2 * noise)


def in_float32(model: ChatModel, compute: Callable[[], T]) -> tuple[T, bool]:
    """The result of ``compute`` in fp32, and True; the plain one and False where a kernel takes half precision only."""
    if model.core.dtype not in _HALF:
        with _without_tf32():
            return compute(), True
    try:
        with Float32(), _without_tf32(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return compute(), True
    except Exception:  # kernels raise what they like
        return compute(), False


class Float32(TorchFunctionMode):
    """Within it every operation on tensors in half precision gets them in fp32, and dtypes are reported as fp32.

    Weights stay as they are: each is converted when it is used, so that no second model is held.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if func == torch.Tensor.dtype.__get__:  # type: ignore[attr-defined]
            return torch.float32 if func(*args) in _HALF else func(*args)
        first = args[0] if args else None
        if name == "__set__" and isinstance(first, Tensor) and isinstance(args[1], Tensor):  # data: its dtype stays
            return func(first, args[1].to(first.dtype))
        if name in ("__get__", "__set__"):  # of shape, device ...: nothing is computed
            return func(*args)
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
    """Without GPUs rounding fp32 to 10 bits in convolutions and products."""
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
