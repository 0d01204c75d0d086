"""``palate report``: runs and their evaluation as one page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed
from palate.cli.shared.output import print_json_made
from palate.console import counted, print_note
from palate.errors import PalateError, suggest
from palate.names import comma_separated
from palate.progress import working

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palate.evaluation.evaluate import Split
    from palate.evaluation.groups import RunGroup


# Options of the evaluation, which --table has behind it.
_OF_EVALUATION = ("split", "protocol", "negatives", "candidates", "ks", "metrics", "primary", "base")


def report(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of report.html and report.json.")],
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...", help="Run folders; NAME=RUN,RUN names a row. With --table they may be left out."
        ),
    ] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR", help="Show what `palate evaluate --out DIR` measured; nothing is evaluated. Repeatable."
        ),
    ] = None,
    gallery: Annotated[int, typer.Option(min=0, max=200, metavar="N", help="Users to look at.")] = 8,
    k: Annotated[int, typer.Option("--k", "-k", min=1, max=50, help="Items each model shows them.")] = 5,
    summaries: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", help="Written preferences to show (default: those of the runs, or all there are)."
        ),
    ] = None,
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
    retriever: RetrieverRun = None,
    depth: ProposalDepth = 20,
    dataset: DatasetFolder = None,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report in DIR.")] = False,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Write one HTML page that needs no network: comparison, learning curves, cost, the data, and a gallery.

    The gallery shows real users: what they had, what each model recommends, and what they took next.

    For example: palate report runs/ease runs/sasrec --out runs/report
    """
    from palate.cascade.compared import compare_runs
    from palate.evaluation.groups import group_runs, open_dataset
    from palate.evaluation.saved import load_table, parse_table
    from palate.evaluation.settings import EvaluationSettings
    from palate.evaluation.tables import to_json
    from palate.evaluation.users import UserSample
    from palate.report.build import PAGE, GalleryPlan, check_out, write_report
    from palate.report.models import gallery_models, named_as_in, runs_of

    check_out(out, overwrite)
    if split not in ("valid", "test"):
        raise PalateError(f"there is no split '{split}' to look at", suggest(split, ["valid", "test"]))
    if not runs and not table:
        raise PalateError("there is nothing to report on", "Give runs, or a table with --table DIR.")
    if table:
        refuse_options(context, _OF_EVALUATION, "is an option of an evaluation, and --table shows an earlier one")
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
        }
    )
    tables = [load_table(folder) for folder in table or []]
    groups: Sequence[RunGroup] = named_as_in(tables, group_runs(runs)) if runs else runs_of(tables)
    part: Split = "test" if split == "test" else "valid"
    sample = settings.users
    if tables:
        # The gallery looks at what the table looked at.
        part = "valid" if tables[0].split == "valid" else "test"
        drawn = tables[0].users
        sample = sample or (None if drawn is None else UserSample(drawn.drawn, drawn.seed))
    models, notes, groups = gallery_models(groups, retriever, depth, exclude_seen, device)
    if tables:
        data = open_dataset(groups, dataset)
    else:
        proposing = retriever if settings.protocol == "full" else None  # sampled candidates need no retriever
        compared, evaluated, data = compare_runs(
            groups, settings, part, dataset=dataset, base=base, retriever=proposing, depth=depth
        )
        runs_by_row = {group.label: [result.facts["run"] for result in group.results] for group in evaluated}
        tables = [parse_table({**to_json(compared), "runs": runs_by_row}, "the evaluation")]
    plan = GalleryPlan(
        models=models,
        users=gallery,
        k=k,
        seed=seed,
        split=part,
        sample=sample,
        exclude_seen=tables[0].exclude_seen if table else exclude_seen,
        summaries=None if summaries is None else comma_separated(summaries),
        notes=notes,
    )
    with working("Writing the report"):
        facts = write_report(out, data, groups, tables, plan, overwrite=overwrite)
    if json_:
        print_json_made(out, {"report": str(out / PAGE), **facts})
        return
    for note in facts["gallery"]["notes"]:
        print_note(f"Note: {note}")
    size = (out / PAGE).stat().st_size / 1e6
    counts = f"{counted(len(facts['gallery']['users']), 'user')}, {counted(facts['pictures']['shown'], 'picture')}"
    typer.echo(f"{out / PAGE}: {counts}, {size:.1f} MB. Open it in a browser.")
