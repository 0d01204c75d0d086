"""``palate recommend``: what a run would show, for a history, a user, or everyone."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.given import refuse_options
from palate.cli.shared.options import ConfigFile, JsonOutput, split_fields, split_ids
from palate.cli.shared.output import print_json, print_json_made
from palate.console import counted
from palate.errors import PalateError
from palate.progress import working

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.data.sequences import Sequences
    from palate.engines.base import Engine
    from palate.rankers.recommend import Recommendations


def recommend(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder made by `palate train`, or a bundle made by `palate bundle`.")
    ],
    history: Annotated[
        str | None, typer.Option(metavar="ITEM,ITEM,...", help='Item ids, oldest first ("" is a newcomer).')
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="ID", help="A user of the dataset.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every user of the dataset, into --out.")] = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Where --all writes: .parquet, .csv, .tsv, .xlsx or .jsonl; or a folder at a URL (s3://...).",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")] = 10,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help='Only items for which this holds: colour=red,blue (either), "price<20" (numbers). Repeatable: all '
            "must hold.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="No items for which this holds. Repeatable."),
    ] = None,
    allow: Annotated[str | None, typer.Option(metavar="ITEM,ITEM,...", help="Only these items.")] = None,
    deny: Annotated[str | None, typer.Option(metavar="ITEM,ITEM,...", help="None of these items.")] = None,
    fields: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME,...", help="Fields of the catalogue to show with each item, such as price."),
    ] = None,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Items of the history may come again.")] = False,
    dataset: Annotated[
        Path | None, typer.Option(help="Where --user and --all look; by default what the run was trained on.")
    ] = None,
    retriever: Annotated[
        Path | None, typer.Option(metavar="RUN0", help="A fast run that proposes items; RUN puts them in order.")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, metavar="N", help="How many items the retriever proposes.")] = 20,
    blend: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="W", help="Order them by W x RUN + (1 - W) x retriever (default: RUN alone)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="ray: divide the items among N workers (or groups of them), where one cannot hold all their vectors.",
            rich_help_panel="Engine",
        ),
    ] = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Recommend items with a run: for a history, for a user of the dataset, or for everyone.

    Items that nobody has touched yet are recommended as well, where the model can score them.

    For example: palate recommend runs/sasrec --history 50,172,181 --k 5
    """
    _check_choice(history, user, all_, out)
    if blend is not None and retriever is None:
        raise PalateError(f"--blend {blend:g} mixes a retriever in, and there is none", "Give --retriever RUN0.")
    if retriever is None:
        refuse_options(context, ["depth"], "is an option of --retriever, which is not given")
    if engine != "local" and not all_:
        raise PalateError(f"--engine {engine} belongs to --all", "One user is answered in this process: leave it out.")
    if shards is not None and engine == "local":
        raise PalateError("--shards belongs to --engine ray", "Give --all --engine ray with it.")
    if shards is not None and retriever is not None:
        raise PalateError("--retriever proposes few items, which need no --shards", "Leave one of them out.")
    from palate.bundle.recommend import open_recommendations
    from palate.data.dataset import Dataset
    from palate.data.sequences import Sequences
    from palate.engines import make_engine
    from palate.recommender import Shard
    from palate.runs.dataset import dataset_folder

    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    load = partial(
        open_recommendations,
        run,
        only=tuple(only or ()),
        without=tuple(without or ()),
        allow=None if allow is None else tuple(split_ids(allow)),
        deny=tuple(split_ids(deny or "")),
        fields=split_fields(fields) or (),
        exclude_seen=not keep_seen,
        retriever=retriever,
        depth=depth,
        blend=blend,
    )
    with working("Loading the model"):
        # With shards this process only needs to know the model: the first part of it does.
        first = None if shards is None else Shard(0, shards)
        ready = load(device=chosen.own_device(device), warn=True, shard=first)
    _warn_of_unknown(ready, ready.unknown)
    opened = ready.run
    if history is not None:
        _one(ready, Sequences.from_lists([_known_items(ready, history)]), k, {"history": history}, json_)
    elif user is not None:
        data = Dataset.load(dataset_folder(opened, dataset))
        data.history_of(user)  # raises if nobody is there by that id
        histories, _ = ready.histories_of(data)
        row = data.user_index[user]
        _one(ready, histories[row : row + 1], k, {"user": user}, json_)
    elif out is not None:
        with chosen:
            data = Dataset.load(dataset_folder(opened, dataset))
            _everyone(ready, data, out, k, json_, chosen, partial(load, device=device), shards)


def _check_choice(history: str | None, user: str | None, all_: bool, out: str | None) -> None:
    chosen = [
        name for name, on in (("--history", history is not None), ("--user", user is not None), ("--all", all_)) if on
    ]
    if len(chosen) != 1:
        problem = " and ".join(chosen) + " together" if chosen else "nobody to recommend to"
        raise PalateError(problem, "Give one of: --history ITEM,ITEM,... | --user ID | --all --out FILE.parquet.")
    if all_ and out is None:
        raise PalateError("--all prints nothing", "Say where to write: --all --out recs.parquet.")
    if out is not None and not all_:
        raise PalateError(f"--out belongs to --all, not to {chosen[0]}", "Leave it out, or use --json and a pipe.")
    if out is not None and Path(out).is_dir():
        raise PalateError(f"{out} is a folder", "Give --out a file name, such as recs.parquet.")
    if out is not None:
        from palate.rankers.tables import check_table

        check_table(out)


def _known_items(ready: Recommendations, history: str) -> list[int]:
    ids = split_ids(history)
    known, unknown = ready.known(ids)
    if unknown and not known:
        problem = (
            f"knows no item '{unknown[0]}'"
            if len(unknown) == 1
            else f"knows none of the items {', '.join(unknown[:5])}"
        )
        raise PalateError(f"the run {problem}", ready.closest(unknown[0]))
    _warn_of_unknown(ready, unknown)
    return known


def _warn_of_unknown(ready: Recommendations, unknown: list[str]) -> None:
    for item in unknown[:5]:
        print(f"Warning: no item '{item}', left out. {ready.closest(item)}", file=sys.stderr)
    if len(unknown) > 5:
        print(f"Warning: {len(unknown) - 5} more unknown items left out.", file=sys.stderr)


def _one(ready: Recommendations, row: Sequences, k: int, request: dict[str, Any], json_: bool) -> None:
    """Answer for a single history."""
    best = ready.of_indices(row, k).drop("history").fill_nan(None).to_dicts()
    history = row.values.tolist()
    if json_:
        seen = [ready.catalogue.ids[item] for item in history]
        print_json({**request, "history": seen, "items": best})
        return
    _show(ready, history, best)


def _show(ready: Recommendations, history: list[int], best: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from palate.console import open_console, plain

    console = open_console()
    titles = ready.catalogue.titles
    last = [plain(titles[item]) for item in history[-5:]]
    lead = f"{len(history) - 5} more, then " if len(history) > 5 else ""
    console.print(Text(f"After: {lead}{' > '.join(last)}" if last else "For a newcomer"))
    table = Table()
    table.add_column("", justify="right")
    table.add_column("item", overflow="fold")
    table.add_column("title")
    table.add_column("score", justify="right")
    for field in ready.fields:
        table.add_column(Text(plain(field)))
    for row in best:
        more = (Text(plain(_cell(row[name]))) for name in ready.fields.values())
        table.add_row(
            str(row["rank"]), Text(plain(row["item"])), Text(plain(row["title"])), f"{row['score']:.4f}", *more
        )
    console.print(table)
    if not best:
        console.print("No item is left to recommend.")


def _cell(value: Any) -> str:
    """A field's value as one short text."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _everyone(
    ready: Recommendations,
    data: Dataset,
    out: str,
    k: int,
    json_: bool,
    engine: Engine,
    load: Callable[..., Recommendations],
    shards: int | None,
) -> None:
    _warn_of_formulas(ready, data, out)
    started = time.perf_counter()
    # In this process, the model that is loaded answers; workers load their own.
    rows = ready.for_everyone(data, out, k, engine=engine, load=None if engine.in_process else load, shards=shards)
    seconds = time.perf_counter() - started
    if json_:
        print_json_made(out, {"users": data.num_users, "rows": rows})
    else:
        print(f"{counted(rows, 'recommendation')} for {counted(data.num_users, 'user')} in {seconds:.1f} s: {out}")


def _warn_of_formulas(ready: Recommendations, data: Dataset, out: str) -> None:
    """Ids are what other programs join by, so it matters that one is written in another way."""
    import polars as pl

    from palate.rankers.text_cells import read_as_formula

    if Path(out).suffix.lower() not in (".csv", ".tsv"):
        return
    for kind, ids in (("user", data.user_ids.cast(pl.String)), ("item", ready.catalogue.frame["item_id"])):
        odd = ids.filter(read_as_formula(ids))
        if len(odd):
            print(
                f"Warning: {len(odd):,} {kind} ids, such as '{odd[0]}', would be run as formulas by a spreadsheet, and "
                "are written with an apostrophe before them. Write .parquet or .jsonl to keep them as they are.",
                file=sys.stderr,
            )
