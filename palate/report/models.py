"""The models of a report: the runs that tables name, and which of them the gallery shows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from palate.cascade.cascade import check_catalogues, open_cascade
from palate.errors import PalateError
from palate.evaluation.groups import RunGroup, group_runs
from palate.evaluation.saved import SavedTable
from palate.rankers.registry import RANKERS, load_recommender
from palate.report.gallery import GalleryEntry
from palate.runs.run import Run
from palate.storage.remote import find, recorded


def runs_of(tables: Sequence[SavedTable]) -> list[RunGroup]:
    """The runs that tables name, each once, under the first name it has there.

    Raises:
        PalateError: none of them is there any more, or a folder holds something else now.
    """
    groups: dict[tuple[str, ...], RunGroup] = {}
    for table in tables:
        for label, runs in table.runs.items():
            folders = tuple(run.folder for run in runs if run is not None)
            if not folders or folders in groups:
                continue
            here = [found for one in folders if (found := find(one)) is not None and (found / "run.json").is_file()]
            if len(here) == len(folders):
                opened = tuple(Run.open(one) for one in here)
                for saved, run in zip((run for run in runs if run is not None), opened, strict=True):
                    saved.check_same(run)
                groups[folders] = RunGroup(label, opened)
    if not groups:
        raise PalateError(
            "none of the table's runs is where it was", "Name the runs: palate report RUN... --table DIR."
        )
    return list(groups.values())


def named_as_in(tables: Sequence[SavedTable], groups: Sequence[RunGroup]) -> list[RunGroup]:
    """The groups under the names that the tables have for the same runs, so that one model has one name on the page."""
    names: dict[frozenset[str], str] = {}
    for table in tables:
        for label, runs in table.runs.items():
            names.setdefault(frozenset(recorded(run.folder) for run in runs if run is not None), label)
    mine = [names.get(frozenset(recorded(run.folder) for run in group.runs), group.label) for group in groups]
    if len(set(mine)) < len(mine):
        return list(groups)
    return [RunGroup(label, group.runs) for label, group in zip(mine, groups, strict=True)]


def gallery_models(
    groups: Sequence[RunGroup], retriever: str | None, depth: int = 20, exclude_seen: bool = True, device: str = "cpu"
) -> tuple[list[GalleryEntry], list[str], list[RunGroup]]:
    """The gallery's models: one run per row, behind a retriever where it needs one.

    Returns:
        The models, notes on those that are not shown, and the rows with the retriever's, if it was not among them.
    """

    def slow(run: Run) -> bool:
        return not RANKERS[run.info["model"]].whole_catalogue

    groups = list(groups)
    fast: Run | None = None
    name = ""
    if retriever is not None:
        (alone,) = group_runs([retriever])
        fast = alone.runs[0]
        if slow(fast):
            raise PalateError(f"--retriever {retriever} needs a retriever itself", "Choose a fast run.")
        if not any(slow(group.runs[0]) for group in groups):
            raise PalateError(
                "none of the runs needs a retriever: all of them rank the whole catalogue", "Leave --retriever out."
            )
        mine = [one for one in groups if any(run.folder.resolve() == fast.folder.resolve() for run in one.runs)]
        groups += [] if mine else [alone]
        name = mine[0].label if mine else alone.label
    models, notes = [], []
    for group in groups:
        run = group.runs[0]
        if not slow(run):
            models.append(GalleryEntry(group.label, partial(load_recommender, run, device=device)))
        elif fast is None:
            notes.append(
                f"{group.label} cannot rank the whole catalogue, so it is not in the gallery; --retriever RUN0 lets a "
                "fast run propose what it re-ranks."
            )
        else:
            check_catalogues(run, fast)
            again = partial(open_cascade, run, fast, depth=depth, exclude_seen=exclude_seen, device=device)
            suffix = f" re-ranking {name}"  # which a table of cascades has already
            models.append(GalleryEntry(group.label.removesuffix(suffix) + suffix, again))
    if any(len(group.runs) > 1 for group in groups):
        notes.append("Where a row has several seeds, the gallery shows the first.")
    return models, notes, groups
