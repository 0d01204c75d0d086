"""A language model's head at the ends of prompts, for a few tokens, in fp32: scoring and training compare its logits.

Families differ in what they do to hidden states before the head and to logits after it (Gemma caps, Cohere multiplies,
Granite divides, Aya leaves out what its configuration announces). All of that is the model's own forward here: only
the matrix product in the middle is replaced, by one of the positions and rows that count, in fp32.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.scoring.agreement import in_float32

# How far the short head may be from the whole one, per unit of the largest logit, or 1: in fp32, and where that could
# not be had (a logit in bfloat16 is rounded by up to 2^-9 of its size).
_CLOSE, _ROUNDED = 1e-3, 0.01


def option_logits(
    model: ChatModel, inputs: Mapping[str, Any], ends: Tensor, tokens: Tensor, run: Callable[..., Any] | None = None
) -> tuple[Tensor, Any]:
    """Logits of a few tokens after each prompt of a batch, with gradients where those are on.

    One forward at a time: the head of the model is replaced while it runs.

    Args:
        inputs: the model's arguments.
        ends: int64 ``[B, prompts]``, the last token of each prompt.
        tokens: int64 ``[answers]``.
        run: what is called in place of the model: a wrapper around it (distributed training).

    Returns:
        float32 ``[B, prompts, answers]``, and what the model returned.
    """
    run = model.runner if run is None else run
    if model.short_head is None:
        model.short_head = _is_faithful(model, tokens)
    if "output_router_logits" in inspect.signature(type(model.core).forward).parameters:
        inputs = {**inputs, "output_router_logits": False}  # for a loss of its own, which knows plain masks only
    return _short(model, run, inputs, ends, tokens) if model.short_head else _whole(model, run, inputs, ends, tokens)


def _short(
    model: ChatModel, run: Callable[..., Any], inputs: Mapping[str, Any], ends: Tensor, tokens: Tensor
) -> tuple[Tensor, Any]:
    head = model.core.get_output_embeddings()
    rows = torch.arange(len(ends))[:, None]

    def few_logits(hidden: Tensor) -> Tensor:
        last = hidden[rows.to(hidden.device), ends.to(hidden.device)]
        chosen = tokens.to(head.weight.device)
        logits: Tensor = last.float() @ head.weight[chosen].float().T
        return logits if getattr(head, "bias", None) is None else logits + head.bias[chosen].float()

    with _replaced(head, few_logits):
        out = run(**inputs)
    return out.logits.float(), out


def _whole(
    model: ChatModel, run: Callable[..., Any], inputs: Mapping[str, Any], ends: Tensor, tokens: Tensor
) -> tuple[Tensor, Any]:
    """From the model's own logits of all tokens, at those positions where some prompt ends."""
    positions = ends
    if "logits_to_keep" in inspect.signature(type(model.core).forward).parameters:
        selected, positions = torch.unique(ends, return_inverse=True)
        inputs = {**inputs, "logits_to_keep": selected.to(model.device)}
    out = run(**inputs)
    rows = torch.arange(len(ends), device=out.logits.device)[:, None]
    logits: Tensor = out.logits[rows, positions.to(out.logits.device)]
    return logits[..., tokens.to(logits.device)].float(), out


@contextmanager
def _replaced(head: Any, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
    before = head.__dict__.get("forward")
    head.forward = forward
    try:
        yield
    finally:
        if before is None:
            del head.forward
        else:
            head.forward = before


def _is_faithful(model: ChatModel, tokens: Tensor) -> bool:
    """Whether the short head gives the model's own logits; warns where it does not.

    Tried once, on a few words, in fp32, where the two agree to the last digits or not at all.
    """
    weight = getattr(model.core.get_output_embeddings(), "weight", None)
    if weight is None or not weight.is_floating_point():
        return False  # quantised: only the layer itself can use it
    ids = torch.cat([tokens, tokens.flip(0)])[None].to(model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    ends = torch.tensor([[len(tokens) - 1, ids.shape[1] - 1]])

    def both() -> list[Tensor]:
        return [way(model, model.runner, inputs, ends, tokens)[0] for way in (_whole, _short)]

    training = model.model.training
    model.model.eval()
    try:
        with torch.no_grad():
            (whole, short), exact = in_float32(model, both)
        difference = float((whole - short).abs().max()) / max(1.0, float(whole.abs().max()))
    except Exception:  # families raise what they like; the whole head is left
        difference, exact = float("nan"), True
    finally:
        model.model.train(training)
    if difference <= (_CLOSE if exact else _ROUNDED):
        return True
    warnings.warn(
        f"'{model.name}' ({model.family}) makes its logits in a way of its own (off by {difference:.3g}); they are "
        "read as it gives them, in its own precision, which is slower.",
        stacklevel=4,
    )
    return False
