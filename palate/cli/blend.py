"""``palate blend``: several runs become one, whose scores are a weighted sum of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput, NewRun, Seed, Threads, set_threads
from palate.cli.shared.output import print_json_made


def blend(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Finished runs of the same data.")],
    out: NewRun,
    fit: Annotated[
        str,
        typer.Option(
            metavar="{ndcg,likelihood}", help="Weights of high NDCG@10, or those that make the targets most likely."
        ),
    ] = "ndcg",
    users: Annotated[
        int, typer.Option(min=0, help="Validation users that choose the weights, at most; 0: all.")
    ] = 10_000,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--keep-seen", help="Leave the history out of what is ranked, or not.")
    ] = True,
    dataset: Annotated[Path | None, typer.Option(help="By default what the first run was trained on.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    threads: Threads = None,
    resume: Annotated[bool, typer.Option("--resume", help="Keep the run in --out where it is finished.")] = False,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Sum the scores of several trained runs, with weights chosen on validation users.

    The result is an ordinary run: evaluate, recommend, report, bundle and serve take it.

    For example: palate blend runs/sasrec runs/ease --out runs/blend
    """
    from palate.training.blend import blend as make

    set_threads(threads)
    run = make(
        runs,
        out=out,
        fit=fit,  # type: ignore[arg-type]  # checked there
        users=users,
        exclude_seen=exclude_seen,
        dataset=dataset,
        device=device,
        seed=seed,
        resume=resume,
    )
    if json_:
        print_json_made(out, run.info)
        return
    _report(run.info, out)


def _report(info: dict[str, Any], out: Path) -> None:
    from rich.table import Table

    from palate.console import open_console

    facts, best = info["blend"], info["best"]
    table = Table(title=f"Weights, chosen on {facts['users']:,} validation users", title_justify="left")
    for name in ("run", "model", "weight", *best):
        table.add_column(name, justify="left" if name in ("run", "model") else "right")
    for part in facts["parts"]:
        numbers = [f"{part['validation'][name]:.4f}" for name in best]
        table.add_row(part["run"], part["model"], f"{part['share']:.3f}", *numbers)
    table.add_row(out.name, "blend", "", *(f"{value:.4f}" for value in best.values()), style="bold")
    console = open_console()
    console.print(table)
    idle = [part["run"] for part in facts["parts"] if not part["weight"]]
    if idle:
        verb = "has" if len(idle) == 1 else "have"
        console.print(
            f"{', '.join(idle)} {verb} weight 0: nothing to add to the others here, so the run holds no copy.",
            soft_wrap=True,
        )
    console.print(f"Run: {out}  (next: palate evaluate {out})", soft_wrap=True)
