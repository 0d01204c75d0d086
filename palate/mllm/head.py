"""A language model's head, asked for a few tokens only, in fp32: what scoring, fine-tuning and alignment compare."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palate.mllm.model import ChatModel


def option_logits(model: ChatModel, hidden: Tensor, tokens: Tensor) -> Tensor:
    """Logits of a few tokens from last hidden states: ``[..., width]`` -> float32 ``[..., tokens]``."""
    head = model.core.get_output_embeddings()
    chosen = tokens.to(head.weight.device)
    logits = hidden.float() @ head.weight[chosen].float().T
    if getattr(head, "bias", None) is not None:
        logits = logits + head.bias[chosen].float()
    return _scaled(logits, model.core.config.get_text_config())


def _scaled(logits: Tensor, config: Any) -> Tensor:
    """What some families do to their logits after the head (Gemma caps, Cohere multiplies, Granite divides)."""
    if getattr(config, "logit_scale", None):
        logits = logits * config.logit_scale
    if getattr(config, "logits_scaling", None):
        logits = logits / config.logits_scaling
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits
