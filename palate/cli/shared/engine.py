"""Options of commands whose work can be done by a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

_PANEL = "Engine"
EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="{local,ray}",
        help="Where the work is done: in this process, or by workers of Ray.",
        rich_help_panel=_PANEL,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="ray: the cluster, or auto; without it Ray is started here.",
        rich_help_panel=_PANEL,
    ),
]
WorkerCount = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="ray: how many (default: all that fit).", rich_help_panel=_PANEL),
]
GPUs = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-worker", min=0, metavar="N", help="ray: GPUs of each, or a share of one.", rich_help_panel=_PANEL
    ),
]
CPUs = Annotated[
    int | None,
    typer.Option("--cpus-per-worker", min=1, help="ray: CPUs and threads of each.", rich_help_panel=_PANEL),
]
