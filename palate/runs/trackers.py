"""Trackers: what a run, a table or a bundle holds, on MLflow or Weights & Biases too.

Accelerate's trackers are used. A tracker that fails while a model trains (its server is gone, say) is given up with one
warning: a run's own folder has everything, and ``palate track`` sends it later.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from palate.errors import PalateError, one_line, suggest
from palate.names import comma_separated
from palate.storage.files import read_json, write_json

TRACKERS = ("mlflow", "wandb")
VARIABLE = "PALATE_TRACK"  # names with commas; `--track` sets it for a command and the processes that it starts
EXPERIMENT = "palate"  # MLFLOW_EXPERIMENT_NAME and WANDB_PROJECT win
IDS = "trackers.json"
# What is sent of a run's folder, as far as it is there.
RUN_FILES = ("run.json", "metrics.jsonl", "learning-curve.png", "alignment.json", "alignment.png")
# MLflow refuses other characters in the names of metrics and parameters.
_UNFIT = re.compile(r"[^\w\-. :/]")


def tracker_names(text: str | None = None) -> list[str]:
    """The trackers that a text (by default :data:`VARIABLE` of the environment) names; their packages are there.

    Raises:
        PalateError: no such tracker, or its package is not installed.
    """
    names = list(dict.fromkeys(comma_separated(os.environ.get(VARIABLE, "") if text is None else text)))
    for name in names:
        if name not in TRACKERS:
            raise PalateError(f"there is no tracker '{name}'", suggest(name, TRACKERS))
        if find_spec(name) is None:
            raise PalateError(f"the tracker '{name}' needs its package", f"Run `pip install 'palate[{name}]'`.")
    return names


class Tracker:
    """One thing that is tracked, open at one tracker.

    Args:
        name: of :data:`TRACKERS`.
        title: how it is called there.
        identifier: of what was begun before and goes on; None begins anew.
    """

    def __init__(self, name: str, title: str, identifier: str | None = None) -> None:
        self.name = name
        tracking: Any = import_module("accelerate.tracking")
        import_module("accelerate").PartialState()  # its logger needs it; training has made it already
        if name == "mlflow":
            self._tracker = tracking.MLflowTracker(EXPERIMENT, run_name=title, run_id=identifier)
        else:
            project = os.environ.get("WANDB_PROJECT", EXPERIMENT)
            resume: Literal["allow"] | None = None if identifier is None else "allow"
            self._tracker = tracking.WandBTracker(project, name=title, id=identifier, resume=resume)
        self._tracker.start()

    @property
    def identifier(self) -> str:
        """By which the tracker knows it."""
        own = self._tracker.tracker
        return str(own.info.run_id if self.name == "mlflow" else own.id)

    def options(self, facts: Mapping[str, Any]) -> None:
        """What decided the numbers, nested as it may be."""
        self._tracker.store_init_configuration({_clean(name): value for name, value in _flat(facts)})

    def numbers(self, values: Mapping[str, Any], step: int | None = None) -> None:
        """Figures; ``ndcg@10`` is called ``ndcg_at_10``. What is no number is left out."""
        fit = {_clean(name): value for name, value in values.items() if isinstance(value, int | float)}
        self._tracker.log(fit, step=step)

    def file(self, path: Path) -> None:
        """A file, under its name."""
        if self.name == "mlflow":
            self._tracker.log_artifact(str(path))
        else:  # W&B follows what it is sent; the file may be written again
            place = Path(self._tracker.run.dir) / path.name
            shutil.copyfile(path, place)
            self._tracker.run.save(str(place), base_path=str(place.parent), policy="now")

    def folder(self, path: Path, title: str) -> None:
        """A folder with everything in it, as an artefact of this title."""
        if self.name == "mlflow":
            self._tracker.log_artifacts(str(path), artifact_path=title)
        else:
            artefact: Any = import_module("wandb").Artifact(_UNFIT.sub("-", title), type="model")
            artefact.add_dir(str(path))
            self._tracker.run.log_artifact(artefact)

    def finish(self) -> None:
        """Nothing follows."""
        self._tracker.finish()


class RunTracker:
    """A run at a tracker: what was begun there before goes on. How far it is stands in the run's folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        before = _known(folder).get(name)
        self.tracker = Tracker(name, folder.resolve().name, before and before["id"])
        self.rows = before["rows"] if before else 0
        with self.finished_on_failure():
            self._remember()
            if before is None:
                self._send_options()

    @contextmanager
    def finished_on_failure(self) -> Iterator[None]:
        """MLflow refuses another run while one is open."""
        try:
            yield
        except Exception:
            with suppress(Exception):
                self.tracker.finish()
            raise

    def _send_options(self) -> None:
        if (self.folder / "run.json").is_file():
            info = read_json(self.folder / "run.json")
            options, data = dict(info.get("options") or {}), info.get("dataset") or {}
            options |= options.pop("settings", {})
            self.tracker.options({**{key: info.get(key) for key in ("model", "seed", "warm_start")}, **options})
            self.tracker.options({"dataset": {key: data.get(key) for key in ("name", "fingerprint")}})

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All rows of ``metrics.jsonl`` so far: those that it has not yet had are sent."""
        with self.finished_on_failure():
            for row in rows[self.rows :]:
                self.tracker.numbers({key: value for key, value in row.items() if key != "step"}, row.get("step"))
            self.rows = len(rows)
            self._remember()

    def files(self) -> None:
        """The run's pictures and records."""
        with self.finished_on_failure():
            for path in existing(self.folder, RUN_FILES):
                self.tracker.file(path)

    def _remember(self) -> None:
        here = {"id": self.tracker.identifier, "rows": self.rows}
        write_json(self.folder / IDS, {**_known(self.folder), self.name: here})


class LiveTrackers:
    """A run's trackers while it trains; each is given up at its first failure.

    Args:
        folder: of the run.
        names: of :data:`TRACKERS`.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self._open: dict[str, RunTracker] = {}
        for name in names:
            with _warning(name, folder):
                self._open[name] = RunTracker(folder, name)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """All rows so far."""
        for name, tracker in list(self._open.items()):
            self._open.pop(name)
            with _warning(name, self.folder):
                tracker.add(rows)
                self._open[name] = tracker

    def close(self) -> None:
        for name, tracker in self._open.items():
            with _warning(name, self.folder):
                tracker.tracker.finish()
        self._open.clear()


def send_run_files(folder: Path) -> None:
    """After a tracked run has ended: its pictures and records, to every tracker of the environment."""
    for name in [one for one in tracker_names() if one in _known(folder)]:
        with _warning(name, folder):
            tracker = RunTracker(folder, name)
            tracker.files()
            tracker.tracker.finish()


@contextmanager
def _warning(name: str, folder: Path) -> Iterator[None]:
    """Training goes on whatever a server, a network or a package raises."""
    try:
        yield
    except Exception as error:
        warnings.warn(
            f"{name} no longer takes what is tracked ({one_line(error)}); send it later: "
            f"palate track {folder} --to {name}",
            stacklevel=3,
        )


def _known(folder: Path) -> dict[str, Any]:
    """What trackers know of a run: identifier and number of rows by their names."""
    found: dict[str, Any] = read_json(folder / IDS) if (folder / IDS).is_file() else {}
    return found


def existing(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of a folder's files that are there."""
    return [folder / name for name in names if (folder / name).is_file()]


def _clean(name: str) -> str:
    """
    >>> _clean("ndcg@10")
    'ndcg_at_10'
    """
    return _UNFIT.sub("_", name.replace("@", "_at_"))


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """
    >>> list(_flat({"trainer": {"epochs": 3}, "seed": 0}))
    [('trainer.epochs', 3), ('seed', 0)]
    """
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value if isinstance(value, str | int | float | bool) else str(value)
