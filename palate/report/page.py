"""The page: its sections between a hero and a foot, style and script inside it, and a policy that lets nothing else run
or load."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from palate.evaluation.saved import SavedTable
from palate.evaluation.tables import label_of
from palate.report import comparison, curves, data_card, gallery
from palate.report.in_words import in_words
from palate.report.pictures import Pictures
from palate.report.render import render

HERE = Path(__file__).parent


def style() -> str:
    return (HERE / "page.css").read_text(encoding="utf-8")


def script() -> str:
    return (HERE / "page.js").read_text(encoding="utf-8")


def policy() -> str:
    """Nothing comes from anywhere: pictures are in the page, and of scripts only this very one runs."""
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode("ascii")
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def page(facts: Mapping[str, Any], tables: Sequence[SavedTable], pictures: Pictures) -> str:
    """The whole file.

    Args:
        facts: what ``report.json`` holds.
        tables: at least one; the first has the headline.
    """
    labels = [label for table in tables for label in table.labels]
    labels += [log["label"] for log in facts["runs"]]
    labels += [model["label"] for user in facts["gallery"]["users"] for model in user["models"]]
    colours = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    logs = facts["runs"]
    sections: list[tuple[str, str, Markup | None]] = []
    for number, table in enumerate(tables):
        heading = "Comparison" if not number else f"Comparison, {table.name}"
        name = "Comparison" if not number else f"Comparison {number + 1}"
        sections.append((f"comparison-{number + 1}", name, comparison.section(table, colours, heading)))
    sections += [
        ("gallery", "Gallery", gallery.section(facts["gallery"], pictures, colours)),
        ("curves", "Learning curves", curves.curves(logs, colours)),
        ("alignment", "Alignment", curves.alignment(logs, colours)),
        ("data", "Data set", data_card.section(facts["dataset"])),
        ("cost", "Cost", curves.cost(logs, tables) if logs else None),
    ]
    first = tables[0]
    words = in_words(first)
    means = [model.metrics[first.primary].mean for model in first.contenders]
    return render(
        "page.html.j2",
        palate=facts["palate"],
        commit=_short(str(facts["environment"].get("commit") or "unknown")),
        data=facts["dataset"],
        models=len(first.contenders),
        best=max((mean for mean in means if mean is not None), default=None),
        primary=label_of(first.primary),
        in_words=None if words is None else render("in_words.html.j2", words=words),
        sections=[(id_, name, content) for id_, name, content in sections if content is not None],
        ratio=pictures.ratio,
        # Written as they are: these are the package's own.
        style=Markup(style()),
        script=Markup(script()),
        policy=Markup(policy()),
    )


def _short(commit: str) -> str:
    return commit[:12] + ("+changes" if commit.endswith("+changes") else "")
