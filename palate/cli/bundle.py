"""``palate bundle``: a run as one folder to deploy or to share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json_made
from palate.console import print_note
from palate.errors import PalateError
from palate.progress import working


def bundle(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run; or a bundle, with --push.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="A new folder.")] = None,
    with_features: Annotated[
        bool | None,
        typer.Option(
            "--with-features/--without-features",
            help="Copy the vectors of texts and pictures (default: those that are still with the dataset).",
        ),
    ] = None,
    with_images: Annotated[
        bool, typer.Option("--with-images", help="Copy the items' pictures, at most 512 pixels a side.")
    ] = False,
    table: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="An evaluation whose figures belong on the card. Repeatable."),
    ] = None,
    license_: Annotated[
        str, typer.Option("--license", metavar="ID", help="License of the model, such as apache-2.0.")
    ] = "unknown",
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Export the sequence encoder too, and check it against torch.")
    ] = False,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the bundle to this repository of the hub.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="With --push: a repository that is made is public (default: private).")
    ] = False,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Put everything that answers into one folder: model, id map, features, metrics, model card, hashes. No pickle.

    It loads with no training data: from palate.bundle import Bundle; Bundle.load("DIR").

    For example: palate bundle runs/sasrec --out bundles/sasrec
    """
    if public and push is None:
        raise PalateError("--public belongs to --push", "Give --push OWNER/NAME, or leave it out.")
    from palate.bundle import hub, make_bundle
    from palate.bundle.manifest import is_bundle, read_manifest

    if push is not None:
        hub.check_push(push)
    if is_bundle(run):
        if push is None or out is not None or with_features is not None or with_images or onnx or table:
            raise PalateError(f"{run} is a bundle already", "It can only be pushed: --push OWNER/NAME.")
        _print_made(run, read_manifest(run), [], hub.push(run, push, private=not public), json_)
        return
    if out is None:
        raise PalateError("there is no folder to write to", "Give --out DIR.")
    with working("Making the bundle"):
        made = make_bundle(
            run,
            out,
            with_features=with_features,
            with_images=with_images,
            tables=table or [],
            license=license_,
            onnx=onnx,
            public_paths=push is None,
        )
    address = None if push is None else hub.push(out, push, private=not public)
    _print_made(out, made.facts, made.notes, address, json_)


def _print_made(folder: Path, facts: dict[str, Any], notes: list[str], address: str | None, json_: bool) -> None:
    for note in notes:
        print_note(f"Note: {note}.")
    size = sum(entry["bytes"] for entry in facts["files"].values())
    exported = (facts.get("onnx") or {}).get("difference")
    if json_:
        summary = {"bundle": str(folder), "model": facts["model"], "items": facts["items"]["count"], "bytes": size}
        print_json_made(folder, {**summary, "onnx_difference": exported, "pushed": address, "notes": notes})
        return
    from palate.console import counted, human_bytes

    print(
        f"Bundle: {folder}  ({facts['model']}, {counted(facts['items']['count'], 'item')}, "
        f"{counted(len(facts['files']), 'file')}, {human_bytes(size)})"
    )
    if exported is not None:
        print(f"  ONNX: {folder / facts['onnx']['file']}, within {exported:.1g} of torch")
    if address is not None:
        print(f"  Pushed: {address}")
    print(f"  Next: palate recommend {folder} --history ITEM,ITEM")
