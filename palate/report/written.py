"""Written preferences for the page: read from stored summaries, never generated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError
from palate.mllm.prompts.items import Items
from palate.mllm.summaries.preferences import Preferences
from palate.mllm.summaries.store import FACTS
from palate.runs.run import Run


class WrittenPreference:
    """The preferences of one store."""

    def __init__(self, name: str, preferences: Preferences) -> None:
        self.name, self.preferences = name, preferences
        self.model = str(preferences.made["backend"].get("model", "unknown"))

    def of(self, history: Sequence[int]) -> list[tuple[tuple[int, ...], str]]:
        """Blocks of items with the preference after each, in order; empty where one of the texts is missing."""
        steps = self.preferences.stored(history)
        if any(text is None for _, text in steps):
            return []
        return [(block, text or "") for block, text in steps]

    def has(self, history: npt.NDArray[np.int32]) -> bool:
        return bool(self.of(history.tolist()))

    @cached_property
    def _ends(self) -> set[tuple[str, ...]]:
        """Ids of the blocks that were read, by which most histories without a preference are ruled out cheaply."""
        found = set()
        for row in self.preferences.rows.values():
            items = row.get("items")
            if isinstance(items, list):
                found.add(tuple(str(item) for item in items))
        return found

    def cases(self, cases: Cases, ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which cases have a written preference: bool ``[cases]``."""
        options = self.preferences.options
        found = np.zeros(len(cases), np.bool_)
        for number, history in enumerate(cases.histories):
            window = len(history) - options.window(len(history))
            last = window if options.strategy == "direct" else window % options.block or options.block
            if len(history) and tuple(ids[item] for item in history[-last:].tolist()) in self._ends:
                found[number] = self.has(history)
        return found


def stores_of(
    runs: Sequence[Run], dataset: Dataset, names: Sequence[str] | None
) -> tuple[list[WrittenPreference], list[str]]:
    """The preferences to show, and what could not be read.

    Args:
        names: stores of the dataset; None: those of the runs that show preferences to their model, or else all that
            are in the dataset.

    Raises:
        PalateError: a store that was named is not there, or is damaged.
    """
    if names is not None:
        if dataset.folder is None:
            raise PalateError("the dataset was made in memory and has no summaries", "Save it first.")
        return [
            WrittenPreference(name, Preferences.open(dataset.folder, name, dataset.catalogue)) for name in names
        ], []
    found: dict[str, WrittenPreference] = {}
    notes: list[str] = []
    for run in runs:
        if (run.model_folder / FACTS).is_file():
            try:
                name, one = _of_run(run, dataset)
            except PalateError as error:
                notes.append(f"The preferences of {run.folder} are not shown: {error}")
                continue
            found.setdefault(name, one)
    if not found and not notes and dataset.folder is not None:
        for folder in _stores(dataset.folder):
            try:
                found[folder.name] = WrittenPreference(
                    folder.name, Preferences.open(dataset.folder, folder.name, dataset.catalogue)
                )
            except PalateError as error:
                notes.append(f"The preferences in {folder} are not shown: {error}")
    return list(found.values()), notes


def _of_run(run: Run, dataset: Dataset) -> tuple[str, WrittenPreference]:
    """With the words and items of the run itself, which its prompts show."""
    preferences = Preferences.load(run.model_folder, Items.load(run.model_folder, dataset.catalogue.pictures))
    if dataset.folder is not None:
        preferences.set_data_folder(dataset.folder)
    preferences.look_up()
    name = preferences.store.name if preferences.store is not None else run.name
    return name, WrittenPreference(name, preferences)


def _stores(dataset: Path) -> list[Path]:
    folder = dataset / "summaries" / "users"
    return sorted(path for path in folder.iterdir() if (path / FACTS).is_file()) if folder.is_dir() else []
