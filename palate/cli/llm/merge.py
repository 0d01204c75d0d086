"""``palate mllm merge``: a fine-tuned or aligned model as one that needs no adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json_made
from palate.progress import working


def merge(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run of `palate mllm sft` or `palate mllm align`.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the new model: --model DIR takes it.")],
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="{float32,bfloat16,float16}", help="Precision of the weights written (default: the run's)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Write a run's language model with its adapters merged into the weights, in the layout of the hub.

    For example: palate mllm merge runs/mllm --out models/shop
    """
    from palate.mllm.finetune.merge import FACTS, merge_run
    from palate.storage.files import read_json

    with working("Merging"):
        made = merge_run(run, out, device=device, dtype=dtype)
    if json_:
        print_json_made(made, read_json(made / FACTS))
        return
    typer.echo(f"Model: {made}  (made of: {made / FACTS}; next: palate mllm zero-shot DATASET --model {made})")
