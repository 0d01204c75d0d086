"""``palate summarise``: a model describes items, and writes down what users prefer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed, split_fields
from palate.cli.shared.output import print_json, print_json_made
from palate.console import agreeing, counted
from palate.errors import PalateError
from palate.mllm.backends import BACKENDS
from palate.names import comma_separated

if TYPE_CHECKING:
    from palate.engines.base import Engine
    from palate.mllm.backends.base import Backend
    from palate.mllm.backends.options import BackendOptions
    from palate.mllm.summaries.report import CostEstimate, SummaryReport

_REASONS_SHOWN = 10

summarise = typer.Typer(
    name="summarise", help="Have a model describe items, and write down what users prefer.", no_args_is_help=True
)

DatasetFolder = Annotated[Path, typer.Argument(help="Dataset folder, as `palate prepare` makes it.")]
BackendName = Annotated[
    str,
    typer.Option("--backend", metavar=f"{{{','.join(BACKENDS)}}}", help="Who writes: see the documentation."),
]
ModelName = Annotated[str | None, typer.Option(help="Hub name or folder (local), the server's name of it (openai).")]
StoreName = Annotated[
    str | None, typer.Option("--name", help="Name of the store; by default that of the model and what is written.")
]
ShownFields = Annotated[
    str | None, typer.Option(metavar="genres,director", help="Text fields shown beside the title (default: all).")
]
Prompts = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of prompts in place of the built-in ones.")]
NewTokens = Annotated[int, typer.Option(min=1, help="Longest text, in tokens.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Write at most this many new texts.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Report what is missing and what it would take, and stop.")]


@summarise.command("items")
@from_config(Fields("palate.mllm.backends.options:PictureBackendOptions"))
def items(
    dataset: DatasetFolder,
    *,
    backend: BackendName = "embedded",
    model: ModelName = None,
    name: StoreName = None,
    source: Annotated[
        str, typer.Option(metavar="{picture,text,either}", help="What of an item is described; see the documentation.")
    ] = "picture",
    sample: Annotated[
        int | None, typer.Option("--users", min=1, help="Only items that a sample of this many users took.")
    ] = None,
    fields: ShownFields = None,
    prompts: Prompts = None,
    max_new_tokens: NewTokens = 120,
    limit: Limit = None,
    dry_run: DryRun = False,
    settings: Settings,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    seed: Seed = 0,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Describe items: what their pictures show, or what their texts say.

    Killed and started again it goes on where it was. Exit code 1: some summaries could not be had; it lists them.

    For example: palate summarise items data/shop --source text --limit 100
    """
    from palate.data.dataset import Dataset
    from palate.data.sample import sample_users
    from palate.engines import make_engine
    from palate.mllm.backends.options import PictureBackendOptions
    from palate.mllm.prompts.items import Items
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.summaries.items import ItemOptions, ItemWork
    from palate.mllm.summaries.store import rows_by_key, slug, store_folder
    from palate.mllm.summaries.vocabulary import Vocabulary

    options = ItemOptions.parse(
        {"source": source, "max_new_tokens": max_new_tokens, "fields": split_fields(fields)},
        where="palate summarise items",
    )
    backend_options = PictureBackendOptions.parse(settings, where="palate summarise items")
    chosen_engine = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    data = Dataset.load(dataset)
    templates = Templates.load(prompts)
    folder = store_folder(dataset, "items", name or f"{slug(_model_name(backend, model))}-{source}")
    only: list[int] | None = None
    if sample is not None:
        only = data.sequences.take(sample_users(data, sample, seed)).values.tolist()
    items = Items.of(data.catalogue, fields=options.fields)
    with _open(backend, model, backend_options, seed, chosen_engine, data.catalogue.root) as opened:
        work = ItemWork(items, templates, options, opened.identity, Vocabulary(data.catalogue), only)
        if dry_run:
            texts = {key: row["text"] for key, row in rows_by_key(folder).items()}
            _show_estimate(work.estimate(texts), folder, json_)
            return
        report = work.write(folder, opened, limit=limit)
    _finish(report, json_)


@summarise.command("users")
@from_config(Fields("palate.mllm.backends.options:BackendOptions"))
def users(
    dataset: DatasetFolder,
    *,
    backend: BackendName = "embedded",
    model: ModelName = None,
    name: StoreName = None,
    strategy: Annotated[
        str, typer.Option(metavar="{recurrent,direct}", help="Block by block from the preference so far, or at once.")
    ] = "recurrent",
    block: Annotated[int, typer.Option(min=1, help="Items per step.")] = 3,
    as_of: Annotated[
        str, typer.Option(metavar="train,valid,test,now", help="Cut-offs: what came before them is read; now: all.")
    ] = "train,valid,test",
    cutoffs: Annotated[int, typer.Option(min=1, help="train: how many of each user's last training positions.")] = 3,
    max_items: Annotated[int, typer.Option(min=0, help="At most this many of the last items are read; 0: all.")] = 18,
    item_summaries: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show these written item summaries beside the titles.")
    ] = None,
    sample: Annotated[int | None, typer.Option("--users", min=1, help="Only a sample of this many users.")] = None,
    fields: ShownFields = None,
    prompts: Prompts = None,
    max_new_tokens: NewTokens = 120,
    limit: Limit = None,
    dry_run: DryRun = False,
    settings: Settings,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample of users, and of drawn words.")] = 0,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Write down what users prefer, from the items before a cut-off.

    Killed and started again it goes on where it was. Exit code 1: some summaries could not be had; it lists them.

    For example: palate summarise users data/shop --as-of test --users 200
    """
    from palate.data.dataset import Dataset
    from palate.data.sample import sample_users
    from palate.engines import make_engine
    from palate.mllm.backends.options import BackendOptions
    from palate.mllm.prompts.items import Items
    from palate.mllm.prompts.summary_prompts import SummaryPrompts
    from palate.mllm.prompts.templates import Templates
    from palate.mllm.summaries.items import ItemSummaries
    from palate.mllm.summaries.steps import SummarySteps, UserOptions
    from palate.mllm.summaries.store import rows_by_key, slug, store_folder
    from palate.mllm.summaries.users import UserWork, cut_offs
    from palate.mllm.summaries.vocabulary import Vocabulary

    if strategy == "none":
        raise PalateError("--strategy none writes nothing", "Train with --summary none; no summaries are needed.")
    writing = {"strategy": strategy, "block": block, "max_items": max_items, "max_new_tokens": max_new_tokens}
    options = UserOptions.parse({**writing, "fields": split_fields(fields)}, where="palate summarise users")
    backend_options = BackendOptions.parse(settings, where="palate summarise users")
    chosen_engine = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    data = Dataset.load(dataset)
    chosen = None if sample is None else sample_users(data, sample, seed)
    requested = cut_offs(data, comma_separated(as_of), chosen, cutoffs)
    written = ItemSummaries.load(store_folder(dataset, "items", item_summaries)) if item_summaries else None
    templates = Templates.load(prompts)
    folder = store_folder(dataset, "users", name or f"{slug(_model_name(backend, model))}-{strategy}")
    prompts_of = SummaryPrompts(Items.of(data.catalogue, written, options.fields), templates)
    ids = data.user_ids.cast(str).to_list()
    with _open(backend, model, backend_options, seed, chosen_engine, data.catalogue.root) as opened:
        summary_steps = SummarySteps(prompts_of, options, opened.identity)
        work = UserWork(summary_steps, requested, ids, item_summaries, Vocabulary(data.catalogue))
        if dry_run:
            texts = {key: row["text"] for key, row in rows_by_key(folder).items()}
            _show_estimate(work.estimate(texts), folder, json_)
            return
        report = work.write(folder, opened, limit=limit)
    _finish(report, json_)


def _model_name(backend: str, model: str | None) -> str:
    """How a model is called in the name of a store: a folder by its own name."""
    if model is None:
        return backend
    return Path(model).resolve().name if Path(model).is_dir() else model


@contextmanager
def _open(
    name: str, model: str | None, options: BackendOptions, seed: int, engine: Engine, pictures: Path
) -> Iterator[Backend]:
    """The backend of a name, on an engine whose workers need the folder of pictures."""
    from palate.mllm.backends.workers import backend_by

    folders = (pictures,) if pictures.is_dir() else ()
    with engine, backend_by(engine, name, model, folders, seed=seed, **options.model_dump()) as backend:
        yield backend


def _show_estimate(estimate: CostEstimate, folder: Path, as_json: bool) -> None:
    """Print what a run would have to do."""
    if as_json:
        print_json({"store": str(folder), **asdict(estimate)})
        return
    print(f"{counted(estimate.requests, 'text')} {agreeing(estimate.requests, 'is', 'are')} missing in {folder}.")
    if estimate.requests:
        pictures = f", {counted(estimate.pictures, 'picture')}" if estimate.pictures else ""
        print(f"To be read: about {estimate.prompt_tokens:,} tokens{pictures}.")
        print(f"To be written: at most {estimate.new_tokens:,} tokens.")


def _finish(report: SummaryReport, as_json: bool) -> None:
    """Print the outcome; end with exit code 1 where a summary could not be had."""
    if as_json:
        print_json_made(report.folder, report.as_json())
    else:
        _print(report)
    if report.missing:
        raise typer.Exit(1)


def _print(report: SummaryReport) -> None:
    what = "items" if report.unit == "items" else f"cut-offs of {counted(report.units, 'user')}"
    there = report.requested - report.left - len(report.missing)
    print(f"{there:,} of {report.requested:,} {what} have a summary in {report.folder}.")
    written = counted(report.written, "text")
    print(f"{report.had:,} had one before; {written} {agreeing(report.written, 'is', 'are')} new.")
    for reason, count in report.skipped.items():
        print(f"{count:,} {report.unit} {reason} {agreeing(count, 'was', 'were')} left out.")
    if report.refused:
        print(f"Why pictures cannot be shown is in {report.folder / 'missing.json'}, e.g. {report.refused[0].error}")
    if report.left:
        print(f"{report.left:,} are left for another run (--limit).")
    print(report.writing)
    cost = report.cost
    if cost.requests:
        failed = f", {cost.failed:,} in vain" if cost.failed else ""
        print(
            f"Cost of this run: {counted(cost.requests, 'request')}{failed}, {counted(cost.attempts, 'attempt')}, "
            f"{cost.prompt_tokens:,} tokens read, {cost.new_tokens:,} written, {cost.seconds:,.1f} s."
        )
    each = report.per_thousand
    if each:
        print(
            f"Cost of 1,000 {report.unit} from nothing, by all runs of this store: {each['requests']:,.0f} requests, "
            f"{each['prompt_tokens']:,.0f} tokens read, {each['new_tokens']:,.0f} written, {each['seconds']:,.0f} s."
        )
    if report.missing:
        print(f"{len(report.missing):,} could not be had, listed in {report.folder / 'missing.json'}:")
        for reason, count in list(report.reasons.items())[:_REASONS_SHOWN]:
            print(f"  {count:,} x {reason}")
        if len(report.reasons) > _REASONS_SHOWN:
            print(f"  and {len(report.reasons) - _REASONS_SHOWN} reasons more")
        print("Start it again to ask for them once more.")
