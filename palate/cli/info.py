"""``palate info``: what an artefact is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json


def info(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Dataset, feature store, run, bundle, evaluation, or a file.")
    ],
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Say what a file or folder is: where it comes from, what it holds, how large it is.

    For example: palate info runs/sasrec
    """
    from palate.artefact import describe

    facts = describe(path)
    if json_:
        print_json(facts)
        return
    from palate.console import human_bytes, print_facts

    shown = {key: value for key, value in facts.items() if key != "kind"}
    if facts["kind"] == "run" and facts.get("trained_on"):
        shown["trained_on"] = [_with_dates(log) for log in facts["trained_on"]]
    if "bytes" in shown:
        shown["bytes"] = human_bytes(shown["bytes"])
    print_facts(f"{path}: {facts['kind']}", shown)


def _with_dates(log: Any) -> Any:
    """What a run has learnt from, with the date of the last interaction; what is no time stays as it is."""
    from palate.data.moments import iso_time

    try:
        return log if log.get("until") is None else {**log, "until": iso_time(log["until"])}
    except (AttributeError, TypeError, ValueError, OverflowError, OSError):
        return log
