"""The demo's stages of a small multimodal language model: it sees, writes and recommends beside the other models."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from palate.demo.extras import missing_language_model
from palate.demo.models import DemoModel
from palate.demo.picture_questions import ask_about_pictures
from palate.demo.pictures import SHOWN_USERS
from palate.demo.preferences import STORE, drop_outdated_summaries, show_preferences
from palate.demo.runner import DemoCommand, Function, Note, Stage, row_of
from palate.demo.verdicts import ALONE, BLIND, FULL, HANOREC, ZERO_SHOT, show_use_of_pictures, show_verdicts

MADE = {
    "preferences.md": "what a language model wrote of the same users, purchase by purchase, beside their true tastes",
    "mllm": "what it saw in pictures, its runs, and their table",
}
FIELDS, NEW_TOKENS, ITEM_TOKENS = "brand", 60, 24


@dataclass(frozen=True)
class Language:
    """What decides the numbers of these stages: the models, and how much of everything.

    Attributes:
        writer: says what pictures show, writes preferences, and answers Yes or No about candidates by their pictures
            alone: an embedded model, or a folder of the LLaVA family.
        scorer: answers Yes or No about candidates by titles and pictures, likewise.
        pictures: how many it is asked about.
        max_items: at most this many items of a history are read for its preference.
        history_items: how many items of a history are shown with a candidate, with their pictures.
        fine_tuning: options of ``palate mllm sft``.
        alignment: options of ``palate mllm align``.
        probe: options of ``palate mllm probe`` of the run that is shown pictures alone.
        users, negatives: of the table: how many users, and candidates beside the target.
        blend: weight of the language model in the blended rows.
    """

    writer: str = "embedded"
    scorer: str = "embedded-small"
    pictures: int = 40
    max_items: int = 9
    history_items: int = 6
    fine_tuning: str = (
        "--users 32 --cutoffs 1 --negatives-per-positive 7 --batch-size 8 --accumulation 2 --learning-rate 3e-4 "
        "--lora-dropout 0 --set trainer.keep=last --set examples.validate_users=6 --set examples.validate_negatives=3"
    )
    alignment: str = (
        "--users 8 --cutoffs 1 --num-negatives 3 --batch-size 2 --accumulation 1 --learning-rate 1e-4 "
        "--noise lora --sigma 0.02 --set trainer.keep=last"
    )
    probe: str = "--users 40 --negatives 7"
    users: int = 60
    negatives: int = 7
    blend: float = 0.3


def language_stages(
    plan: Language, seed: int, models: Sequence[DemoModel], made: tuple[DemoCommand, ...] = ()
) -> list[Stage]:
    """The stages; one with a note where something that they need is not installed.

    Args:
        models: the rankers of the table; the last one that is not aligned is the one that the language model is blended
            with, and where it reads encoded texts and pictures, HaNoRec does so too.
        made: the commands that made their runs.
    """
    missing = missing_language_model(plan.writer) or missing_language_model(plan.scorer)
    if missing:
        return [Stage("Let a small multimodal language model take part", [Note(missing)])]
    return [
        Stage(
            "Ask a small multimodal language model what pictures show",
            [
                Function(
                    "(Python) ask it about pictures, and compare the answers with the truth",
                    partial(ask_about_pictures, model=plan.writer, dtype=precision(), count=plan.pictures),
                )
            ],
        ),
        _writing(plan, seed),
        *_recommending(plan, seed, models, made),
    ]


def _writing(plan: Language, seed: int) -> Stage:
    embedded = plan.writer.startswith("embedded")
    writer = f"--backend {'embedded' if embedded else 'local'} --model {shlex.quote(plan.writer)} --dtype {precision()}"
    both = f"{writer} --name {STORE} --users {SHOWN_USERS} --fields {FIELDS} --seed {seed}"
    written = {"max_items": plan.max_items, "max_new_tokens": NEW_TOKENS, "fields": FIELDS.split(",")}
    described = {"max_new_tokens": ITEM_TOKENS, "fields": FIELDS.split(",")}
    return Stage(
        "Write down what a few users prefer",
        [
            Function(
                "(Python) remove summaries written in another way",
                partial(drop_outdated_summaries, model=plan.writer, users=written, items=described),
            ),
            DemoCommand(f"palate summarise items $DEMO/dataset {both} --max-new-tokens {ITEM_TOKENS} --batch-size 8"),
            DemoCommand(
                f"palate summarise users $DEMO/dataset {both} --item-summaries {STORE} --as-of test "
                f"--max-items {plan.max_items} --max-new-tokens {NEW_TOKENS} --batch-size {SHOWN_USERS}"
            ),
            Function("(Python) print them beside the true tastes, and write preferences.md", show_preferences),
        ],
    )


def _recommending(plan: Language, seed: int, models: Sequence[DemoModel], made: tuple[DemoCommand, ...]) -> list[Stage]:
    retriever = [model for model in models if not model.aligned][-1]
    listed = plan.history_items
    shown = f"--images both --history-text full --history-items {listed} --set prompt.history_images={listed}"
    machine = f"--dtype {precision()} --device cpu"
    model = f"$DEMO/dataset --model {shlex.quote(plan.scorer)} {machine} --item-text full --fields {FIELDS}"
    pictures = f"--images both --item-text none --history-text none --history-items {listed}"
    fine_tune = (
        f"palate mllm sft {model} --loss options {plan.fine_tuning} --set examples.users_seed={seed} "
        f"--set trainer.validations_per_epoch=1 --seed {seed} --resume"
    )
    zero_shot = DemoCommand(
        f"palate mllm zero-shot {model} {shown} --out $DEMO/mllm/runs/zero-shot", makes="mllm/runs/zero-shot"
    )
    alone = DemoCommand(
        f"palate mllm zero-shot $DEMO/dataset --model {shlex.quote(plan.writer)} {machine} {pictures} "
        "--out $DEMO/mllm/runs/pictures",
        makes="mllm/runs/pictures",
    )
    full = DemoCommand(f"{fine_tune} {shown} --out $DEMO/mllm/runs/full", makes="mllm/runs/full", goes_on=True)
    blind = DemoCommand(
        f"{fine_tune} --blind --images candidate --out $DEMO/mllm/runs/blind", makes="mllm/runs/blind", goes_on=True
    )
    hardness = "" if retriever.encoded else "--hardness one "
    hanorec = DemoCommand(
        f"palate mllm align $DEMO/mllm/runs/full --objective hanorec {hardness}{plan.alignment} "
        f"--set trainer.validations_per_epoch=1 --device cpu --seed {seed} --resume --out $DEMO/mllm/runs/hanorec",
        makes="mllm/runs/hanorec",
        goes_on=True,
        after=(full,),
    )
    probe = DemoCommand(
        f"palate mllm probe {row_of(ALONE, 'mllm/runs/pictures')} {plan.probe} --seed {seed} --out $DEMO/mllm/probe",
        makes="mllm/probe",
        after=(alone,),
    )
    runs = {ZERO_SHOT: "zero-shot", BLIND: "blind", FULL: "full", HANOREC: "hanorec"}
    table = [
        *(row_of(model.label, f"runs/{model.folder}") for model in models),
        *(row_of(label, f"mllm/runs/{folder}") for label, folder in runs.items()),
    ]
    evaluate = DemoCommand(
        f"palate evaluate {' '.join(table)} --base {shlex.quote(BLIND)} --protocol sampled --users {plan.users} "
        f"--negatives {plan.negatives} --retriever $DEMO/runs/{retriever.folder} --blend {plan.blend} "
        f"--metrics auc,ndcg,hitrate --ks 5 --primary auc --seed {seed} --out $DEMO/mllm/evaluation",
        makes="mllm/evaluation",
        after=(*made, zero_shot, full, blind, hanorec),
    )
    return [
        Stage(
            "Let it recommend: as it is, fine-tuned, without the history, aligned by HaNoRec, and by pictures alone",
            [
                zero_shot,
                full,
                blind,
                hanorec,
                alone,
                probe,
                Function("(Python) say whether pictures mattered", show_use_of_pictures),
            ],
        ),
        Stage(
            "Evaluate all models on sampled candidates, the language model alone and blended with a ranker",
            [
                evaluate,
                Function(
                    "(Python) add the oracles' rows; say whether history, pictures and the blend helped",
                    partial(show_verdicts, retriever=retriever.label),
                ),
            ],
        ),
    ]


def precision() -> str:
    """bfloat16 where the processor computes in it, which is twice as fast there and far slower elsewhere."""
    import torch

    can: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if can.get("avx512_bf16") or can.get("amx_bf16") else "float32"
