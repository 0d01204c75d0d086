"""``palate serve``: bundles that answer over HTTP, and a page to look at what they answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile
from palate.console import counted, is_quiet
from palate.errors import PalateError
from palate.storage.small_files import read_small

_LOCAL = ("127.0.0.1", "localhost", "::1")


@from_config(
    Fields(
        "palate.serve.config:ServeConfig",
        *("index", "max_history", "max_k", "max_body", "timeout", "root_path"),
        *("max_connections", "head_timeout", "grace", "feedback_every"),
    )
)
def serve(
    bundles: Annotated[
        list[str], typer.Argument(metavar="[NAME=]BUNDLE...", help="Made by `palate bundle`; the first is the default.")
    ],
    *,
    retriever: Annotated[
        str | None,
        typer.Option(metavar="NAME|BUNDLE0", help="A fast model that proposes what language models re-rank."),
    ] = None,
    depth: Annotated[int, typer.Option(min=1, metavar="N", help="How many items the retriever proposes.")] = 20,
    blend: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="W", help="Order by W x model + (1 - W) x retriever.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Offer some of its users on the page, to try with.")
    ] = None,
    num_users: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 12,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Business rules (TOML), read again when it changes."),
    ] = None,
    traffic: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=SHARE,...",
            help="Split users between models, for requests that name a user and no model: best=0.9,new=0.1.",
        ),
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Of the split; another name splits the same users anew.")
    ] = "traffic",
    feedback: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep what was shown and taken there, as Parquet files."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    settings: Settings,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, for each pass through a model.")] = 1,
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the key that clients must send (or: PALATE_API_KEY)."),
    ] = None,
    outside_pictures: Annotated[
        bool,
        typer.Option(
            "--outside-pictures",
            help="With --host: also show pictures that a bundle names outside of it. Only for bundles of your own.",
        ),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name clients may use for this service, beside this machine's own when "
            "listening at it alone. Repeatable.",
        ),
    ] = None,
    watch: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Between looks for changed bundles; 0: on SIGHUP only.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    log: Annotated[str, typer.Option(help="debug, info (one line per request), warning, error.")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json/--log-text", help="Lines for machines or for people.")] = True,
    config: ConfigFile = None,
) -> None:
    """Serve bundles: recommendations, likeness, explanations, pictures, a web page, metrics. Stops with Ctrl-C.

    A bundle that is put in another's place is taken over without a lost request: send SIGHUP, or give --watch. SIGTERM
    stops the service without a lost request too, once nothing more is sent to it: see --grace.

    For example: palate serve bundles/sasrec --port 8000
    """
    try:
        from palate.serve import server
    except ImportError as error:
        raise PalateError(
            f"serving needs a package that is not there ({error.name})", 'Install it: pip install "palate[serve]".'
        ) from None
    import torch

    from palate.device import parse_device
    from palate.serve.config import ServeConfig
    from palate.serve.connections import connection_limit
    from palate.serve.loaded_models import parse_bundle_specs
    from palate.serve.people import find_people
    from palate.serve.service import Service
    from palate.serve.telemetry import configure_logs
    from palate.serve.traffic import parse_traffic

    if log not in ("debug", "info", "warning", "error"):
        raise PalateError(f"there is no log level '{log}'", "Choose one of: debug, info, warning, error.")
    if blend is not None and retriever is None:
        raise PalateError(f"--blend {blend:g} mixes a retriever in, and there is none", "Give --retriever.")
    key = _key(api_key_file)
    names = _names(host, allowed_host or [])
    options = ServeConfig.parse(
        {**settings, "allowed_hosts": names, "outside_pictures": host in _LOCAL or outside_pictures}, where="serve"
    )
    connection_limit(options.max_connections)
    specs = parse_bundle_specs(bundles, retriever, depth, blend)
    split = None if traffic is None else parse_traffic(traffic, [one.name for one in specs], experiment)
    if split is None and experiment != "traffic":
        raise PalateError(f"--experiment {experiment} splits no traffic", "Give --traffic.")
    people = find_people(users, num_users) if users is not None else []
    taken = server.bind(host, port)
    if is_quiet() and log == "info":
        log = "warning"
    configure_logs(log, json=log_json)
    torch.set_num_threads(threads)
    service = Service(
        specs,
        options,
        people=people,
        device=parse_device(device),
        rules=rules,
        traffic=split,
        feedback=feedback,
    )
    service.start()
    if host not in _LOCAL and key is None:
        print(
            f"Warning: anybody who reaches {host} may ask; --api-key-file or PALATE_API_KEY ends that.", file=sys.stderr
        )
    shown = f"[{host}]" if ":" in host else host
    models = ", ".join(f"{one.name} ({counted(len(one.items), 'item')})" for one in service.loaded.models.values())
    home = f"http://{shown}:{port}{options.root_path}"
    print(f"Serving {models}\n  page: {home}/   API: {home}/docs", flush=True)
    server.run(service, taken, key, watch)


def _names(host: str, allowed: list[str]) -> tuple[str, ...]:
    """Names by which clients may address the service; none: any."""
    for name in allowed:
        if name.startswith("[") != name.endswith("]") or (":" in name and not name.startswith("[")) or "/" in name:
            raise PalateError(f"'{name}' is not a host's name", "Write a name alone, without port; IPv6 in brackets.")
    if host in _LOCAL:
        return ("localhost", "127.0.0.1", "[::1]", *allowed)
    return tuple(allowed)


def _key(file: Path | None) -> str | None:
    """The key, from a file or the environment: never from the command line, which other users of a machine can read."""
    where = "PALATE_API_KEY" if file is None else str(file)
    if file is None:
        text = os.environ.get("PALATE_API_KEY")
        if text is None:
            return None
    else:
        text = read_small(file, "Write the key into a file, in one line.", 64 * 1024)
    key = text.strip()
    if not key or len(key.split()) != 1 or not key.isascii():
        raise PalateError(f"{where} holds no key", "Give it one line of ASCII without spaces.")
    return key
