"""``palate align``: a trained run becomes one that is aligned on preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, RunDataset, RunSeed, Threads, set_threads
from palate.cli.shared.output import print_json_made


def _trainer_defaults() -> dict[str, Any]:
    from palate.alignment.config import TRAINER

    return {**TRAINER, "device": "as the run was trained"}


@from_config(
    Fields(
        "palate.negatives.config:NegativesConfig",
        *("pool_k", "num_negatives", "temperature", "shown", "mask_future"),
        section="negatives",
        spelled={"mask_future": "--mask-future-train"},
    ),
    Fields(
        "palate.objectives.preference:PreferenceConfig",
        "beta",
        section="preference",
        defaults={"beta": "the objective's"},
    ),
    Fields("palate.alignment.config:AlignConfig", "weight", section="align"),
    Fields(
        "palate.training.config:TrainerConfig",
        *("epochs", "device"),
        section="trainer",
        defaults=_trainer_defaults,
    ),
)
def align(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of sasrec, hstu or gru4rec.")],
    *,
    out: Annotated[Path, typer.Option(metavar="RUN2", help="Folder of the new run.")],
    objective: Annotated[
        str,
        typer.Option(
            help="dpo, cdpo, s-dpo, dmpo, ipo, simpo, hanorec; bpr and softmax (controls without a reference); none "
            "(cross-entropy goes on alone); or a plug-in's name."
        ),
    ] = "dpo",
    negatives: Annotated[
        str,
        typer.Option(
            help="How rejected items are chosen: uniform, popularity, in-batch, hard, top-k, mixed, disliked, "
            "shown; or a plug-in's name."
        ),
    ] = "top-k",
    settings: Settings,
    reference: Annotated[
        Path | None, typer.Option(metavar="RUN0", help="Another frozen reference than RUN itself.")
    ] = None,
    dataset: RunDataset = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted alignment in --out.")] = False,
    seed: RunSeed = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Align a trained ranker on preferences: chosen items against rejected ones, beside cross-entropy.

    The best validation's weights are saved, those of the start included; diagnostics are written as numbers and
    as a picture.

    For example: palate align runs/sasrec --objective dpo --negatives top-k --out runs/aligned
    """
    from palate.alignment.align import align as fit

    set_threads(threads)
    aligned = fit(
        run,
        out=out,
        objective=objective,
        negatives=negatives,
        seed=seed,
        settings=settings,
        reference=reference,
        dataset_path=dataset,
        resume=resume,
    )
    _report(aligned.info, out, json_)


def _report(info: dict[str, Any], out: Path, json_: bool) -> None:
    from palate.console import open_console, print_warning
    from palate.runs.launch import is_first_worker

    if not is_first_worker():  # which prints for all
        return
    for warning in info.get("alignment", {}).get("warnings", []):
        print_warning(open_console(stderr=True), warning)
    if json_:
        print_json_made(out, info)
        return
    console = open_console()
    best = info["best"]
    numbers = ", ".join(f"{k} {v:.4f}" for k, v in best.items() if "@" in k)
    console.print(f"Best validation after epoch {best['epoch']} of {info['epochs']}: {numbers}", soft_wrap=True)
    if not best["epoch"]:
        console.print("No step improved on the run that it started from: its weights are kept.", soft_wrap=True)
    shown = info.get("alignment", {}).get("shown")
    if shown:
        console.print(
            f"Rejected items: {shown['from_request']:.0%} of the targets have some of their own request, "
            f"{shown['from_other_requests']:.0%} of the user's others, {shown['from_fallback']:.0%} of the fallback.",
            soft_wrap=True,
        )
    pictures = f"{out}/alignment.png" if "alignment" in info else f"{out}/learning-curve.png"
    console.print(f"Run: {out}  (diagnostics: {pictures}; next: palate evaluate {out})", soft_wrap=True)
