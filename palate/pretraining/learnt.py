"""What pretraining made, as files: the adapter, the projector, and their hashes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from palate.mllm.lm.pretrained import FILES, HASHES, PROJECTOR
from palate.mllm.warmup.training import Standardised
from palate.storage.files import file_digest, write_json


def save_learnt(peft_model: Any, projector: Standardised, base: str, folder: Path) -> None:
    """Write the files that :func:`palate.mllm.lm.pretrained.put_on` reads, in bfloat16.

    Args:
        peft_model: the model with its adapter.
        base: the name of the model below.
    """
    peft: Any = import_module("peft")
    adapter = {
        name: value.detach().to(torch.bfloat16).contiguous()
        for name, value in peft.get_peft_model_state_dict(peft_model, save_embedding_layers=False).items()
    }
    save_file(adapter, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    # Only what is not a default: a later PEFT reads it, and nothing of this machine is in it.
    settings = peft_model.peft_config["default"]
    write_json(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "inference_mode": True,
            "r": settings.r,
            "lora_alpha": settings.lora_alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": sorted(settings.target_modules),
        },
    )
    weights = projector.folded().state_dict()
    save_file({name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}, folder / PROJECTOR)
    write_json(folder / HASHES, {name: file_digest(folder / name) for name in FILES})
