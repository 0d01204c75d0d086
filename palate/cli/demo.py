"""``palate demo``: the whole way on the embedded demo set, with pictures to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, Seed


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of everything the demo makes.")] = Path("runs/demo"),
    items: Annotated[int, typer.Option(min=24, help="Products in the shop.")] = 2400,
    users: Annotated[int, typer.Option(min=10, help="People who buy.")] = 4000,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many for each trained model.")] = 40,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    mllm: Annotated[
        bool, typer.Option("--mllm/--no-mllm", help="Let a small multimodal language model take part, or leave it out.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw away an earlier demo in DIR and begin anew.")
    ] = False,
    seed: Seed = 0,
    config: ConfigFile = None,
) -> None:
    """Draw a shop, let people buy by taste, and see what popularity, neighbours, ids, texts and pictures make of it.

    Stages: make the dataset, examine it, encode texts and pictures, train four models, evaluate them in one table,
    recommend for a few users; then a small multimodal language model looks at pictures, writes of users and is
    fine-tuned. Interrupted, the same command goes on; repeated, it only shows the results again.
    """
    import torch

    from palate.demo.llm import Language
    from palate.demo.stages import DemoOptions, run_demo

    if threads is not None:
        torch.set_num_threads(threads)
    language = Language() if mllm else None
    options = DemoOptions(seed=seed, items=items, users=users, epochs=epochs, language=language)
    run_demo(out, options, overwrite=overwrite)
