"""Which setting each option of ``palate mllm`` stands for: for its commands, and for recipes of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from palate.cli.shared.options import parse_assignments

TemplateKwargs = Annotated[
    str | None,
    typer.Option(
        "--chat-template-kwargs",
        metavar="JSON",
        help="""Variables of the chat template: '{"enable_thinking": false}'.""",
    ),
]

_MODEL = {
    "model": "model.name",
    **{
        name: f"model.{name}"
        for name in ("dtype", "quantisation", "revision", "trust_remote_code", "chat_template_kwargs")
    },
}
_PROMPT = {
    name: f"prompt.{name}"
    for name in (
        *("task", "summary", "history_items", "blind", "images", "missing_image"),
        *("item_text", "history_text", "fields"),
    )
}
_LORA = {"lora_r": "lora.r", "lora_alpha": "lora.alpha", "lora_dropout": "lora.dropout"}
_TRAINER = {
    name: f"trainer.{name}"
    for name in ("epochs", "batch_size", "accumulation", "learning_rate", "gradient_checkpointing")
}
ZERO_SHOT = {**_MODEL, **_PROMPT}
SFT = {
    **ZERO_SHOT,
    **{name: f"examples.{name}" for name in ("users", "cutoffs", "negatives", "negatives_per_positive", "choices")},
    **_LORA,
    "train_projector": "lora.projector",
    "loss": "trainer.loss",
    **_TRAINER,
}
ALIGN = {
    **{
        name: f"preference.{name}"
        for name in ("beta", "neighbours", "hardness", "responsiveness", "noise", "sigma", "consistency")
    },
    "pairs": "pairs.kind",
    **{
        name: f"pairs.{name}"
        for name in ("negatives", "pool_k", "depth", "num_negatives", "refresh_steps", "users", "cutoffs")
    },
    **_LORA,
    **_TRAINER,
}


def settings_from(
    options: Mapping[str, Any], assignments: Sequence[str] | None, places: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Settings by section: those of ``--set``, overridden by the options of the command.

    Args:
        options: values by parameter name; None was not set, and what has no place is no setting.
        places: parameter name -> ``section.key``.

    >>> settings_from({"lora_r": 16, "epochs": None, "out": "x"}, ["lora.r=4", "lora.alpha=8"], SFT)
    {'lora': {'r': 16, 'alpha': 8}}
    """
    from palate.cli.shared.options import split_fields

    settings: dict[str, dict[str, Any]] = parse_assignments(list(assignments or []))
    for name, place in places.items():
        value = options.get(name)
        if value is not None:
            section, key = place.split(".")
            settings[section] = {**settings.get(section, {}), key: split_fields(value) if name == "fields" else value}
    return settings
