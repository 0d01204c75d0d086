"""``palate attach``: neighbours for a run that is trained already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import (
    ConfigFile,
    JsonOutput,
    NewRun,
    RunDataset,
    RunSeed,
    Set,
    Threads,
    parse_assignments,
    set_threads,
)
from palate.cli.shared.output import print_json_made


def attach(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of sasrec, bert4rec, hstu or gru4rec.")],
    out: NewRun,
    neighbours: Annotated[
        str,
        typer.Option(
            metavar="co-occurrence,lexical",
            help="By the log and by features: co-occurrence, lexical, text, image, or a store's name.",
        ),
    ],
    dataset: RunDataset = None,
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Make an interrupted run in --out again.")] = False,
    seed: RunSeed = None,
    set_: Set = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Let the nearest items of the newest ones add to a trained ranker's scores.

    The ranker is not trained again: a few weights, one for each source and lag, are fitted on validation users.

    For example: palate attach runs/sasrec --neighbours co-occurrence,lexical --out runs/attached
    """
    from palate.cli.shared.content import listed
    from palate.console import open_console
    from palate.training.attach import attach as fit

    set_threads(threads)
    made = fit(
        run,
        out=out,
        neighbours=listed(neighbours),
        settings=parse_assignments(list(set_ or [])),
        seed=seed,
        dataset_path=dataset,
        resume=resume,
    )
    if json_:
        print_json_made(out, made.info)
        return
    before, after = (made.info["neighbours"][key] for key in ("before", "after"))
    numbers = ", ".join(f"{name} {before[name]:.4f} -> {value:.4f}" for name, value in after.items())
    console = open_console()
    console.print(f"On validation: {numbers}")
    console.print(f"Run: {out}  (next: palate evaluate {run} {out})", soft_wrap=True)
