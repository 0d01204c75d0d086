"""``palate track``: finished runs, tables and bundles, sent to a tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json
from palate.errors import PalateError, one_line

_TABLE_FILES = ("table.json", "table.md", "chart.png", "trade-off.png", "per-user.parquet")


def track(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Runs, folders of evaluations with --out, and bundles.")
    ],
    to: Annotated[str, typer.Option(metavar="mlflow,wandb", help="Where they are sent.")],
    with_model: Annotated[bool, typer.Option("--with-model", help="Of runs, send the trained model too.")] = False,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Send finished runs, tables and bundles to MLflow or Weights & Biases.

    A run sends its options, its pictures, and the rows of metrics.jsonl that the tracker does not have yet. Servers and
    projects are set as these packages do it: MLFLOW_TRACKING_URI, WANDB_PROJECT ...

    For example: palate track runs/sasrec runs/comparison --to mlflow
    """
    from palate.runs.trackers import tracker_names

    names = tracker_names(to)
    if not names:
        raise PalateError("--to is empty", "Name mlflow, wandb, or both with a comma.")
    kinds = [_kind_of(path) for path in paths]  # all are looked at before the first is sent
    sent = []
    for path, kind in zip(paths, kinds, strict=True):
        for name in names:
            try:
                identifier = _send_run(path, name, with_model) if kind == "run" else _send_folder(path, name, kind)
            except PalateError:
                raise
            except Exception as error:  # a server, a network, a package: they raise what they like
                raise PalateError(
                    f"{name} does not take {path} ({one_line(error)})",
                    "Check its server and your login; what was sent before is not sent again.",
                ) from None
            sent.append({"path": str(path), "kind": kind, "tracker": name, "id": identifier})
            if not json_:
                typer.echo(f"{path}: {kind}, at {name} as {identifier}")
    if json_:
        print_json({"sent": sent})


def _kind_of(path: Path) -> str:
    from palate.bundle.manifest import NAME
    from palate.evaluation.saved import load_table
    from palate.runs.run import Run

    if (path / NAME).is_file():
        return "bundle"
    if (path / "table.json").is_file():
        load_table(path)
        return "table"
    run = Run.open(path)
    if not run.finished:
        raise run.unfinished()
    return "run"


def _send_run(path: Path, name: str, with_model: bool) -> str:
    from palate.runs.trackers import RunTracker
    from palate.storage.small_files import json_rows

    run = RunTracker(path, name)
    if (path / "metrics.jsonl").is_file():
        run.add(list(json_rows(path / "metrics.jsonl")))
    run.files()
    if with_model:
        run.tracker.folder(path / "model", "model")
    run.tracker.finish()
    return run.tracker.identifier


def _send_folder(path: Path, name: str, kind: str) -> str:
    from palate.evaluation.saved import load_table
    from palate.runs.trackers import Tracker, existing

    tracker = Tracker(name, path.resolve().name)
    if kind == "bundle":
        tracker.folder(path, path.resolve().name)
    else:
        table = load_table(path)
        tracker.options({"table": {"dataset": table.dataset.name, "split": table.split, "protocol": table.name}})
        for row in table.models:
            tracker.numbers({f"{row.label}/{metric}": one.mean for metric, one in row.metrics.items()})
        for file in existing(path, _TABLE_FILES):
            tracker.file(file)
    identifier = tracker.identifier
    tracker.finish()
    return identifier
