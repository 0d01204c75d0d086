"""Make a report: gather the facts, draw the page, write both files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from palate import __version__
from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError
from palate.evaluation.evaluate import Split, cases_of
from palate.evaluation.groups import RunGroup
from palate.evaluation.saved import SavedTable
from palate.evaluation.tables import label_of
from palate.evaluation.users import UserSample
from palate.report import comparison, curves, data_card, gallery, gallery_page
from palate.report.gallery import GalleryEntry
from palate.report.logged import logs_of
from palate.report.markup import Html, join, outside, tag
from palate.report.numbers import count, figure, share
from palate.report.page import page, stat, title_of
from palate.report.pictures import Pictures
from palate.report.written import stores_of
from palate.runs.run import environment
from palate.storage.files import read_json, write_json, write_text
from palate.storage.leftovers import sweep

FORMAT = 1
PAGE, FACTS = "report.html", "report.json"


@dataclass(frozen=True)
class GalleryPlan:
    """What the gallery is made of.

    Attributes:
        models: in the order of the page.
        users: how many; 0: no gallery.
        k: items of each model.
        seed: of the draw.
        split: whose held-out items.
        sample: draw from these users only, those that were evaluated.
        exclude_seen: whether models leave out what a user has had.
        summaries: names of stores of written preferences; None: see :func:`palate.report.written.stores_of`.
        notes: what is to be said of it.
    """

    models: Sequence[GalleryEntry]
    users: int = 8
    k: int = 5
    seed: int = 0
    split: Split = "test"
    sample: UserSample | None = None
    exclude_seen: bool = True
    summaries: Sequence[str] | None = None
    notes: Sequence[str] = ()


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that has a report already, before any work.

    Raises:
        PalateError: it has one, or is no folder.
    """
    if out.exists() and not out.is_dir():
        raise PalateError(f"{out} is a file", "Give --out a folder.")
    sweep(out)
    there = [name for name in (PAGE, FACTS) if (out / name).exists()]
    if there == [FACTS] and _is_ours(out / FACTS):  # the page is written last: this call was killed before
        there = []
    if there and not overwrite:
        raise PalateError(f"{out / there[0]} exists already", "Choose another --out, or replace it with --overwrite.")


def _is_ours(facts: Path) -> bool:
    try:
        found = read_json(facts)
    except PalateError:
        return False
    return isinstance(found, dict) and {"format", "palate", "tables"} <= set(found)


def write_report(
    out: Path,
    dataset: Dataset,
    groups: Sequence[RunGroup],
    tables: Sequence[SavedTable],
    plan: GalleryPlan,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write ``report.html`` and ``report.json`` into ``out``.

    Args:
        groups: the runs, for curves and cost.
        tables: at least one; the first has the headline.

    Returns:
        What ``report.json`` holds: every number on the page.

    Raises:
        PalateError: a table of another dataset, a damaged log, or a report that is there already.
    """
    check_out(out, overwrite)
    for table in tables:
        if table.dataset.fingerprint != dataset.fingerprint:
            raise PalateError(
                f"a table is of other data ({table.dataset.name}, {table.dataset.fingerprint}) than the runs "
                f"({dataset.name}, {dataset.fingerprint})",
                "Evaluate these runs, or give the runs of that table.",
            )
    logs = logs_of(groups)
    facts: dict[str, Any] = {
        "format": FORMAT,
        "palate": __version__,
        "environment": environment(),
        "dataset": data_card.facts_of(dataset, logs),
        "tables": [table.model_dump() for table in tables],
        "runs": logs,
        "gallery": _gallery(dataset, groups, plan),
    }
    pictures = Pictures(dataset.catalogue)
    text = render(facts, tables, pictures)
    facts["pictures"] = {"shown": pictures.shown, "without": dict(pictures.refused)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FACTS, facts)
    write_text(out / PAGE, text)
    return facts


def _gallery(dataset: Dataset, groups: Sequence[RunGroup], plan: GalleryPlan) -> dict[str, Any]:
    if not plan.users:
        return {"users": [], "notes": [], "told": ""}
    cases = cases_of(dataset, plan.split)
    among = f"all {len(cases):,}"
    if plan.sample is not None:
        cases = plan.sample.of(dataset, cases)
        among = f"the {len(cases):,} that were evaluated"
    stores, notes = stores_of([run for group in groups for run in group.runs], dataset, plan.summaries)
    first = None
    if stores:
        first = np.logical_or.reduce([one.cases(cases, dataset.catalogue.ids) for one in stores])
        among += f", the {int(first.sum()):,} with a written preference before others" if first.any() else ""
    some: Cases = cases.take(gallery.choose(cases, plan.users, plan.seed, first))
    users, more = gallery.users_of(dataset, some, plan.models, stores, k=plan.k, exclude_seen=plan.exclude_seen)
    told = gallery.describe(users, plan.seed, plan.split, among)
    return {"users": users, "notes": [*plan.notes, *notes, *more], "told": told}


def render(facts: Mapping[str, Any], tables: Sequence[SavedTable], pictures: Pictures) -> str:
    """The page of the facts."""
    labels = [label for table in tables for label in table.labels]
    labels += [log["label"] for log in facts["runs"]]
    labels += [model["label"] for user in facts["gallery"]["users"] for model in user["models"]]
    colours = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    logs, data = facts["runs"], facts["dataset"]
    sections: list[tuple[str, str, Html | None]] = []
    for number, table in enumerate(tables):
        heading = "Comparison" if not number else f"Comparison, {table.name}"
        name = "Comparison" if not number else f"Comparison {number + 1}"
        sections.append((f"comparison-{number + 1}", name, comparison.section(table, colours, heading)))
    sections += [
        ("gallery", "Gallery", gallery_page.section(facts["gallery"], pictures, colours)),
        ("curves", "Learning curves", curves.curves(logs, colours)),
        ("alignment", "Alignment", curves.alignment(logs, colours)),
        ("data", "Data set", data_card.section(data)),
        ("cost", "Cost", join(curves.cost(logs, tables), curves.origins(logs)) if logs else None),
    ]
    kept = [(id_, name, made) for id_, name, made in sections if made is not None]
    return page(f"{data['name']}: Palate report", _hero(data, tables), kept, _foot(facts), pictures.ratio)


def _hero(data: Mapping[str, Any], tables: Sequence[SavedTable]) -> Html:
    first = tables[0]
    known = [model.metrics[first.primary].mean for model in first.contenders]
    best = max((mean for mean in known if mean is not None), default=None)
    stats = [
        stat(count(data["users"]), "users"),
        stat(count(data["items"]), "items"),
        stat(count(data["interactions"]), "interactions"),
        stat(share(data["coverage"]["picture"]["items"]), "of items with a picture"),
        stat(str(len(first.contenders)), "models compared" if len(first.contenders) != 1 else "model"),
        stat(figure(best), f"highest {label_of(first.primary)}"),
    ]
    return join(
        tag("h1", title_of(data["name"])),
        tag("p", "Who recommends what, how well, at what cost.", class_="soft"),
        tag("dl", stats, class_="stats"),
    )


def _foot(facts: Mapping[str, Any]) -> Html:
    commit = facts["environment"].get("commit") or "unknown"
    return tag(
        "p",
        f"Palate {facts['palate']}, commit ",
        outside(str(commit)[:12] + ("+changes" if str(commit).endswith("+changes") else "")),
        ". This page holds everything it shows and asks the network for nothing. Its numbers are in report.json.",
    )
