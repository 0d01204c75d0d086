"""``palate neighbours``: the items nearest to one, side by side for the log, its words, its text and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json
from palate.errors import PalateError
from palate.names import comma_separated

if TYPE_CHECKING:
    from palate.data.catalogue import Catalogue


def neighbours(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="An item id.")],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="co-occurrence, lexical, text, image or any store's name (default: co-occurrence and all stores).",
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="How many items.")] = 10,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Show the items nearest to an item, for each source of neighbours: what does content know?

    The lists are made once, and kept in DATASET/neighbours for training.

    For example: palate neighbours data/ml-100k 50 --source co-occurrence
    """
    from palate.data.dataset import Dataset
    from palate.data.spelling import did_you_mean
    from palate.features.neighbours import CO_OCCURRENCE, KEEP, check_sources, neighbour_list, sources

    data = Dataset.load(dataset)
    catalogue = data.catalogue
    if item not in catalogue.index:
        remedy = did_you_mean(catalogue, item, f"Item ids are those of {dataset / 'items.parquet'}.", data.dropped)
        raise PalateError(f"the dataset has no item '{item}'", remedy)
    names = [CO_OCCURRENCE, *sources(dataset)] if source is None else comma_separated(source)
    if not names or len(set(names)) < len(names):
        raise PalateError(f"--source {source} does not name sources, each once", "Give one or more, such as lexical.")
    check_sources(data, names, dataset)
    row = catalogue.index[item]
    found = {}
    for name in names:
        made = neighbour_list(data, name, dataset_path=dataset, keep=max(k, KEEP))
        pairs = zip(made.items[row, :k].tolist(), made.values[row, :k].tolist(), strict=True)
        found[name] = [_fact(catalogue, near, value) for near, value in pairs if near]
    if json_:
        shown = {"item": item, "title": catalogue.titles[row], "neighbours": found}
        print_json(shown)
    else:
        _print(item, catalogue.titles[row], found)


def _fact(catalogue: Catalogue, near: int, value: float) -> dict[str, Any]:
    return {"item": catalogue.ids[near], "title": catalogue.titles[near], "cosine": round(value, 4)}


def _print(item: str, title: str, found: dict[str, list[dict[str, Any]]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from palate.console import open_console, plain

    console = open_console()
    console.print(Text(f"Nearest to {plain(item)}: {plain(title)}"))
    table = Table()
    table.add_column("", justify="right")
    for name in found:
        table.add_column(name, overflow="fold")
    for place in range(max((len(rows) for rows in found.values()), default=0)):
        cells = [Text(_cell(rows[place], plain)) if place < len(rows) else Text("") for rows in found.values()]
        table.add_row(str(place + 1), *cells)
    console.print(table)
    empty = [name for name, rows in found.items() if not rows]
    if empty:
        console.print(f"No neighbours by {', '.join(empty)}: the item has no such feature, or nobody has taken it.")


def _cell(fact: dict[str, Any], plain: Any) -> str:
    named = "" if fact["title"] == fact["item"] else f" {plain(fact['title'])}"
    return f"{fact['cosine']:.2f}{named} ({plain(fact['item'])})"
