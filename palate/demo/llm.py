"""The demo's stages of a small multimodal language model: warmed up, writing, fine-tuned, evaluated with the others."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from palate.demo.extras import missing_language_model
from palate.demo.picture_questions import ask_about_pictures
from palate.demo.pictures import SHOWN_USERS
from palate.demo.preferences import STORE, drop_outdated_preferences, show_preferences
from palate.demo.runner import Demo, DemoCommand, Function, Note, Stage, row_of
from palate.evaluation.saved import load_table
from palate.storage.files import atomic_folder

FULL, BLIND = "mllm (history + picture)", "mllm, history-blind"
MADE = {
    "preferences.md": "what a language model wrote of the same users, purchase by purchase",
    "mllm": "the warmed-up model, its runs, and their table",
}
FIELDS, NEW_TOKENS = "category,material", 80


@dataclass(frozen=True)
class Language:
    """What decides the numbers of these stages: the model, and how much of everything.

    Attributes:
        base: writes preferences and is warmed up; cut down after that, it is fine-tuned and scored. ``embedded``, or a
            folder of the LLaVA family.
        warm_up: options of ``palate mllm warm-up``.
        max_items: at most this many items of a history are read for its preference.
        fine_tuning: options of ``palate mllm sft``.
        history_items: titles of a history that are shown with a candidate.
        users, negatives: of the table: how many users, and candidates beside the target.
    """

    base: str = "embedded"
    warm_up: str = "--batch-size 4 --steps 120 --learning-rate 2e-3 --max-items 580"
    max_items: int = 9
    fine_tuning: str = "--users 75 --cutoffs 2 --learning-rate 1e-3 --set trainer.keep=last"
    history_items: int = 6
    users: int = 60
    negatives: int = 20


def language_stages(plan: Language, seed: int, rows: Sequence[str]) -> list[Stage]:
    """The stages; one with a note where something that they need is not installed.

    Args:
        rows: the other models, as ``palate evaluate`` takes them.
    """
    missing = missing_language_model(plan.base)
    if missing:
        return [Stage("Let a small multimodal language model take part", [Note(missing)])]
    base, dtype = shlex.quote(plan.base), precision()
    writer = "--backend embedded" if plan.base == "embedded" else f"--backend local --model {base}"
    written = {"max_items": plan.max_items, "max_new_tokens": NEW_TOKENS, "fields": FIELDS.split(",")}
    fine_tune = (
        f"palate mllm sft $DEMO/dataset --model $DEMO/mllm/small --images candidate {plan.fine_tuning} "
        f"--set examples.validate_users=30 --set examples.users_seed={seed} --set trainer.validations_per_epoch=1 "
        f"--dtype {dtype} --device cpu --seed {seed} --resume"
    )
    table = [*rows, row_of(FULL, "mllm/runs/full"), row_of(BLIND, "mllm/runs/blind")]
    return [
        Stage(
            "Teach a small multimodal language model what the pictures show",
            [
                DemoCommand(
                    f"palate mllm warm-up $DEMO/dataset --model {base} --fields {FIELDS} {plan.warm_up} "
                    f"--dtype {dtype} --device cpu --seed {seed} --out $DEMO/mllm/model",
                    makes="mllm/model",
                    removes="mllm",
                ),
                Function("(Python) ask about pictures of held-out items", partial(ask_about_pictures, dtype=dtype)),
            ],
        ),
        Stage(
            "Write down what a few users prefer",
            [
                Function(
                    "(Python) remove preferences written in another way",
                    partial(drop_outdated_preferences, options=written),
                ),
                DemoCommand(
                    f"palate summarise users $DEMO/dataset {writer} --name {STORE} --as-of test --users {SHOWN_USERS} "
                    f"--max-items {plan.max_items} --max-new-tokens {NEW_TOKENS} --fields {FIELDS} --dtype {dtype} "
                    f"--batch-size {SHOWN_USERS} --seed {seed}"
                ),
                Function("(Python) print them, and write preferences.md", show_preferences),
            ],
        ),
        Stage(
            "Fine-tune it with the history, and without",
            [
                Function("(Python) cut mllm/model to its first layers, for speed: mllm/small", cut_model),
                DemoCommand(f"{fine_tune} --history-items {plan.history_items} --out $DEMO/mllm/runs/full"),
                DemoCommand(f"{fine_tune} --blind --out $DEMO/mllm/runs/blind"),
            ],
        ),
        Stage(
            "Evaluate it beside the other models, on sampled candidates",
            [
                DemoCommand(
                    f"palate evaluate {' '.join(table)} --base '{BLIND}' --protocol sampled --users {plan.users} "
                    f"--negatives {plan.negatives} --metrics auc,ndcg,hitrate --ks 5 --primary auc --seed {seed} "
                    "--out $DEMO/mllm/evaluation",
                    makes="mllm/evaluation",
                ),
                Function("(Python) say whether the history helped", show_use_of_history),
            ],
        ),
    ]


def precision() -> str:
    """bfloat16 where the processor computes in it, which is twice as fast there and far slower elsewhere."""
    import torch

    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"


def cut_model(demo: Demo) -> None:
    """Make ``mllm/small`` of the warmed-up model, unless it is there."""
    from palate.features.hub import quiet
    from palate.mllm.lm.embedded import cut

    small = demo.out / "mllm" / "small"
    if not small.exists():
        with quiet(), atomic_folder(small) as part:
            cut(demo.out / "mllm" / "model", part)


def show_use_of_history(demo: Demo) -> None:
    """Print one sentence on the model with the history against the one without, whichever way it went."""
    table = load_table(demo.out / "mllm" / "evaluation")
    rows = {row["label"]: row for row in table.facts["models"]}
    demo.facts["sampled"] = {
        label: {name: one["mean"] for name, one in row["metrics"].items()} for label, row in rows.items()
    }
    demo.console.print(
        use_of_history(**{name: rows[FULL]["differences"]["auc"][name] for name in ("mean", "low", "high")})
    )


def use_of_history(mean: float, low: float, high: float) -> str:
    """What an AUC with the history, minus that without, shows; ``low`` and ``high`` are its 95% interval."""
    figures = f"history minus no history: AUC {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        return f"The fine-tuned model uses the history ({figures}). The other rows show what that is worth."
    if high < 0:
        return f"With the history the fine-tuned model is worse ({figures})."
    return f"So few examples and users show no use of the history ({figures}): the interval holds 0."
