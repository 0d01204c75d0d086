"""``palate mllm align``: a language model that recommends is aligned on preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.llm.settings import ALIGN
from palate.cli.shared.from_config import Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, RunDataset, RunSeed, Threads, set_threads


@from_config(*ALIGN)
def align(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run of `palate mllm sft` (or zero-shot, align).")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN2", help="Folder of the new run.")],
    settings: Settings,
    objective: Annotated[
        str,
        typer.Option(help="dpo, cdpo, s-dpo, dmpo, ipo, simpo, hanorec; bpr, softmax and bce; or a plug-in's name."),
    ] = "dpo",
    retriever: Annotated[
        Path | None,
        typer.Option(metavar="RUN0", help="A fast ranker, whose best items are the pool of hard and top-k."),
    ] = None,
    dataset: RunDataset = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted alignment in --out.")] = False,
    seed: RunSeed = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Align a fine-tuned language model on preferences: chosen items above rejected ones, further than it has them.

    Its adapter becomes part of the weights and a fresh one is trained; switched off, it leaves the reference. The
    adapter of the best validation is saved; diagnostics are written as numbers and as a picture.

    For example: palate mllm align runs/mllm --objective dpo --out runs/mllm-aligned
    """
    from palate.cli.llm.common import log_row, need_extra, report

    need_extra()
    from palate.mllm.alignment.align import align_mllm

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
    if report(aligned.info, out, json_):
        typer.echo(f"Diagnostics: {out}/alignment.png, {out}/alignment.json; pairs: {out}/pairs/")
