"""Runs on the command line: which belong to one row, which dataset they share, and their evaluation."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.runs.dataset import check_dataset, dataset_of
from palate.runs.run import Run
from palate.storage.files import digest


@dataclass(frozen=True)
class RunGroup:
    """Runs that become one row: the same model and options, different seeds."""

    label: str
    runs: tuple[Run, ...]


def group_runs(words: Sequence[str]) -> list[RunGroup]:
    """Open runs and put those that differ only in the seed together, in order of first appearance.

    Args:
        words: Run folders, or ``NAME=RUN,RUN,...``, which makes one row of that name.

    Raises:
        PalateError: a folder that is no run, a run that is not finished, a seed that occurs twice in a row, runs of
            different options under one name.
    """
    named: list[tuple[str, list[Run]]] = []
    loose: dict[str, list[Run]] = {}
    order: list[tuple[str | None, str]] = []
    for word in words:
        name, equals, rest = word.partition("=")
        if equals and "/" not in name and not Path(word).exists():
            if not name or name in [label for label, _ in named]:
                raise PalateError(
                    f"'{word}': the row has no name of its own", "Write NAME=RUN,RUN with different names."
                )
            named.append((name, [_finished(part) for part in rest.split(",") if part]))
            order.append((name, name))
            continue
        run = _finished(word)
        key = recipe(run)
        if key not in loose:
            order.append((None, key))
        loose.setdefault(key, []).append(run)
    groups: list[RunGroup] = []
    by_name = dict(named)
    for label, key in order:
        runs = by_name[label] if label is not None else loose[key]
        _check(label or runs[0].name, runs)
        groups.append(RunGroup(label or _label(runs), tuple(sorted(runs, key=lambda run: run.seed))))
    return _different(groups)


def _finished(folder: str) -> Run:
    """The run, unless its training was interrupted: its model of the best epoch so far is not what was requested."""
    run = Run.open(folder)
    if not run.finished:
        raise run.unfinished()
    return run


def recipe(run: Run) -> str:
    """Hash of what was trained and how, whatever the seed: runs that share it are repetitions of each other."""
    info = run.info
    features = {name: facts.get("fingerprint", facts) for name, facts in (info.get("features") or {}).items()}
    parts = (info["model"], info.get("options"), features, info.get("warm_start"), info["dataset"]["fingerprint"])
    refit = [info["refit"].get("epochs")] if "refit" in info else []
    return digest(json.dumps([*parts, *refit], sort_keys=True, default=str))


def _check(name: str, runs: Sequence[Run]) -> None:
    if not runs:
        raise PalateError(f"the row '{name}' has no runs", "Write NAME=RUN,RUN.")
    seeds: dict[int, Run] = {}
    for run in runs:
        if run.seed in seeds:
            raise PalateError(
                f"{seeds[run.seed].folder} and {run.folder} have the same options and the same seed {run.seed}",
                "Give one of them, or make rows of their own: A=RUN B=RUN.",
            )
        seeds[run.seed] = run
        if recipe(run) != recipe(runs[0]):
            raise PalateError(
                f"{run.folder} and {runs[0].folder} under '{name}' differ in more than the seed",
                "Put them in rows of their own.",
            )


def _label(runs: Sequence[Run]) -> str:
    """The folder's name for one run; what the folders' names share for several, without the seed."""
    if len(runs) == 1:
        return runs[0].folder.resolve().name
    letters = zip(*(run.folder.resolve().name for run in runs), strict=False)
    shared = "".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, letters))
    shared = re.sub(r"(^|[-_. =]+)(seed|run|s)?[-_. =]*[0-9]*$", "", shared)
    return shared or str(runs[0].info["model"])


def _different(groups: list[RunGroup]) -> list[RunGroup]:
    """Labels that occur twice get the folder, or else a number, behind them."""
    labels = [group.label for group in groups]
    out: list[RunGroup] = []
    for group in groups:
        label = group.label
        if labels.count(label) > 1:
            label = f"{label} ({group.runs[0].folder.resolve().parent.name})"
        number = 2
        while label in [other.label for other in out]:
            label, number = f"{group.label} ({number})", number + 1
        out.append(RunGroup(label, group.runs))
    return out


def find_group(groups: Sequence[RunGroup], word: str) -> str:
    """The label of the row that ``word`` names, or that holds the run in this folder."""
    for group in groups:
        if word == group.label or any(Path(word).resolve() == run.folder.resolve() for run in group.runs):
            return group.label
    raise PalateError(f"--base {word} is none of the runs", suggest(word, [group.label for group in groups]))


def open_dataset(groups: Sequence[RunGroup], folder: Path | None = None) -> Dataset:
    """The dataset that all runs were trained on; by default from where the first one met it.

    Raises:
        PalateError: the dataset is gone, or a run was trained on other data.
    """
    first, *others = [run for group in groups for run in group.runs]
    dataset = dataset_of(first, path=folder)
    for run in others:
        check_dataset(run, dataset)
    return dataset
