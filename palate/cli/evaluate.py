"""``palate evaluate``: several runs in one table, on the same cases, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.given import refuse_options
from palate.cli.shared.options import (
    ConfigFile,
    JsonOutput,
    LatexCaption,
    LatexLabel,
    PublishTo,
    Seed,
    TableFormat,
)
from palate.cli.shared.output import print_json_made
from palate.console import print_table
from palate.errors import PalateError, suggest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.evaluation.evaluate import Split


def evaluate(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders; NAME=RUN,RUN names a row. Seeds of one model become a row."
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(metavar="{full,sampled}", help="Rank the whole catalogue, or targets among sampled negatives."),
    ] = "full",
    exclude_seen: Annotated[
        bool,
        typer.Option(
            "--exclude-seen/--keep-seen", help="Leave the history out of the ranking (product) or not (peer)."
        ),
    ] = True,
    split: Annotated[str, typer.Option(metavar="{valid,test}", help="Which held-out interactions.")] = "test",
    negatives: Annotated[int, typer.Option(min=1, help="Sampled negatives per user.")] = 100,
    candidates: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="How negatives are drawn: uniform, popularity or a plug-in's name; or a candidates.npz.",
        ),
    ] = "uniform",
    ks: Annotated[str, typer.Option(metavar="5,10,20", help="Cut-offs.")] = "5,10,20",
    metrics: Annotated[
        str | None, typer.Option(metavar="ndcg,recall,...", help="Metrics (default: all that fit the protocol).")
    ] = None,
    primary: Annotated[
        str | None, typer.Option(metavar="ndcg@10", help="The metric that decides (default: ndcg@10 if measured).")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Run or row that the others are compared with (default: the first)."),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only N users, drawn by seed: the same in every split.")
    ] = None,
    users_seed: Annotated[
        int | None, typer.Option(min=0, metavar="SEED", help="Seed of the users drawn (default: --seed).")
    ] = None,
    diversity_by: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Features by which 'diversity' compares items (default: text or image)."),
    ] = None,
    calibration_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field whose shares 'miscalibration' compares (default: the category)."),
    ] = None,
    retriever: Annotated[
        str | None,
        typer.Option(metavar="RUN0", help="Runs too slow for the whole catalogue re-rank what this one proposes."),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, metavar="N", help="How many items the retriever proposes.")] = 20,
    blend: Annotated[
        str,
        typer.Option(
            metavar="{W,valid,none}", help="More rows: W x re-ranking + (1 - W) x retriever; valid chooses W."
        ),
    ] = "none",
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the runs met it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for per-user results, tables and a chart.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where models answer: auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    memory_mb: Annotated[
        int,
        typer.Option(
            min=1, metavar="MB", help="For scores: catalogues that are too large for it are ranked in blocks of items."
        ),
    ] = 1024,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    seed: Seed = 0,
    format_: TableFormat = "table",
    caption: LatexCaption = None,
    label: LatexLabel = None,
    publish: PublishTo = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Evaluate runs side by side: one table, identical cases and candidates, intervals, paired differences.

    For example: palate evaluate runs/ease runs/sasrec --base runs/ease --out runs/table
    """
    from dataclasses import replace

    from palate.engines import make_engine
    from palate.evaluation.compare import compare
    from palate.evaluation.groups import RunGroup, find_group, group_runs, open_dataset
    from palate.evaluation.outputs import save_comparison
    from palate.evaluation.paper_table import FORMATS, as_format, check_format
    from palate.evaluation.protocol import Measure
    from palate.evaluation.published import check_publish
    from palate.evaluation.published import publish as write_figures
    from palate.evaluation.saved import parse_table
    from palate.evaluation.tables import (
        footnotes,
        main_table,
        scoring_cost_table,
        seed_table,
        slice_table,
        to_json,
        to_markdown,
    )
    from palate.storage.files import write_text

    # Everything that can be wrong is looked at before the first model is scored.
    check_format(format_, json_, caption, label)
    if publish is not None:
        check_publish(publish)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PalateError(f"{out} exists already", "Choose another --out, or remove it first.")
    if split not in ("valid", "test"):
        raise PalateError(f"there is no split '{split}' to evaluate", suggest(split, ["valid", "test"]))
    if retriever is None and blend != "none":
        raise PalateError(f"--blend {blend} mixes a retriever in, and there is none", "Give --retriever RUN0.")
    if retriever is None:
        refuse_options(context, ["depth"], "is an option of --retriever, which is not given")
    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    if retriever is not None and not chosen.in_process:
        raise PalateError(f"--engine {engine} evaluates single runs, no cascades", "Leave out --retriever or --engine.")
    measure = Measure.parse(
        {
            "protocol": protocol,
            "exclude_seen": exclude_seen,
            "metrics": metrics,
            "ks": ks,
            "primary": primary,
            "candidates": candidates,
            "negatives": negatives,
            "device": device,
            "seed": seed,
            "users": users,
            "users_seed": users_seed,
            "diversity_by": diversity_by,
            "calibration_by": calibration_by,
            "memory_mb": memory_mb,
        },
        chosen,
    )
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    groups: Sequence[RunGroup] = group_runs(runs)
    part: Split = "test" if split == "test" else "valid"
    more: dict[str, Any] = {}
    if retriever is None:
        base_label = find_group(groups, base) if base is not None else groups[0].label
        data = open_dataset(groups, dataset)
        with chosen:
            evaluated = measure.evaluate(groups, data, part)
    else:
        from palate.cascade.rows import CascadeTable

        table = CascadeTable.plan(groups, retriever, measure, part, depth=depth, blend=blend)
        base_label = table.find(base)
        data = open_dataset(table.groups, dataset)
        evaluated, more = table.evaluate(data, measure, part)
    comparison = compare(evaluated, base=base_label, primary=primary, seed=seed)
    comparison = replace(comparison, facts={**comparison.facts, **more})
    if out is not None:
        save_comparison(out, comparison, evaluated)
    facts = to_json(comparison)
    if publish is not None:
        write_figures(parse_table(facts, "the evaluation"), publish)
    if json_:
        print_json_made(out, facts)
        return
    if format_ == "markdown":
        print(to_markdown(comparison), end="")
        return
    if file := FORMATS[format_]:
        text = as_format(format_, parse_table(facts, "the evaluation"), caption, label)
        print(text, end="")
        if out is not None:
            write_text(out / file, text)
        return
    print_table(main_table(comparison))
    if any(len(row.seeds) > 1 for row in comparison.rows):
        print_table(seed_table(comparison))
    if comparison.slices:
        print_table(slice_table(comparison))
    costs = scoring_cost_table(comparison)
    if costs is not None:
        print_table(costs)
    for note in footnotes(comparison):
        typer.echo(f"- {note}")
    if out is not None:
        pictures = [name for name in ("chart.png", "trade-off.png") if (out / name).is_file()]
        typer.echo(f"Written to {out}: table.md, table.json, {', '.join(pictures)}, per-user.parquet.")
    if publish is not None:
        typer.echo(f"Figures: {publish}.")
