"""Which settings the options of ``palate mllm`` stand for: for its commands, and for recipes of a comparison."""

from __future__ import annotations

from palate.cli.shared.from_config import Fields

_MODEL = Fields(
    "palate.mllm.lm.options:ModelOptions",
    *("name", "dtype", "quantisation", "revision", "trust_remote_code", "chat_template_kwargs"),
    section="model",
    spelled={"name": "--model"},
)
_PROMPT = Fields(
    "palate.mllm.prompts.prompter:PromptOptions",
    *("task", "summary", "history_items", "blind", "images", "missing_image", "item_text", "history_text", "fields"),
    section="prompt",
)
_TRAINED = ("epochs", "batch_size", "accumulation", "learning_rate", "gradient_checkpointing")
_ADAPTER = {"r": "--lora-r", "alpha": "--lora-alpha", "dropout": "--lora-dropout", "projector": "--train-projector"}

ZERO_SHOT = (_MODEL, _PROMPT)
SFT = (
    *ZERO_SHOT,
    Fields(
        "palate.mllm.finetune.config:ExamplesConfig",
        *("users", "cutoffs", "negatives", "negatives_per_positive", "choices"),
        section="examples",
    ),
    Fields("palate.mllm.finetune.config:LoraConfig", *_ADAPTER, section="lora", spelled=_ADAPTER),
    Fields("palate.mllm.finetune.config:SFTConfig", "loss", *_TRAINED, section="trainer"),
)
ALIGN = (
    Fields(
        "palate.mllm.alignment.config:PairsConfig",
        *("kind", "negatives", "pool_k", "depth", "num_negatives", "refresh_steps", "users", "cutoffs"),
        section="pairs",
        spelled={"kind": "--pairs"},
    ),
    Fields(
        "palate.objectives.hanorec:HaNoRecConfig",
        *("beta", "neighbours", "hardness", "responsiveness", "noise", "sigma", "consistency"),
        section="preference",
    ),
    Fields("palate.mllm.alignment.config:AlignLoraConfig", "r", "alpha", "dropout", section="lora", spelled=_ADAPTER),
    Fields("palate.mllm.alignment.config:AlignTrainerConfig", *_TRAINED, section="trainer"),
)
