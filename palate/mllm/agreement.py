"""Whether a short way of reading prompts gives what the plain way gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from palate.mllm.model import ChatModel
from palate.mllm.precise import precisely

# How far two readings may differ in fp32, per unit of the logits' size over 10 (fp32 is less exact for larger ones).
_CLOSE, _LARGE = 1e-3, 10.0
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
    size = max(1.0, float(naive.abs().max()) / _LARGE)
    if model.core.dtype != torch.float32:
        naive, found = (one - one.mean(dim=1, keepdim=True) for one in (naive, found))
    far = float((naive - found).abs().max())
    if exact or again is None:
        return far, _CLOSE * size
    other = again()
    noise = float((naive - (other - other.mean(dim=1, keepdim=True))).abs().max())
    return far, max(_ROUNDED * max(1.0, float(naive.abs().max())), 2 * noise)
