"""``palate mllm pretrain``: the embedded models learn on generated catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.llm.common import need_extra
from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed, Threads, set_threads
from palate.cli.shared.output import print_json_made
from palate.progress import say

_PRETRAIN = (
    Fields("palate.pretraining.config:PretrainConfig", "model", "start"),
    Fields("palate.pretraining.config:WorldsConfig", "shops", "catalogues", section="worlds"),
    Fields(
        "palate.pretraining.config:PretrainTrainerConfig",
        *("steps", "rows", "learning_rate", "validate_every"),
        section="trainer",
    ),
)


@from_config(*_PRETRAIN)
def pretrain(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the run; --model DIR/model takes what it made.")],
    settings: Settings,
    threads: Threads = None,
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Teach an embedded model to see, to write and to recommend, on catalogues that are generated for it.

    This made what Palate's embedded models know: hours on two cores. The same command goes on where it was interrupted.

    For example: palate mllm pretrain --model embedded-small --steps 100 --out runs/pretrained
    """
    need_extra()
    from palate.pretraining.config import PretrainConfig
    from palate.pretraining.pretrain import pretrain as run

    set_threads(threads)
    facts = run(out, PretrainConfig.parse(settings, where="options"), seed, on_row=_print)
    if json_:
        print_json_made(out, facts)
        return
    typer.echo(f"Learnt in {facts['seconds'] / 60:.0f} minutes of training: {out / 'learnt'}")
    typer.echo(f"Model: {out / 'model'}  (next: palate mllm sft DATASET --model {out / 'model'})")


def _print(row: dict[str, Any]) -> None:
    shown = "  ".join(f"{name} {value:g}" for name, value in row.items() if name not in ("seconds", "peak_memory_mb"))
    say(f"{shown}  ({row['seconds'] / 60:.0f} min)")
