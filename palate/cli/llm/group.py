"""``palate mllm``: language models, with or without an image encoder, that recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.llm.align import align
from palate.cli.llm.audit import audit
from palate.cli.llm.common import log_row, need_extra, report
from palate.cli.llm.merge import merge
from palate.cli.llm.pretrain import pretrain
from palate.cli.llm.probe import probe
from palate.cli.llm.settings import SFT, ZERO_SHOT
from palate.cli.llm.warm_up import warm_up
from palate.cli.shared.from_config import Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, NewRun, Seed, Threads, set_threads
from palate.cli.shared.output import print_json_made

mllm = typer.Typer(
    name="mllm", help="Multimodal language models that recommend: warm up, fine-tune, align, or use without training."
)
mllm.command("warm-up")(warm_up)
mllm.command("audit")(audit)
mllm.command("align")(align)
mllm.command("merge")(merge)
mllm.command("pretrain")(pretrain)
mllm.command("probe")(probe)

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")]
Summaries = Annotated[
    str | None, typer.Option(metavar="NAME", help="These written preferences (`palate summarise users --name`).")
]
ItemSummaryStore = Annotated[
    str | None, typer.Option(metavar="NAME", help="Show these item summaries (`palate summarise items --name`).")
]
Prompts = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of your own prompt templates, each in place of its namesake.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@mllm.command()
@from_config(*SFT)
def sft(
    dataset: DatasetFolder,
    out: NewRun,
    settings: Settings,
    summaries: Summaries = None,
    item_summaries: ItemSummaryStore = None,
    prompts: Prompts = None,
    device: Device = "auto",
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")] = False,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Fine-tune a language model on a dataset's training split: which items do users take next?

    The adapter of the best validation is saved. Killed at any moment, the same command with --resume continues and ends
    with the same numbers.

    For example: palate mllm sft data/shop --model embedded --users 500 --out runs/mllm
    """
    from palate.data.dataset import Dataset

    need_extra()
    from palate.mllm.finetune.sft import fine_tune

    set_threads(threads)
    run = fine_tune(
        Dataset.load(dataset),
        out=out,
        settings=settings,
        seed=seed,
        device=device,
        dataset_path=dataset,
        prompts=prompts,
        summaries=summaries,
        item_summaries=item_summaries,
        resume=resume,
        on_row=log_row,
    )
    report(run.info, out, json_)


@mllm.command("zero-shot")
@from_config(*ZERO_SHOT)
def zero_shot(
    dataset: DatasetFolder,
    out: NewRun,
    settings: Settings,
    summaries: Summaries = None,
    item_summaries: ItemSummaryStore = None,
    prompts: Prompts = None,
    device: Device = "auto",
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Use a language model without training: a run that is evaluated like any other.

    For example: palate mllm zero-shot data/shop --model embedded --out runs/zero-shot
    """
    from palate.data.dataset import Dataset

    need_extra()
    from palate.mllm.zero_shot import zero_shot as make

    run = make(
        Dataset.load(dataset),
        out=out,
        settings=settings,
        device=device,
        dataset_path=dataset,
        prompts=prompts,
        summaries=summaries,
        item_summaries=item_summaries,
    )
    if json_:
        print_json_made(out, run.info)
        return
    typer.echo(f"Run: {out}  (nothing was trained; next: palate evaluate {out} --protocol sampled)")
