"""A small dataset with pictures, and fine-tuning of tiny models on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def tiny_settings(folder: Path, **sections: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Two steps of four examples on a tiny model, everything else as given."""
    base: dict[str, dict[str, Any]] = {
        "model": {"name": str(folder), "dtype": "float32"},
        "prompt": {"history_items": 3},
        "examples": {"users": 4, "cutoffs": 1, "validate_users": 3, "validate_negatives": 2},
        "lora": {},
        "trainer": {"batch_size": 4, "validations_per_epoch": 1},
        "scoring": {},
    }
    if sections.get("prompt", {}).get("task") == "choose":
        del base["examples"]["validate_negatives"]
    if sections.get("prompt", {}).get("blind"):
        del base["prompt"]["history_items"]
    return {name: {**values, **sections.get(name, {})} for name, values in base.items()}


def option_logits_of(parts: Any, batch: dict[str, Any], answers: Any, chat: Any) -> Any:
    """Logits of the answers at the ends of a collated batch of cases: ``[cases, prompts, answers]``."""
    from palate.mllm.finetune.option_loss import logits_of

    own = ("ends", "labels", "shift_labels", "read")
    inputs = {key: value for key, value in batch.items() if key not in own}
    tokens = parts.model.first_tokens(chat, answers)
    return logits_of(parts.model.model, parts.model, inputs, batch["ends"], tokens)
