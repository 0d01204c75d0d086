"""Content: items without text, items without a picture, and what the missing ones mean in interactions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Dataset
from palate.data.doctor.finding import Finding, Level, few, percent


def missing_text(data: Dataset) -> list[Finding]:
    """Items with no text in any field."""
    return [_missing(data, "text", np.array([text is None for text in data.catalogue.texts()], bool))]


def missing_pictures(data: Dataset) -> list[Finding]:
    """Items whose catalogue row names no picture."""
    return [_missing(data, "picture", data.catalogue.frame["image"].is_null().to_numpy())]


def _missing(data: Dataset, what: str, missing: npt.NDArray[np.bool_]) -> Finding:
    check = f"missing-{what}"
    count = int(missing.sum())
    if not count:
        return Finding(check, Level.OK, f"Every item has a {what}." if what == "picture" else "Every item has text.")
    share = count / len(missing)
    if count == len(missing):
        return Finding(
            check, Level.NOTE, f"No item has a {what}." if what == "picture" else "No item has text.", count, share
        )
    hit = float(missing[data.items - 1].mean()) if len(data) else 0.0
    text = (
        f"{count:,} of {len(missing):,} items ({percent(share)}; {percent(hit)} of interactions) have no {what}. "
        "They keep their place: see --missing of `palate train`."
    )
    ids = data.catalogue.ids
    level = Level.WARNING if hit > 0.2 else Level.NOTE
    return Finding(check, level, text, count, share, few(ids[item + 1] for item in np.flatnonzero(missing)[:5]))
