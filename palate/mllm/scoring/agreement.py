"""Whether a short way of reading prompts gives what the plain way gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.scoring.fp32 import precisely

# How far two readings may differ in fp32: a part of how far prompts do (what matters is their order), no more than that
# part of the logits' size over 10, and never less than what rounding leaves of logits of that size.
_CLOSE, _LARGE, _FP32 = 1e-3, 10.0, 1e-5
# How far they may differ where fp32 could not be had, per unit of the differences between answers, or 1; or twice as
# far as the plain way differs from itself with other padding.
_ROUNDED = 0.02


def apart(
    model: ChatModel,
    plain: Callable[[], Tensor],
    short: Callable[[], Tensor],
    again: Callable[[], Tensor] | None = None,
) -> tuple[float, float]:
    """How far two readings ``[prompts, answers]`` of the same prompts are apart, and how far they may be.

    Models in half precision are computed in fp32 for it, and compared by the differences between answers: what moves
    all logits alike moves no score.

    Args:
        again: the plain way with other padding, for kernels that take half precision only; none in fp32.
    """
    (naive, found), exact = precisely(model, lambda: (plain(), short()))
    size = float(naive.abs().max())
    if model.core.dtype != torch.float32:
        naive, found = (one - one.mean(dim=1, keepdim=True) for one in (naive, found))
    far = float((naive - found).abs().max())
    if exact or again is None:
        spread = float((naive - naive.mean(dim=0)).abs().max())
        return far, max(_FP32 * max(1.0, size), _CLOSE * min(spread, max(1.0, size / _LARGE)))
    other = again()
    noise = float((naive - (other - other.mean(dim=1, keepdim=True))).abs().max())
    return far, max(_ROUNDED * max(1.0, float(naive.abs().max())), 2 * noise)
