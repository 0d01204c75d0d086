"""``palate add-items``: new items in a bundle, without training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput, parse_mapping
from palate.cli.shared.output import print_json_made
from palate.console import counted, print_note
from palate.progress import working


def add_items(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder made by `palate bundle`.")],
    items: Annotated[Path, typer.Argument(metavar="ITEMS", help="Table of the new items: .csv, .tsv or .parquet.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder.")],
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of their pictures: as the column 'image' says, or named ITEM_ID.jpg."),
    ] = None,
    item_columns: Annotated[
        str | None,
        typer.Option(
            metavar="OUR=THEIRS,...",
            help="Names in the table: item_id=sku,title=name; quoted and left out as in `palate prepare`.",
        ),
    ] = None,
    clean_text: Annotated[
        bool, typer.Option("--clean-text", help="Take HTML out of titles and texts, as `palate prepare` does.")
    ] = False,
    device: Annotated[str, typer.Option(help="Of the encoders: auto, cpu, cuda, cuda:1, mps.")] = "cpu",
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Make new items recommendable through their text and pictures. Scores of the other items stay as they are.

    The model needs to read texts, pictures or fields (palate train --modalities text, or id,text,image), or to have
    neighbours by these (--neighbours lexical).

    For example: palate add-items bundles/shop new-items.csv --images photos --out bundles/shop-2
    """
    from palate.bundle import add_items as add

    columns = None if item_columns is None else parse_mapping(item_columns, "--item-columns")
    with working("Adding items"):
        made = add(bundle, items, out, images=images, clean_text=clean_text, item_columns=columns, device=device)
    for note in made.notes:
        print_note(f"Note: {note}.")
    if json_:
        facts = {"bundle": str(made.folder), "added": made.ids, "coverage": made.coverage, "notes": made.notes}
        print_json_made(made.folder, facts)
        return
    covered = ", ".join(f"{count:,} with {name}" for name, count in made.coverage.items())
    print(f"Bundle: {made.folder}  ({counted(len(made.ids), 'item')} added: {covered})")
