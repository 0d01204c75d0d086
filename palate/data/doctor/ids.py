"""Ids: interactions that point to no item, items without a description, and what the reader had to leave out."""

from __future__ import annotations

import numpy as np
import polars as pl

from palate.console import agreeing, counted
from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, few, percent


def unknown_items(data: Dataset) -> list[Finding]:
    """Interactions whose item index is outside the catalogue. Every other check needs them to be none."""
    wrong = (data.items < 1) | (data.items > data.num_items)
    count, share = int(wrong.sum()), float(wrong.mean()) if len(wrong) else 0.0
    if not count:
        return [Finding("unknown-items", Level.OK, "Every interaction points to an item of the dataset.")]
    users = data.user_ids.to_list()
    rows = np.flatnonzero(wrong)[:5]
    return [
        Finding(
            "unknown-items",
            Level.ERROR,
            f"{count:,} interactions ({percent(share)}) point to no item of the dataset: the folder is damaged. "
            "Run `palate prepare` again.",
            count,
            share,
            few(f"user {users[data.users_at(row)]}: item index {data.items[row]}" for row in rows),
        )
    ]


def undescribed_items(data: Dataset) -> list[Finding]:
    """Items of the log without any catalogue row, as recorded when the data were assembled."""
    if "matches" not in data.manifest:
        return _undescribed_by_nulls(data)
    found = data.manifest["matches"]["catalogue"]
    if found is None:
        return [_nothing_described(data.num_items)]
    unmatched = found["unmatched"]
    count, hit, examples = unmatched["items"], float(unmatched["interactions"]), unmatched["examples"]
    if not count:
        return [Finding("undescribed-items", Level.OK, "Every item has a catalogue row.")]
    share = count / max(1, found["items"])
    level = Level.WARNING if hit >= 0.01 else Level.NOTE
    if share < 1:
        return [Finding("undescribed-items", level, _unmatched(count, share, hit), count, share, few(examples["log"]))]
    text = (
        f"No id of the log matches any of the catalogue's {found['rows']:,} rows: no item is described. "
        "Check that log and catalogue write ids alike."
    )
    both = [f"log: {', '.join(examples['log'])}", f"catalogue: {', '.join(examples['catalogue']) or 'nothing'}"]
    return [Finding("undescribed-items", level, text, count, share, both)]


def _unmatched(count: int, share: float, hit: float) -> str:
    return (
        f"{counted(count, 'item')} ({percent(share)}; {percent(hit)} of interactions) "
        f"{agreeing(count, 'has an id that matches', 'have ids that match')} no catalogue row. "
        "Check that log and catalogue write ids alike, or use `--missing-items drop`."
    )


def _nothing_described(count: int) -> Finding:
    text = "No item is described: only ids can be learnt from."
    return Finding("undescribed-items", Level.NOTE, text, count, 1.0)


def _undescribed_by_nulls(data: Dataset) -> list[Finding]:
    """The same guessed for data that do not say: items all of whose fields are empty."""
    frame = data.catalogue.frame
    fields = [name for name in frame.columns if name != "item_id"]
    empty = frame.select(pl.all_horizontal(pl.col(name).is_null() for name in fields))[:, 0].to_numpy()
    count = int(empty.sum())
    findings = []
    if not count:
        findings.append(Finding("undescribed-items", Level.OK, "Every item has a catalogue row."))
    elif count == len(frame):
        findings.append(_nothing_described(count))
    else:
        hit = float(empty[data.items - 1].mean())
        findings.append(
            Finding(
                "undescribed-items",
                Level.WARNING if hit >= 0.01 else Level.NOTE,
                _unmatched(count, count / len(frame), hit),
                count,
                count / len(frame),
                few(frame["item_id"].filter(pl.Series(empty))),
            )
        )
    return findings


def left_out(data: Dataset) -> list[Finding]:
    """What reading lost, as the manifest records: interactions without an item, malformed lines, repeated ids."""
    lost: list[Finding] = []
    for step in data.manifest.get("filters", []):
        if step.get("step") == "missing-items":
            before, after = step["before"]["interactions"], step["after"]["interactions"]
            if before > after:
                share = (before - after) / before
                level = Level.WARNING if share >= 0.05 else Level.NOTE
                text = f"`--missing-items drop` took {counted(before - after, 'interaction')} ({percent(share)}) away."
                lost.append(Finding("left-out", level, text, before - after, share))
    for name, value in data.manifest.get("reader_report", {}).items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            lost.append(
                Finding("left-out", Level.NOTE, f"The reader reports {name.replace('_', ' ')}: {value:,}.", value)
            )
    if columns := data.manifest.get("reader_report", {}).get("columns_left_out"):
        text = f"Columns of the catalogue that hold neither text, numbers nor lists of these were left out: {columns}."
        lost.append(Finding("left-out", Level.NOTE, text))
    return lost or [Finding("left-out", Level.OK, "Reading left nothing out.")]
