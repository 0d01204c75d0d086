"""Where LoRA adapters go: the linear layers of the language model, by name."""

from __future__ import annotations

import inspect
import re
from functools import cache
from typing import Any

from torch import nn

from palate.errors import PalateError
from palate.mllm.finetune.config import LoraConfig
from palate.mllm.lm.chat_model import ChatModel


def adapted_layers(model: ChatModel, projector: bool) -> list[str]:
    """Full names of the linear layers that get an adapter: all of the decoder, none of the vision tower or the head.

    Layers whose weight a kernel reads past the layer itself (Mamba's ``out_proj``) stay as they are.

    Args:
        projector: those between pictures and language as well.

    Raises:
        PalateError: there are none of a kind that is needed.
    """
    core = model.core
    decoder = core.get_decoder()
    names = {id(module): name for name, module in core.named_modules()}
    head = core.get_output_embeddings()
    found = list(
        dict.fromkeys(
            names[id(module)]
            for parent in decoder.modules()
            for name, module in parent.named_children()
            if isinstance(module, nn.Linear) and module is not head and not _goes_past(type(parent), name)
        )
    )
    if not found:
        raise PalateError(
            f"'{model.name}' ({model.family}) has no linear layers that LoRA could adapt", "Choose another model."
        )
    if projector:
        between = [
            name
            for name, module in core.named_modules()
            if isinstance(module, nn.Linear) and any(part in model.traits.projectors for part in name.split("."))
        ]
        if not between:
            raise PalateError(
                f"'{model.name}' ({model.family}) has no projector between pictures and language",
                "Leave out --train-projector.",
            )
        found += [name for name in between if name not in found]
    return found


def _goes_past(kind: type[Any], layer: str) -> bool:
    """Whether a module hands a layer's weight to a kernel in place of calling the layer (Mamba's ``out_proj``).

    An adapter on such a layer would learn nothing, or act on some machines only.
    """
    direct = rf"\bself\.{re.escape(layer)}\.weight\b(?!\.(?:dtype|device|shape|ndim))"
    return re.search(direct, _source(kind)) is not None  # type: ignore[arg-type,unused-ignore]  # a class is hashable


@cache
def _source(kind: Any) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""


def peft_config(model: ChatModel, settings: LoraConfig) -> Any:
    """The settings in PEFT's terms."""
    from peft import LoraConfig as PeftLoraConfig

    return PeftLoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,  # type: ignore[arg-type,unused-ignore]  # PEFT divides it, whole or not
        lora_dropout=settings.dropout,
        target_modules=adapted_layers(model, settings.projector),
        bias="none",
        task_type="CAUSAL_LM",
    )
