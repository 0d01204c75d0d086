"""``palate attach``: neighbours for a run that is trained already."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, Set, parse_assignments


def attach(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of sasrec or gru4rec.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the new run.")],
    neighbours: Annotated[
        str,
        typer.Option(
            metavar="co-occurrence,lexical",
            help="By the log and by features: co-occurrence, lexical, text, image, or a store's name.",
        ),
    ],
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="What the run was trained on (default: where it met it).")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Make an interrupted run in --out again.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the sample of users (default: the run's own).")] = None,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Let the nearest items of the newest ones add to a trained ranker's scores.

    The ranker is not trained again: a few weights, one for each source and lag, are fitted on validation users.
    """
    import torch

    from palate.cli.shared.content import listed
    from palate.console import open_console
    from palate.training.attach import attach as fit

    if threads is not None:
        torch.set_num_threads(threads)
    settings = parse_assignments(list(set_ or []))
    made = fit(
        run,
        out=out,
        neighbours=listed(neighbours),
        settings=settings,
        seed=seed,
        dataset_path=dataset,
        resume=resume,
    )
    before, after = (made.info["neighbours"][key] for key in ("before", "after"))
    numbers = ", ".join(f"{name} {before[name]:.4f} -> {value:.4f}" for name, value in after.items())
    console = open_console()
    console.print(f"On validation: {numbers}")
    console.print(f"Run: {out}  (next: palate evaluate {run} {out})", soft_wrap=True)
