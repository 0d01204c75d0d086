"""``palate mllm``: language models, with or without an image encoder, that recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.llm.align import align
from palate.cli.llm.audit import audit
from palate.cli.llm.common import log_row, need_extra, report, set_threads
from palate.cli.llm.merge import merge
from palate.cli.llm.probe import probe
from palate.cli.llm.settings import SFT, ZERO_SHOT, TemplateKwargs, settings_from
from palate.cli.llm.warm_up import warm_up
from palate.cli.shared.options import ConfigFile, Seed, Set

mllm = typer.Typer(
    name="mllm", help="Multimodal language models that recommend: warm up, fine-tune, align, or use without training."
)
mllm.command("warm-up")(warm_up)
mllm.command("audit")(audit)
mllm.command("align")(align)
mllm.command("merge")(merge)
mllm.command("probe")(probe)

DatasetFolder = Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")]
Out = Annotated[Path, typer.Option(metavar="RUN", help="Folder of the new run.")]
Model = Annotated[
    str, typer.Option(help="embedded, embedded-small, the name of a model on the hub, or a folder that holds one.")
]
Task = Annotated[
    str | None,
    typer.Option(metavar="{yes-no,choose}", help="Ask about one candidate, or show lettered ones to choose from."),
]
Summary = Annotated[
    str | None,
    typer.Option(metavar="{none,direct,recurrent}", help="Show the history itself, or a preference written from it."),
]
Summaries = Annotated[
    str | None, typer.Option(metavar="NAME", help="These written preferences (`palate summarise users --name`).")
]
ItemSummaryStore = Annotated[
    str | None, typer.Option(metavar="NAME", help="Show these item summaries (`palate summarise items --name`).")
]
HistoryItems = Annotated[
    int | None, typer.Option(min=0, help="List the last N items (default: 10, or 0 with a summary).")
]
Blind = Annotated[bool | None, typer.Option("--blind", help="Show nothing of the user: the control.")]
Images = Annotated[str | None, typer.Option(metavar="{none,candidate,history,both}", help="Whose pictures are shown.")]
MissingImage = Annotated[
    str | None, typer.Option(metavar="{omit,blank}", help="An item without a picture: say so, or show a grey square.")
]
ItemText = Annotated[
    str | None, typer.Option(metavar="{title,full}", help="Of a candidate, its title or all its text.")
]
HistoryText = Annotated[
    str | None, typer.Option(metavar="{title,full}", help="Of the items of the history, the title or all text.")
]
Fields = Annotated[
    str | None, typer.Option(metavar="genres,director", help="With full texts: these fields (default: all).")
]
Prompts = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of your own prompt templates, each in place of its namesake.")
]
Dtype = Annotated[
    str | None, typer.Option(metavar="{auto,float32,bfloat16,float16}", help="Precision of the model's weights.")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Quantisation = Annotated[
    str | None, typer.Option(metavar="{8bit,4bit}", help="Load the model quantised (CUDA only, by bitsandbytes).")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a model on the hub.")]
TrustRemoteCode = Annotated[
    bool | None, typer.Option("--trust-remote-code", help="Run code that the model brings along. Read it first.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")]


@mllm.command()
def sft(
    dataset: DatasetFolder,
    model: Model,
    out: Out,
    task: Task = None,
    summary: Summary = None,
    summaries: Summaries = None,
    item_summaries: ItemSummaryStore = None,
    history_items: HistoryItems = None,
    blind: Blind = None,
    images: Images = None,
    missing_image: MissingImage = None,
    item_text: ItemText = None,
    history_text: HistoryText = None,
    fields: Fields = None,
    prompts: Prompts = None,
    users: Annotated[int | None, typer.Option(min=1, help="Learn from a sample of N users.")] = None,
    cutoffs: Annotated[
        int | None, typer.Option(min=1, help="The last N training positions of each user (default: 3).")
    ] = None,
    negatives: Annotated[
        str | None,
        typer.Option(help="How items that were not the answer are drawn: uniform, popularity; or a plug-in's name."),
    ] = None,
    negatives_per_positive: Annotated[
        int | None, typer.Option(min=1, help="With yes-no: questions answered No for each answered Yes (default: 1).")
    ] = None,
    choices: Annotated[
        int | None, typer.Option(min=2, max=26, help="With choose: candidates in a list (default: 10).")
    ] = None,
    lora_r: Annotated[int | None, typer.Option(min=1, help="Rank of the adapter (default: 8).")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Its weight is alpha / rank (default: 16).")] = None,
    lora_dropout: Annotated[float | None, typer.Option(help="Dropout of its input (default: 0.05).")] = None,
    train_projector: Annotated[
        bool | None,
        typer.Option("--train-projector", help="Adapters between pictures and language as well."),
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(
            metavar="{tokens,options}",
            help="Learn the answer's tokens (default), or which of those allowed it is.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the examples (default: 1).")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples at a time (default: 8).")] = None,
    accumulation: Annotated[int | None, typer.Option(min=1, help="Batches per step (default: 1).")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its peak (default: 2e-4).")] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        typer.Option("--gradient-checkpointing", help="Less memory for a third more time."),
    ] = None,
    dtype: Dtype = None,
    device: Device = "auto",
    quantisation: Quantisation = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = None,
    chat_template_kwargs: TemplateKwargs = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")] = False,
    seed: Seed = 0,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Fine-tune a language model on a dataset's training split: which items do users take next?

    The adapter of the best validation is saved. Killed at any moment, the same command with --resume continues and ends
    with the same numbers.
    """
    options = dict(locals())
    from palate.data.dataset import Dataset

    need_extra()
    from palate.mllm.finetune.sft import fine_tune

    settings = settings_from(options, set_, SFT)
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
    report(run.info, out)


@mllm.command("zero-shot")
def zero_shot(
    dataset: DatasetFolder,
    model: Model,
    out: Out,
    task: Task = None,
    summary: Summary = None,
    summaries: Summaries = None,
    item_summaries: ItemSummaryStore = None,
    history_items: HistoryItems = None,
    blind: Blind = None,
    images: Images = None,
    missing_image: MissingImage = None,
    item_text: ItemText = None,
    history_text: HistoryText = None,
    fields: Fields = None,
    prompts: Prompts = None,
    dtype: Dtype = None,
    device: Device = "auto",
    quantisation: Quantisation = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = None,
    chat_template_kwargs: TemplateKwargs = None,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Use a language model without training: a run that is evaluated like any other."""
    options = dict(locals())
    from palate.data.dataset import Dataset

    need_extra()
    from palate.mllm.zero_shot import zero_shot as make

    settings = settings_from(options, set_, ZERO_SHOT)
    make(
        Dataset.load(dataset),
        out=out,
        settings=settings,
        device=device,
        dataset_path=dataset,
        prompts=prompts,
        summaries=summaries,
        item_summaries=item_summaries,
    )
    typer.echo(f"Run: {out}  (nothing was trained; next: palate evaluate {out} --protocol sampled)")
