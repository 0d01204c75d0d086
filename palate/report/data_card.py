"""The dataset: how much of everything, how it was made, what items show, and how unevenly they are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from markupsafe import Markup

from palate.data.dataset import Dataset, Part
from palate.report.charts import Line, line_chart
from palate.report.numbers import count
from palate.report.render import render
from palate.report.tables import Cell, TableView

_CURVE_POINTS = 60


def facts_of(dataset: Dataset, logs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers of the card."""
    frame = dataset.catalogue.frame
    texts = np.array([False, *(text is not None for text in dataset.catalogue.texts())])
    pictures = np.concatenate([[False], frame["image"].fill_null("").str.len_chars().to_numpy() > 0])
    lengths = np.diff(dataset.offsets)
    counts = dataset.train_counts[1:]
    manifest = dataset.manifest
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "users": dataset.num_users,
        "items": dataset.num_items,
        "interactions": len(dataset),
        "density": len(dataset) / max(1, dataset.num_users * dataset.num_items),
        "parts": {part.name.lower(): int((dataset.parts == part).sum()) for part in Part},
        "split": manifest.get("split") if isinstance(manifest.get("split"), dict) else {},
        "reader": manifest.get("reader"),
        "filters": _filters(manifest.get("filters")),
        "history": {
            "median": float(np.median(lengths)) if len(lengths) else 0.0,
            "least": int(lengths.min(initial=0)) if not len(lengths) else int(lengths.min()),
            "most": int(lengths.max(initial=0)),
        },
        "coverage": {
            "title": _covered(
                dataset, np.concatenate([[False], frame["title"].fill_null("").str.len_chars().to_numpy() > 0])
            ),
            "text": _covered(dataset, texts),
            "picture": _covered(dataset, pictures),
        },
        "features": _features(logs),
        "skew": _skew(counts),
        "times": _times(dataset),
        "dislikes": None if dataset.dislikes is None else len(dataset.dislikes.values),
    }


def _covered(dataset: Dataset, has: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float]:
    """Shares of items and of interactions that have it."""
    return {
        "items": float(has[1:].mean()) if dataset.num_items else 0.0,
        "interactions": float(has[dataset.items].mean()) if len(dataset) else 0.0,
    }


def _features(logs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Coverage of the features that the runs were trained with, by modality: the least of any run."""
    found: dict[str, float] = {}
    for log in logs:
        for name, value in log["coverage"].items():
            found[name] = min(value, found.get(name, 1.0))
    return found


def _skew(counts: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Any]:
    """How unevenly training interactions fall on items; ``curve`` is the share that the most popular items have."""
    order = np.sort(counts)[::-1].astype(np.float64)
    total = float(order.sum())
    if not len(order) or not total:
        return {"gini": 0.0, "top_1%": 0.0, "top_10%": 0.0, "top_20%": 0.0, "untrained": len(order), "curve": []}
    shares = np.concatenate([[0.0], np.cumsum(order) / total])
    across = np.linspace(0, 1, len(shares))
    places = np.unique(np.linspace(0, len(shares) - 1, _CURVE_POINTS).round().astype(int))
    area = float(((shares[1:] + shares[:-1]) / 2).mean())
    return {
        "gini": round(2 * area - 1, 4),
        **{f"top_{part}%": round(float(np.interp(part / 100, across, shares)), 4) for part in (1, 10, 20)},
        "untrained": int((counts == 0).sum()),
        "curve": [[round(float(across[place]), 4), round(float(shares[place]), 4)] for place in places],
    }


def _times(dataset: Dataset) -> list[str] | None:
    if dataset.timestamps is None or not len(dataset.timestamps):
        return None
    try:
        ends = [
            datetime.fromtimestamp(int(t) / 1000, UTC) for t in (dataset.timestamps.min(), dataset.timestamps.max())
        ]
    except (OverflowError, ValueError, OSError):  # times that are no dates
        return None
    return [f"{end:%Y-%m-%d}" for end in ends]


def _filters(steps: Any) -> list[dict[str, Any]]:
    """The filters of the manifest, as far as they are what they should be."""
    found = []
    for step in steps if isinstance(steps, list) else []:
        before, after = (step.get(name) for name in ("before", "after")) if isinstance(step, dict) else (None, None)
        if not isinstance(before, dict) or not isinstance(after, dict):
            continue
        options = {k: v for k, v in step.items() if k not in ("step", "before", "after")}
        found.append({"step": str(step.get("step", "filter")), "options": options, "before": before, "after": after})
    return found


def section(facts: Mapping[str, Any]) -> Markup:
    """The card."""
    curve = line_chart(
        "Share of interactions that the most popular items have",
        [Line("items, most popular first", 0, [(x, y) for x, y in facts["skew"]["curve"]])],
        across="share of items, most popular first",
        percent=True,
        area=True,
        diagonal=True,
    )
    details = {name: value for name, value in facts["split"].items() if name != "name" and value not in (None, {}, [])}
    return render(
        "data_card.html.j2",
        **facts,
        split_details=details,
        curve=curve,
        filter_table=_filter_table(facts["filters"]) if facts["filters"] else None,
    )


def _filter_table(filters: Sequence[Mapping[str, Any]]) -> TableView:
    rows = []
    for step in filters:
        options = ", ".join(f"{name} {value}" for name, value in step["options"].items())
        cells = [Cell(step["step"], step["step"], "bdi", note=options)]
        for name in ("users", "items", "interactions"):
            before, after = (step[side].get(name) for side in ("before", "after"))
            if isinstance(before, int) and isinstance(after, int):
                lost = f"({after - before:+,})" if after != before else ""
                cells.append(Cell(f"{count(before)} → {count(after)}", after, note=lost))
            else:
                cells.append(Cell("-"))
        rows.append(cells)
    return TableView(
        "Filters, in order: before → after", ["filter", "users", "items", "interactions"], rows, sorts=False
    )
