"""``palate demo``: the whole way on the embedded demo set, with pictures to look at."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput, Seed
from palate.cli.shared.output import print_json_made
from palate.console import is_quiet


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of everything the demo makes.")] = Path("runs/demo"),
    items: Annotated[int, typer.Option(min=24, help="Products in the shop.")] = 2400,
    users: Annotated[int, typer.Option(min=10, help="People who buy.")] = 4000,
    epochs: Annotated[int, typer.Option(min=1, help="At most this many for each trained model.")] = 40,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    mllm: Annotated[
        bool, typer.Option("--mllm/--no-mllm", help="Let a small multimodal language model take part, or leave it out.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away an earlier demo in DIR and begin anew.")
    ] = False,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Draw a shop, let people buy by taste, and see what popularity, neighbours, ids, texts and pictures make of it.

    Every stage prints the command lines that it runs, and DIR/commands.sh has them all: make the dataset, examine it,
    encode texts and pictures, train, align on preferences, evaluate in one table, draw what is recommended; then a
    small multimodal language model says what pictures show, writes of users, is fine-tuned and aligned, and recommends
    beside the others. Interrupted, the same command goes on; repeated, it only shows the results again.

    For example: palate demo --out runs/demo --no-mllm
    """
    import torch

    from palate.demo.llm import Language
    from palate.demo.runner import FACTS
    from palate.demo.stages import DemoOptions, run_demo
    from palate.storage.files import read_json

    if threads is not None:
        torch.set_num_threads(threads)
    language = Language() if mllm else None
    options = DemoOptions(seed=seed, items=items, users=users, epochs=epochs, language=language)
    with _stdout_for(json_):
        run_demo(out, options, run_command, overwrite=overwrite)
    if json_:
        print_json_made(out, read_json(out / FACTS))
    elif is_quiet():
        print(out)


def _stdout_for(json_: bool) -> AbstractContextManager[object]:
    """Where the stages and their commands print: with --json to standard error, with --quiet nowhere."""
    if is_quiet():
        return redirect_stdout(io.StringIO())
    return redirect_stdout(sys.stderr) if json_ else nullcontext()


def run_command(words: Sequence[str]) -> None:
    """Run a command of this application in this process.

    Exit code 1 is no failure: the command found something (a dataset's error, a text that was not written) and has said
    so. What it raises ends the demo as it would end the command.
    """
    from palate.cli.commands import build

    application = typer.main.get_command(build())
    try:
        with application.make_context("palate", list(words)) as context:
            application.invoke(context)
    except typer.Exit as end:
        if end.exit_code not in (0, 1):
            raise
