"""``palate gate``: may last night's model be replaced by tonight's?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.evaluation_options import Device
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed, Threads, set_threads
from palate.cli.shared.output import print_json
from palate.console import counted

if TYPE_CHECKING:
    from palate.console import Table
    from palate.evaluation.gate import Gate
    from palate.evaluation.statistics import Estimate


def gate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The run that answers now.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The run that is to take its place.")],
    dataset: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Whose interactions judge them, such as a later day's (default: NEW's)."),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="ndcg@10", help="What decides: a metric at a cut-off.")] = "ndcg@10",
    margin: Annotated[
        float,
        typer.Option(metavar="SHARE", help="The accepted loss, from 0 to below 1, as a share of OLD's figure."),
    ] = 0.05,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--keep-seen", help="Leave the history out of the ranking, or not.")
    ] = True,
    known_to_both: Annotated[
        bool, typer.Option("--known-to-both", help="Rank only items that both runs know.")
    ] = False,
    least_coverage: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Refuse NEW if its lists show less of the catalogue."),
    ] = None,
    least_overlap: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Refuse NEW if its lists have less in common with OLD's."),
    ] = None,
    users: Annotated[int, typer.Option(min=0, help="At most N users, drawn by seed; 0: all.")] = 0,
    device: Device = "cpu",
    threads: Threads = None,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Decide whether NEW may replace OLD: both answer the same cases, which neither was trained on.

    Exit code 0: NEW may replace OLD. 1: it is worse. 3: too few cases to tell.

    For example: palate gate runs/monday runs/tuesday --dataset data/wednesday
    """
    from palate.data.dataset import Dataset
    from palate.evaluation.gate import gate as decide

    set_threads(threads)
    found = decide(
        old,
        new,
        dataset=None if dataset is None else Dataset.load(dataset),
        metric=metric,
        margin=margin,
        exclude_seen=exclude_seen,
        known_to_both=known_to_both,
        least_coverage=least_coverage,
        least_overlap=least_overlap,
        users=users,
        device=device,
        seed=seed,
    )
    if json_:
        print_json(to_json(found))
    else:
        _show(found)
    raise typer.Exit(found.exit_code)


def to_json(found: Gate) -> dict[str, Any]:
    """What was found, for machines; a figure that there is not is null."""
    figures = [
        {
            "slice": one.name,
            "cases": one.cases,
            **{name: _figure(getattr(one, name)) for name in ("old", "new", "difference")},
        }
        for one in found.slices
    ]
    numbers = {
        "margin": found.margin,
        "overlap": found.overlap,
        "coverage_old": found.coverage[0],
        "coverage_new": found.coverage[1],
    }
    return {
        "verdict": found.verdict,
        "exit_code": found.exit_code,
        "reasons": found.reasons,
        "metric": found.metric,
        **{name: _number(value) for name, value in numbers.items()},
        "cases_needed": found.enough,
        "slices": figures,
        **found.facts,
    }


def _figure(one: Estimate) -> dict[str, float | None]:
    return {"mean": _number(one.mean), "low": _number(one.low), "high": _number(one.high)}


def _number(value: float) -> float | None:
    return value if value == value else None


def _show(found: Gate) -> None:
    from palate.console import open_console, print_table

    console, facts = open_console(), found.facts
    if found.slices:
        print_table(_table(found))
        console.print(
            f"First {found.k}: OLD shows {found.coverage[0]:.1%} of the catalogue, NEW {found.coverage[1]:.1%}; "
            f"{found.overlap:.1%} of their lists is the same.",
            soft_wrap=True,
        )
    console.print(
        f"{counted(facts['cases'], 'case')} of {facts['dataset']['name']} that neither run was trained on, "
        f"{counted(facts['candidates'], 'candidate')}; items unknown to OLD: {facts['unknown_items']['old']:,}, "
        f"to NEW: {facts['unknown_items']['new']:,}.",
        soft_wrap=True,
    )
    words = {"pass": "NEW may replace OLD", "worse": "NEW must not replace OLD", "undecided": "Too few cases to tell"}
    console.print(f"{words[found.verdict]}: {'; '.join(found.reasons)}.", style="bold", soft_wrap=True)
    if found.verdict == "undecided" and found.enough:
        console.print(
            f"Runs that are equally good would need about {found.enough:,} cases; or accept more with --margin.",
            soft_wrap=True,
        )


def _signed(one: Estimate) -> str:
    interval = f" [{one.low:+.4f}, {one.high:+.4f}]" if math.isfinite(one.low) else ""
    return f"{one.mean:+.4f}{interval}"


def _table(found: Gate) -> Table:
    from palate.console import Table
    from palate.evaluation.tables import interval_text, label_of

    rows = [
        [one.name, f"{one.cases:,}", *map(interval_text, (one.old, one.new)), _signed(one.difference)]
        for one in found.slices
    ]
    title = f"{label_of(found.metric)} [95%]; a loss of {found.margin:.4f} is accepted"
    return Table(title, ["slice", "users", "OLD", "NEW", "NEW - OLD"], rows)
