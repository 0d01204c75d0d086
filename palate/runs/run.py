"""The Run: one folder that holds a trained model and everything needed to trace and serve it.

::

    run/
      run.json            what was run: model, options, seed, dataset hash, git commit, environment, features
      catalogue.parquet   id map and item fields, so that the run answers without the dataset
      model/              config.json and *.safetensors of the best epoch
      metrics.jsonl       one row per epoch
      checkpoints/        the state to resume from
      learning-curve.png, tensorboard/
"""

from __future__ import annotations

import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from palate import __version__
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs import RESUMABLE
from palate.runs.trackers import send_run_files
from palate.storage.files import no_artefact, read_json, write_json
from palate.storage.remote import given, local, recorded, under, without_secrets

FORMAT = 1
_REQUIRED: dict[str, type] = {"model": str, "seed": int, "options": dict, "dataset": dict, "environment": dict}
_OF_DATASET: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "path": (str, type(None)),
    "fingerprint": str,
    "image_root": str,
}


def environment() -> dict[str, Any]:
    """What the numbers depend on besides the code: versions, processor, threads, git commit of the working folder."""
    import torch

    return {
        "palate": __version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "commit": _git_commit(),
        "command": [Path(sys.argv[0]).name, *(given(without_secrets(word)) for word in sys.argv[1:])],
    }


def check_new(folder: Path) -> None:
    """Refuse a folder that holds a run.

    Raises:
        PalateError: it does.
    """
    if (folder / "run.json").exists():
        raise PalateError(f"{folder} holds a run already", "Choose another --out, or continue it with --resume.")


def _git_commit() -> str | None:
    """Commit of the code that runs: Palate's own checkout, with '+changes' if it has uncommitted changes."""
    here = Path(__file__).resolve().parents[1]  # the package, in its checkout

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != here.parent:
            return None  # installed inside somebody else's repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@dataclass(frozen=True)
class Run:
    """A run folder, opened."""

    folder: Path
    info: dict[str, Any]

    def __repr__(self) -> str:
        metrics = [f"{name} {value:.4f}" for name, value in (self.info.get("best") or {}).items() if "@" in name]
        facts = [self.info["model"], f"seed {self.seed}", *([] if self.finished else ["unfinished"]), *metrics]
        return f"Run({self.folder}: {', '.join(facts)})"

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        folder = local(folder)
        if not (folder / "run.json").is_file():
            raise no_artefact(folder, "a run", "run.json", "Make one with `palate train`.")
        info = read_json(folder / "run.json")
        if not isinstance(info, dict) or "format" not in info:
            raise PalateError(f"{folder} is not a run (its run.json is not Palate's)", "Check the path.")
        if info["format"] != FORMAT:
            raise PalateError(
                f"{folder} has run format {info['format']}, this Palate reads {FORMAT}", "Train it again."
            )
        lacking = [key for key, kind in _REQUIRED.items() if not isinstance(info.get(key), kind)]
        data = info.get("dataset") or {}
        lacking = lacking or [
            f"dataset.{key}" for key, kind in _OF_DATASET.items() if not isinstance(data.get(key, 0), kind)
        ]
        if lacking:
            raise PalateError(f"{folder / 'run.json'} is damaged: it lacks '{lacking[0]}'", "Train it again.")
        return cls(folder, info)

    @classmethod
    def opened(cls, run: Run | Path | str) -> Run:
        """The run, opened unless it is."""
        return run if isinstance(run, Run) else cls.open(run)

    @classmethod
    def start(
        cls,
        folder: Path | str,
        *,
        model: str,
        options: dict[str, Any],
        seed: int,
        dataset: Dataset,
        dataset_path: Path | str | None,
        features: dict[str, Any] | None = None,
        warm_start: str | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Run:
        """Create the folder with ``run.json`` and the catalogue; the model follows when it is trained.

        Args:
            dataset_path: where later commands find the dataset; by default the folder that it was read from.
            facts: what else ``run.json`` says, written with the rest at once: a killed run has all or none of it.
        """
        folder = Path(folder)
        place = dataset_path or dataset.folder
        check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
        info: dict[str, Any] = {
            "format": FORMAT,
            "model": model,
            "seed": seed,
            "options": options,
            "dataset": {
                "name": dataset.name,
                "path": None if place is None else recorded(place),
                "fingerprint": dataset.fingerprint,
                "split": dataset.manifest.get("split"),
                "image_root": recorded(dataset.catalogue.pictures),
            },
            "features": features or {},
            "warm_start": warm_start,
            "environment": environment(),
            **(facts or {}),
        }
        dataset.catalogue.save(folder / "catalogue.parquet")
        write_json(folder / "run.json", info)
        return cls(folder, info)

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def finished(self) -> bool:
        """Whether training came to its end; an interrupted run may hold the model of its best epoch so far."""
        return bool(self.info.get("finished"))

    def unfinished(self, what: str = "is not finished") -> PalateError:
        """The error that refuses an interrupted run, with the command that finishes it."""
        words = self.info["environment"].get("command")
        words = [str(word) for word in words] if isinstance(words, list) else []
        name = " ".join(words[1 : 3 if words[1:2] == ["mllm"] else 2])
        known = name in RESUMABLE and words[0] in ("palate", "__main__.py")
        how = f"the same `palate {name} ... --resume`" if known else "the command that began it and --resume"
        return PalateError(f"{self.folder} {what}", f"Finish it with {how}.")

    def without_model(self) -> PalateError:
        """The error that refuses a run whose model is not there."""
        self.check_there()
        if self.finished:
            return PalateError(f"{self.folder} has lost its model", "Copy the run whole, or train it again.")
        return self.unfinished("has no trained model yet")

    def check_there(self) -> None:
        """Refuse a run whose folder has been removed since it was opened.

        Raises:
            PalateError: it has.
        """
        if not self.folder.is_dir():
            raise PalateError(
                f"the run {self.folder} is not there any more",
                "Open it where it is now. The run of an estimator goes with the estimator, unless out= names a folder.",
            )

    @property
    def seed(self) -> int:
        return int(self.info["seed"])

    @cached_property
    def catalogue(self) -> Catalogue:
        self.check_there()
        return Catalogue.load(self.folder / "catalogue.parquet", under(Path(), self.info["dataset"]["image_root"]))

    def add(self, **facts: Any) -> Run:
        """The run with more facts in ``run.json`` (written atomically)."""
        info = {**self.info, **facts}
        write_json(self.folder / "run.json", info)
        if facts.get("finished"):
            send_run_files(self.folder)
        return Run(self.folder, info)
