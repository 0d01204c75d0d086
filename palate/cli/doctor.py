"""``palate doctor``: what is wrong, or worth knowing, about a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json
from palate.progress import working

if TYPE_CHECKING:
    from rich.table import Table

    from palate.data.doctor import DoctorReport

_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "error": "bold red"}


def doctor(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder that `palate prepare` made.")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too, not only on errors.")] = False,
    pictures: Annotated[bool, typer.Option(help="Decode every picture.")] = True,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Examine a dataset: leaks, ties, duplicates, missing text, broken pictures, thin users, skew.

    Exits with 0 when nothing is wrong, with 1 when there is an error (with --strict: or a warning), with 2 when
    the dataset cannot be read at all.

    For example: palate doctor data/ml-100k
    """
    from palate.console import open_console
    from palate.data.dataset import Dataset
    from palate.data.doctor import examine
    from palate.engines import make_engine

    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    with chosen, working("Examining"):
        report = examine(Dataset.load(dataset), look_at_pictures=pictures, engine=chosen)
    if json_:
        print_json(report.to_dict())
    else:
        console = open_console()
        console.print(table(report))
        console.print(verdict(report), highlight=False)
    if not report.passed(strict):
        raise typer.Exit(1)


def table(report: DoctorReport) -> Table:
    """The findings, gravest last, so that they stay in view."""
    from rich.table import Table
    from rich.text import Text

    from palate.data.doctor import Level

    counts = ", ".join(f"{value:,} {name}" for name, value in report.counts.items())
    shown = Table(title=f"{report.dataset}: {counts}", title_justify="left", show_lines=False, pad_edge=False)
    shown.add_column("")
    shown.add_column("check", no_wrap=True)
    shown.add_column("finding")
    for level in Level:
        for finding in report.findings:
            if finding.level is level:
                text = Text(finding.message)
                if finding.examples and level is not Level.OK:
                    text.append(f"\ne.g. {'; '.join(finding.examples)}", style="dim")
                shown.add_row(Text(str(level), style=_STYLES[level]), finding.check, text)
    return shown


def verdict(report: DoctorReport) -> str:
    """One line: how many of each level."""
    levels = report.to_dict()["levels"]
    counts = ", ".join(
        f"{levels[level]} {level}{'s' if levels[level] != 1 else ''}" for level in ("error", "warning", "note")
    )
    return f"{counts}. What each check means: docs/doctor.md"
