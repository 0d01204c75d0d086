"""``palate mllm align``: a language model that recommends is aligned on preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.llm.settings import ALIGN, settings_from
from palate.cli.shared.options import ConfigFile, Set


def align(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run of `palate mllm sft` (or zero-shot, align).")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN2", help="Folder of the new run.")],
    objective: Annotated[
        str,
        typer.Option(help="dpo, cdpo, s-dpo, dmpo, ipo, simpo, hanorec; bpr, softmax and bce; or a plug-in's name."),
    ] = "dpo",
    pairs: Annotated[
        str | None,
        typer.Option(
            metavar="{item,answer}", help="Two items by their scores (default), or the two answers to a prompt."
        ),
    ] = None,
    negatives: Annotated[
        str | None,
        typer.Option(
            help="How rejected items are chosen: uniform, popularity, hard, top-k, disliked; or a plug-in's name."
        ),
    ] = None,
    retriever: Annotated[
        Path | None,
        typer.Option(metavar="RUN0", help="A fast ranker, whose best items are the pool of hard and top-k."),
    ] = None,
    pool_k: Annotated[int | None, typer.Option(min=1, help="Size of the pool (default 20).")] = None,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="The pool is the policy's own best of N that the retriever proposes."),
    ] = None,
    num_negatives: Annotated[int | None, typer.Option(min=1, help="Rejected items per position (default 1).")] = None,
    refresh_steps: Annotated[
        int | None, typer.Option(min=0, help="Draw rejected items again every N steps (default 0: never).")
    ] = None,
    users: Annotated[int | None, typer.Option(min=1, help="A sample of N users (default: the run's).")] = None,
    cutoffs: Annotated[
        int | None, typer.Option(min=1, help="The last N training positions of each user (default: the run's).")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Scale of the preference logit (default 0.1).")] = None,
    neighbours: Annotated[int | None, typer.Option(min=1, help="Of hardness as written (default 10).")] = None,
    hardness: Annotated[
        str | None,
        typer.Option(
            metavar="{as-written,calibrated,shuffled,one}", help="How hard a pair is to tell apart (hanorec)."
        ),
    ] = None,
    responsiveness: Annotated[
        str | None, typer.Option(metavar="{stable,as-released,one}", help="The batch's factor on beta (hanorec).")
    ] = None,
    noise: Annotated[
        str | None, typer.Option(metavar="{none,logits,lora}", help="What of the policy is perturbed (hanorec).")
    ] = None,
    sigma: Annotated[float | None, typer.Option(min=0, help="Standard deviation of the noise (hanorec).")] = None,
    consistency: Annotated[
        float | None, typer.Option(min=0, help="Weight of KL(clean, perturbed), with noise on logits (hanorec).")
    ] = None,
    lora_r: Annotated[int | None, typer.Option(min=1, help="Rank of the fresh adapter (default 8).")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Its weight is alpha / rank (default 32).")] = None,
    lora_dropout: Annotated[float | None, typer.Option(help="Dropout of its input (default 0.05).")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the positions (default 1).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Positions at a time (default 4).")] = None,
    accumulation: Annotated[int | None, typer.Option(min=1, help="Batches per step (default 8).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its peak (default: 1e-4).")] = None,
    gradient_checkpointing: Annotated[
        bool | None, typer.Option("--gradient-checkpointing", help="Less memory for a third more time.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the run met it.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted alignment in --out.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random (default: the run's).")] = None,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Align a fine-tuned language model on preferences: chosen items above rejected ones, further than it has them.

    Its adapter becomes part of the weights and a fresh one is trained; switched off, it leaves the reference. The
    adapter of the best validation is saved; diagnostics are written as numbers and as a picture.
    """
    options = dict(locals())
    from palate.cli.llm.common import log_row, need_extra, report, set_threads

    need_extra()
    from palate.mllm.alignment.align import align_mllm

    settings = settings_from(options, set_, ALIGN)
    set_threads(threads)
    aligned = align_mllm(
        run,
        out=out,
        objective=objective,
        settings=settings,
        seed=seed,
        device=device,
        retriever=retriever,
        dataset_path=dataset,
        resume=resume,
        on_row=log_row,
    )
    report(aligned.info, out)
    for warning in aligned.info["alignment"]["warnings"]:
        typer.echo(f"Warning: {warning}", err=True)
    typer.echo(f"Diagnostics: {out}/alignment.png, {out}/alignment.json; pairs: {out}/pairs/")
