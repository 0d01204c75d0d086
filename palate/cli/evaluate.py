"""``palate evaluate``: several runs in one table, on the same cases, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.evaluation_options import (
    BaseRow,
    CandidateSource,
    CutOffs,
    DatasetFolder,
    Device,
    ExcludeSeen,
    MetricNames,
    NegativeCount,
    PrimaryMetric,
    ProposalDepth,
    ProtocolName,
    RetrieverRun,
    SplitName,
    UserCount,
    UsersSeed,
)
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


def evaluate(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders; NAME=RUN,RUN names a row. Seeds of one model become a row."
        ),
    ],
    protocol: ProtocolName = "full",
    exclude_seen: ExcludeSeen = True,
    split: SplitName = "test",
    negatives: NegativeCount = 100,
    candidates: CandidateSource = "uniform",
    ks: CutOffs = "5,10,20",
    metrics: MetricNames = None,
    primary: PrimaryMetric = None,
    base: BaseRow = None,
    users: UserCount = None,
    users_seed: UsersSeed = None,
    diversity_by: Annotated[
        str | None,
        typer.Option(metavar="STORE", help="Features by which 'diversity' compares items (default: text or image)."),
    ] = None,
    calibration_by: Annotated[
        str | None,
        typer.Option(metavar="FIELD", help="Field whose shares 'miscalibration' compares (default: the category)."),
    ] = None,
    retriever: RetrieverRun = None,
    depth: ProposalDepth = 20,
    blend: Annotated[
        str,
        typer.Option(
            metavar="{W,valid,none}", help="More rows: W x re-ranking + (1 - W) x retriever; valid chooses W."
        ),
    ] = "none",
    dataset: DatasetFolder = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="New folder for per-user results, tables and a chart.")
    ] = None,
    device: Device = "cpu",
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
    from palate.cascade.compared import compare_runs
    from palate.engines import make_engine
    from palate.evaluation.groups import group_runs
    from palate.evaluation.outputs import save_comparison
    from palate.evaluation.paper_table import FORMATS, as_format, check_format
    from palate.evaluation.published import check_publish
    from palate.evaluation.published import publish as write_figures
    from palate.evaluation.saved import parse_table
    from palate.evaluation.settings import EvaluationSettings
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
    settings = EvaluationSettings.parse(
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
    comparison, evaluated, _ = compare_runs(
        group_runs(runs), settings, "test" if split == "test" else "valid",
        dataset=dataset, base=base, retriever=retriever, depth=depth, blend=blend,
    )  # fmt: skip
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
