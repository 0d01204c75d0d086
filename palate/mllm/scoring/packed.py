"""Prompts of one user as one row: their shared prefix once, then the rest of each, which attends to no other.

Fine-tuning reads a positive and its negatives, whose prompts differ in their last words only. Packed, 1 + 7 prompts of
200 tokens that share 170 are a row of 410 tokens rather than 1,600, and one forward learns from all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.scoring.prefix import Shared, positions_of

# Other attention (flash attention) is written for causal masks only.
_TAKES_MASKS = ("sdpa", "eager")


def takes_masks(model: ChatModel) -> bool:
    """Whether the model's attention takes a mask of its own for every pair of tokens."""
    return getattr(model.core.config.get_text_config(), "_attn_implementation", None) in _TAKES_MASKS


def reach(model: ChatModel) -> float:
    """How many tokens its attention looks back at most, in some layer.

    The mask of a packed row takes the place of the model's own, so that longer prompts would see too much.
    """
    config = model.core.config.get_text_config()
    limits = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((limit for limit in limits if limit), default=math.inf)


def unpacked(model: ChatModel, cases: Sequence[Shared]) -> tuple[dict[str, Tensor], Tensor]:
    """One row per prompt, for models whose attention takes no such mask.

    Returns:
        As :func:`pack`, of as many rows as there are prompts: ``ends`` is ``[prompts of all cases, 1]``.
    """
    wholes = [whole for case in cases for whole in case.wholes]
    return model.collate(wholes), torch.tensor([[len(whole) - 1] for whole in wholes])


def pack(model: ChatModel, cases: Sequence[Shared]) -> tuple[dict[str, Tensor], Tensor]:
    """Each case's prompts as one row of a batch.

    Returns:
        The model's arguments, and where each prompt ends: int64 ``[B, prompts]`` (of a case with fewer prompts, the
        last one again). ``attention_mask`` is ``[B, 1, tokens, tokens]`` in the model's precision: 0 where a token may
        attend, else that precision's most negative number. ``position_ids`` are those of the prompts on their own.
    """
    batch = model.collate([model.joined([case.prefix, *case.rests]) for case in cases])
    longest = batch["input_ids"].shape[1]
    batch["attention_mask"] = torch.stack([_mask(case, longest, model.core.dtype) for case in cases])[:, None]
    batch["position_ids"] = torch.stack([_positions(model, case, longest) for case in cases], dim=-2)
    ends = [len(case.prefix) + _lengths(case)[1:].cumsum(0) - 1 for case in cases]
    most = max(map(len, ends))
    return batch, torch.stack([torch.cat([end, end[-1:].expand(most - len(end))]) for end in ends])


def _lengths(case: Shared) -> Tensor:
    return torch.tensor([len(case.prefix), *map(len, case.rests)])


def _mask(case: Shared, longest: int, dtype: torch.dtype) -> Tensor:
    """Tokens attend to earlier ones of the prefix and of their own prompt: ``[longest, longest]``."""
    segments = torch.full((longest,), -1)  # padding attends to padding: attending to nothing gives NaN
    lengths = _lengths(case)
    segments[: int(lengths.sum())] = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    allowed = (segments[:, None] == segments) | (segments == 0)
    allowed &= torch.ones(longest, longest, dtype=torch.bool).tril()
    return torch.zeros(longest, longest, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)


def _positions(model: ChatModel, case: Shared, longest: int) -> Tensor:
    """Positions ``[longest]``, or ``[3, longest]`` for families that lay pictures out in two dimensions."""
    wholes = positions_of(model, case.wholes)
    if wholes is None:
        wholes = [torch.arange(len(whole)) for whole in case.wholes]
        if hasattr(model.core.base_model, "get_rope_index"):
            wholes = [one.expand(3, -1) for one in wholes]
    read = len(case.prefix)
    row = torch.cat([wholes[0][..., :read], *(whole[..., read:] for whole in wholes)], dim=-1)
    return torch.nn.functional.pad(row, (0, longest - row.shape[-1]))
