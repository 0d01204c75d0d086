"""``palate mllm probe``: how much scores depend on the pictures of candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.evaluation_options import Device, UsersSeed
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed
from palate.cli.shared.output import print_json_made
from palate.errors import PalateError, suggest


def probe(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs of a multimodal model, such as before and after alignment; NAME=RUN,RUN names a row.",
        ),
    ],
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the runs met it.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="{valid,test}", help="Whose targets are scored.")] = "test",
    users: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N users, drawn by seed.")] = 100,
    users_seed: UsersSeed = None,
    negatives: Annotated[int, typer.Option(min=1, help="Sampled negatives per user.")] = 20,
    candidates: Annotated[
        str, typer.Option(help="How negatives are drawn: uniform, popularity or a plug-in's name.")
    ] = "uniform",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="New folder for probe.json and table.md.")] = None,
    device: Device = "cpu",
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Score candidates with their own picture, with another item's, and with none: what is the picture worth?

    Several runs are compared with the first one, user by user.

    For example: palate mllm probe runs/mllm runs/mllm-aligned --users 50
    """
    from palate.console import plain, print_table
    from palate.device import parse_device
    from palate.evaluation.candidates import check_kind
    from palate.evaluation.groups import group_runs, open_dataset
    from palate.evaluation.users import UserSample
    from palate.mllm.diagnostics.probe_run import probe_runs
    from palate.rankers.registry import load_recommender
    from palate.storage.files import atomic_folder, write_json, write_text

    if split not in ("valid", "test"):
        raise PalateError(f"there is no split '{split}' to probe", suggest(split, ["valid", "test"]))
    check_kind(candidates)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PalateError(f"{out} exists already", "Choose another --out, or remove it first.")
    device = parse_device(device)
    groups = group_runs(runs)
    report = probe_runs(
        groups,
        open_dataset(groups, dataset),
        lambda run: load_recommender(run, device=device),
        split="test" if split == "test" else "valid",
        users=None if users is None else UserSample(users, seed if users_seed is None else users_seed),
        negatives=negatives,
        kind=candidates,
        seed=seed,
    )
    facts = report.to_json()
    if out is not None:
        with atomic_folder(out) as part:
            write_json(part / "probe.json", facts)
            write_text(part / "table.md", report.to_markdown())
    if json_:
        print_json_made(out, facts)
        return
    for table in report.tables():
        print_table(table)
    for note in report.notes():
        typer.echo(f"- {plain(note)}")
    if out is not None:
        typer.echo(f"Written to {out}: probe.json, table.md.")
