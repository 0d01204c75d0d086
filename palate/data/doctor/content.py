"""Content: items without text, items without a picture, and what the missing ones mean in interactions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from palate.console import agreeing, counted
from palate.data import blocks
from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, few, percent


def missing_text(data: Dataset) -> list[Finding]:
    """Items with no text in any field."""
    offered = _offered(data, "catalogue")
    return [_missing(data, "text", np.array([text is None for text in data.catalogue.texts()], bool), offered)]


def missing_pictures(data: Dataset) -> list[Finding]:
    """Items without a picture, and pictures whose files are not there."""
    found = _offered(data, "pictures")
    if found and found["looked_at"] and found["missing"] == found["looked_at"]:
        count, examples = found["items"], data.catalogue.frame["image"].drop_nulls().head(5)
        text = f"None of the pictures that were looked for is in {data.catalogue.root}. Check --images."
        return [Finding("missing-picture", Level.WARNING, text, count, count / data.num_items, few(examples))]
    return [_missing(data, "picture", data.catalogue.frame["image"].is_null().to_numpy(), found)]


def _offered(data: Dataset, what: str) -> dict[str, Any] | None:
    """What was found of the catalogue or the pictures when the data were assembled; None: nothing, or not recorded."""
    found: dict[str, Any] | None = data.manifest.get("matches", {}).get(what)
    return found


def _missing(data: Dataset, what: str, missing: npt.NDArray[np.bool_], offered: dict[str, Any] | None) -> Finding:
    check = f"missing-{what}"
    count = int(missing.sum())
    if not count:
        return Finding(check, Level.OK, f"Every item has a {what}." if what == "picture" else "Every item has text.")
    share = count / len(missing)
    if count == len(missing):
        text = "No item has text."
        if what == "picture":
            text = "No item has a picture."
            if offered:
                text = f"No item has a picture: none of {offered['offered']:,} is named after an item (ITEM_ID.jpg)."
        # Of data without a catalogue or pictures nothing else was to be expected.
        return Finding(check, Level.WARNING if offered else Level.NOTE, text, count, share)
    counts = blocks.count(data.items, data.num_items + 1)[1:]
    hit = float(counts[missing].sum() / len(data)) if len(data) else 0.0
    text = (
        f"{count:,} of {counted(len(missing), 'item')} ({percent(share)}; {percent(hit)} of interactions) "
        f"{agreeing(count, 'has', 'have')} no {what}. "
        "They keep their place: see --missing of `palate train`."
    )
    ids = data.catalogue.ids
    level = Level.WARNING if hit > 0.2 else Level.NOTE
    return Finding(check, level, text, count, share, few(ids[item + 1] for item in np.flatnonzero(missing)[:5]))
