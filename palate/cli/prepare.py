"""``palate prepare``: raw logs and a catalogue become a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json_made
from palate.console import agreeing, counted, print_note
from palate.errors import PalateError
from palate.progress import working

if TYPE_CHECKING:
    from palate.data.dataset import Dataset


@from_config(
    Fields("palate.data.readers.base:ReaderOptions", panel="Reading"),
    Fields("palate.data.filters:Filters", panel="Filters"),
    Fields("palate.data.splits:Split", panel="Split"),
    Fields("palate.data.feedback.options:FeedbackOptions", panel="Feedback"),
)
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Folder (or file) with the raw data.")],
    out: Annotated[Path, typer.Option(help="Folder of the new dataset.")],
    settings: Settings,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Layout of the source: movielens, amazon, microlens, recbole, hm, interactions, sequences, table, "
            "or a plug-in's."
        ),
    ] = None,
    append: Annotated[
        Path | None,
        typer.Option(
            metavar="DATASET",
            help="Add the source to the rows of this dataset, as it was prepared; its users and items keep their "
            "indices. It must have been prepared with --keep-log.",
        ),
    ] = None,
    keep_log: Annotated[
        bool, typer.Option("--keep-log", help="Keep all rows that were read, so that others can be appended later.")
    ] = False,
    keep_unseen: Annotated[
        bool,
        typer.Option("--keep-unseen", help="Keep catalogue items nobody has touched yet.", rich_help_panel="Filters"),
    ] = False,
    clean_text: Annotated[
        bool,
        typer.Option(
            "--clean-text", help="Take HTML tags and entities out of titles and texts.", rich_help_panel="Filters"
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name in reports; by default the folder's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random (default: 0).")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing dataset.")] = False,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Make a dataset from raw logs, pictures and text: read, filter, split, record.

    For example: palate prepare ml-100k --reader movielens --min-rating 4 --k-core 5 --out data/ml-100k

    And every night: palate prepare tonight.csv --append data/monday --out data/tuesday
    """
    from palate.data.append import append as join
    from palate.data.doctor import Level
    from palate.data.doctor.content import missing_pictures
    from palate.data.doctor.ids import undescribed_items
    from palate.data.doctor.order import id_order
    from palate.data.doctor.times import no_times
    from palate.data.folder import IMAGES, carried
    from palate.data.prepare import prepare as make
    from palate.data.unpacked import is_unpacked

    _check_target(out, overwrite)
    options = {"name": name, "keep_unseen": keep_unseen, "clean_text": clean_text, **settings}
    with working(f"Preparing {source.name}"):
        if append is not None:
            dataset = join(source, append, reader=reader, seed=seed, **options)
        elif reader is None:
            raise PalateError(
                "palate prepare does not know how the source is laid out", "Say --reader; `--help` has them."
            )
        else:
            dataset = make(source, reader, seed=seed or 0, keep_log=keep_log, **options)
        carried_over = carried(out) if overwrite else []
        dataset.save(out, replace=overwrite)
    if is_unpacked(dataset.catalogue.pictures):  # the pictures are those of the new catalogue
        carried_over = [name for name in carried_over if name != IMAGES]
    if json_:
        print_json_made(out, {**dataset.manifest, "fingerprint": dataset.fingerprint})
    else:
        _show(dataset, out)
    for check in (no_times, id_order, undescribed_items, missing_pictures):
        for finding in check(dataset):
            if finding.level in (Level.WARNING, Level.ERROR):
                typer.echo(f"Warning: {finding.message} See `palate doctor`.", err=True)
    if dataset.manifest.get("feedback", {"kept": {"shown": 1}})["kept"]["shown"] == 0:
        typer.echo("Warning: training may use no impression of the feedback; the line above says why.", err=True)
    if carried_over:
        folders = " and ".join(f"{name}/" for name in carried_over)
        print_note(f"Kept {folders} of the dataset that was replaced; a feature store that no longer fits says so.")


_NOTHING_HELD_OUT = (
    "Nothing is held out: `palate evaluate` has nothing to measure here, and models that are validated in training "
    "(all neural rankers) need `palate train --refit RUN`."
)


def _check_target(out: Path, overwrite: bool) -> None:
    """Refuse before any work, and never replace a folder that is no dataset."""
    from palate.data.folder import check_replaceable
    from palate.storage.leftovers import sweep

    sweep(out.parent)  # what a killed call had moved aside comes back first
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise PalateError(f"{out} exists already", "Choose another --out, or give --overwrite.")
    check_replaceable(out)


def _show(dataset: Dataset, out: Path) -> None:
    from rich.table import Table

    from palate.console import open_console

    console, manifest = open_console(), dataset.manifest
    source = (manifest.get("appended") or [manifest["source"]])[-1]["name"]
    table = Table(title=f"{dataset.name}: {manifest['reader']} from {source}", title_justify="left")
    table.add_column("step")
    for word in ("users", "items", "interactions"):
        table.add_column(word, justify="right")
    if "parent" in manifest:
        table.add_row("before", *(f"{manifest['parent'][key]:,}" for key in ("users", "items", "rows")))
    table.add_row("read" if "parent" not in manifest else "read, with all before", *_numbers(manifest["read"]))
    for record in manifest["filters"]:
        options = ", ".join(f"{key}={value}" for key, value in record.items() if key not in ("step", "before", "after"))
        table.add_row(f"{record['step']} ({options})", *_numbers(record["after"]))
    console.print(table)
    for key, value in manifest["reader_report"].items():
        console.print(f"{key.replace('_', ' ')}: {value}")
    if "parent" in manifest:
        console.print(_appended(manifest), highlight=False)
    console.print(f"order: {_order(manifest)}", highlight=False)
    counts, split = manifest["counts"], manifest["split"]
    options = ", ".join(f"{key} {value}" for key, value in split.items() if key != "name")
    sizes = Table(title=f"split: {split['name']}{f' ({options})' if options else ''}", title_justify="left")
    for word in ("part", "interactions", "users with targets", "of them without history"):
        sizes.add_column(word, justify="left" if word == "part" else "right")
    sizes.add_row("train", f"{counts['train']:,}", "", "")
    if counts["context"]:
        sizes.add_row("context (never trained on)", f"{counts['context']:,}", "", "")
    for part in ("valid", "test") if split["name"] != "none" else ():
        cold = counts[f"{part}_cases_without_history"]
        sizes.add_row(part, f"{counts[part]:,}", f"{counts[f'{part}_cases']:,}", f"{cold:,}")
    console.print(sizes)
    if split["name"] == "none":
        console.print(_NOTHING_HELD_OUT, highlight=False)
    if "dislikes" in manifest:
        console.print(_dislikes(manifest["dislikes"]), highlight=False)
    if "feedback" in manifest:
        for line in _feedback(manifest["feedback"]):
            console.print(line, highlight=False)
    titles, images, items = (f"{counts[key]:,}" for key in ("items_with_title", "items_with_image", "items"))
    console.print(f"Of {items} items {titles} have a title and {images} a picture.", highlight=False)
    text, fields = dataset.catalogue.text_fields, dataset.catalogue.fields
    for which, names in (("that are text", text), ("that are not", [name for name in fields if name not in text])):
        if names:
            console.print(f"Fields {which}: {', '.join(names)}.", highlight=False)
    console.print(f"Written to {out} ({dataset.fingerprint}).", highlight=False)


def _appended(manifest: dict[str, Any]) -> str:
    """What joined the dataset before, and what came of it."""
    facts, rows = manifest["appended"][-1], manifest["counts"]["interactions"] - manifest["parent"]["rows"]
    left = f", of which {facts['already_there']:,} were there already" if facts["already_there"] else ""
    late = f", {facts['earlier']:,} earlier than the newest one before" if facts["earlier"] else ""
    count = facts["changed_items"]
    changed = f" {counted(count, 'item')} {agreeing(count, 'has', 'have')} other texts or pictures than before."
    return (
        f"Appended {facts['name']}: {counted(facts['read'], 'row')}{left}{late}. The dataset grows by "
        f"{counted(rows, 'interaction')}, {counted(facts['new_users'], 'user')} and "
        f"{counted(facts['new_items'], 'item')}.{changed if count else ''}"
    )


def _order(manifest: dict[str, Any]) -> str:
    from palate.data.readers import READERS

    if manifest["order"]["by"] == "time":
        return f"by time; at equal times {'as in the file' if manifest['ties'] == 'file' else 'drawn by the seed'}"
    named = "columns" in READERS[manifest["reader"]].takes
    return "as in the file; no times are used" + (" (--columns timestamp=NAME names them)" if named else "")


def _dislikes(facts: dict[str, Any]) -> str:
    from palate.data.dislikes import REASONS

    left = "; ".join(f"{count:,} {REASONS[reason]}" for reason, count in facts["left_out"].items() if count)
    text = f"Dislikes (rated at most {facts['at_most']:g}): {facts['kept']:,} of {counted(facts['users'], 'user')}"
    return f"{text}, out of {counted(facts['found'], 'low rating')}; left out: {left or 'none'}."


def _feedback(facts: dict[str, Any]) -> list[str]:
    from palate.data.feedback.keep import REASONS

    left = "; ".join(f"{count:,} {REASONS[reason]}" for reason, count in facts["left_out"].items() if count)
    kept, lines = facts["kept"], []
    if "joined" in facts:
        joined = facts["joined"]
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in joined["kinds"].items())
        lines.append(
            f"Taken items ({kinds}): {joined['joined']:,} joined the interactions; {joined['in_the_log']:,} are in the "
            f"log already, {joined['again_within_a_day']:,} are the same again within a day."
        )
    lines.append(
        f"Impressions: {kept['shown']:,} in {counted(kept['requests'], 'request')} of "
        f"{counted(kept['users'], 'user')}, {kept['taken']:,} of them taken; "
        f"out of {facts['shown']:,} in {counted(facts['files'], 'file')}; "
        f"left out: {left or 'none'}."
    )
    return lines


def _numbers(counts: dict[str, Any]) -> list[str]:
    return [f"{counts[word]:,}" for word in ("users", "items", "interactions")]
