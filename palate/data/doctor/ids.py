"""Ids: interactions that point to no item, items nobody describes, and what the reader had to leave out."""

from __future__ import annotations

import numpy as np
import polars as pl

from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, few, percent


def unknown_items(data: Dataset) -> list[Finding]:
    """Interactions whose item index lies outside the catalogue. Every other check needs them to be none."""
    wrong = (data.items < 1) | (data.items > data.num_items)
    count, share = int(wrong.sum()), float(wrong.mean()) if len(wrong) else 0.0
    if not count:
        return [Finding("unknown-items", Level.OK, "Every interaction is with an item of the catalogue.")]
    users = data.user_ids.to_list()
    rows = np.flatnonzero(wrong)[:5]
    return [
        Finding(
            "unknown-items",
            Level.ERROR,
            f"{count:,} interactions ({percent(share)}) point to no item of the catalogue: the folder is damaged. "
            "Run `palate prepare` again.",
            count,
            share,
            few(f"user {users[data.rows_user[row]]}: item index {data.items[row]}" for row in rows),
        )
    ]


def undescribed_items(data: Dataset) -> list[Finding]:
    """Items of the log without any catalogue row: all their fields are empty."""
    frame = data.catalogue.frame
    fields = [name for name in frame.columns if name != "item_id"]
    empty = frame.select(pl.all_horizontal(pl.col(name).is_null() for name in fields))[:, 0].to_numpy()
    count = int(empty.sum())
    findings = []
    if not count:
        findings.append(Finding("undescribed-items", Level.OK, "Every item has a catalogue row."))
    elif count == len(frame):
        findings.append(
            Finding("undescribed-items", Level.NOTE, "No item is described: only ids can be learnt from.", count, 1.0)
        )
    else:
        hit = float(empty[data.items - 1].mean())
        findings.append(
            Finding(
                "undescribed-items",
                Level.WARNING if hit >= 0.01 else Level.NOTE,
                f"{count:,} items ({percent(count / len(frame))}; {percent(hit)} of interactions) have ids that match "
                "no catalogue row. Check that log and catalogue write ids alike, or use `--missing-items drop`.",
                count,
                count / len(frame),
                few(frame["item_id"].filter(pl.Series(empty))),
            )
        )
    return findings


def left_out(data: Dataset) -> list[Finding]:
    """What reading lost, as the manifest tells: interactions without an item, malformed lines, repeated ids."""
    lost: list[Finding] = []
    for step in data.manifest.get("filters", []):
        if step.get("step") == "missing-items":
            before, after = step["before"]["interactions"], step["after"]["interactions"]
            if before > after:
                share = (before - after) / before
                level = Level.WARNING if share >= 0.05 else Level.NOTE
                text = f"`--missing-items drop` took {before - after:,} interactions ({percent(share)}) away."
                lost.append(Finding("left-out", level, text, before - after, share))
    for name, value in data.manifest.get("reader_report", {}).items():
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            lost.append(
                Finding("left-out", Level.NOTE, f"The reader reports {name.replace('_', ' ')}: {value:,}.", value)
            )
    return lost or [Finding("left-out", Level.OK, "Reading left nothing out.")]
