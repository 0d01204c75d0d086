"""Make a report: gather the facts, render the page, write both files."""

from __future__ import annotations

from collections.abc import Sequence
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
from palate.evaluation.users import UserSample
from palate.report import data_card, gallery
from palate.report.gallery import GalleryEntry
from palate.report.in_words import facts_of, in_words
from palate.report.logged import logs_of
from palate.report.page import page
from palate.report.pictures import Pictures
from palate.report.written import stores_of
from palate.runs.run import environment
from palate.storage.files import read_json, write_json, write_text
from palate.storage.leftovers import sweep
from palate.storage.remote import takes_urls

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
        notes: shown above the users.
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


@takes_urls("out")
def write_report(
    out: Path | str,
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
    out = Path(out)
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
        "in_words": facts_of(in_words(tables[0])),
        "tables": [table.model_dump() for table in tables],
        "runs": logs,
        "gallery": _gallery(dataset, groups, plan),
    }
    pictures = Pictures(dataset.catalogue)
    text = page(facts, tables, pictures)
    facts["pictures"] = {"shown": pictures.shown, "without": dict(pictures.refused)}
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / FACTS, facts)
    write_text(out / PAGE, text)
    return facts


def _gallery(dataset: Dataset, groups: Sequence[RunGroup], plan: GalleryPlan) -> dict[str, Any]:
    if not plan.users:
        return {"users": [], "notes": [], "info": ""}
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
    description = gallery.describe(users, plan.seed, plan.split, among)
    return {"users": users, "notes": [*plan.notes, *notes, *more], "info": description}
