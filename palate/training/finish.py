"""End a training that has run long enough: the Python call behind ``palate train --finish``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.registry import RANKERS, load_recommender
from palate.rankers.trained import TrainedRanker
from palate.runs.dataset import dataset_of
from palate.runs.manual_stop import BY_FINISH, forget_request, request_finish
from palate.runs.run import Run
from palate.runs.trained_on import record_logs
from palate.storage.lock import one_writer
from palate.storage.remote import follow
from palate.storage.small_files import json_rows
from palate.training.config import NeighboursConfig, TrainerConfig
from palate.training.fit import neighbours_added, summary


def finish(run: Run | Path | str, *, dataset: Dataset | None = None, dataset_path: Path | str | None = None) -> Run:
    """Keep the best epoch so far of an interrupted training as a finished run.

    Where another process is at work in the folder, it is asked to end after its next validation, and the run is
    returned as it is: not finished. The same holds for an interrupted alignment, which its own command ends when it is
    resumed.

    Args:
        dataset: what it was trained on; by default it is opened where the run met it.

    Raises:
        PalateError: nothing was validated yet, or nothing is: a refit, a model that is counted.
    """
    run = Run.opened(run)
    if run.finished:
        return run
    kind = RANKERS[run.info["model"]]
    if not issubclass(kind, TrainedRanker) or "refit" in run.info:
        what = "a refit" if "refit" in run.info else f"a {run.info['model']}"
        raise PalateError(f"{run.folder} is {what}: no epoch is the best", run.unfinished().remedy)
    with ExitStack() as held:
        try:
            held.enter_context(one_writer(run.folder))
        except PalateError:  # another process is at work
            request_finish(run.folder)
            return Run.open(run.folder)
        if "alignment" in run.info["options"]:
            request_finish(run.folder)
            return run
        made = run.add(finished=True, **_facts(run, dataset_of(run, dataset, dataset_path)))
        forget_request(run.folder)
        return made


def _facts(run: Run, dataset: Dataset) -> dict[str, Any]:
    """What ``run.json`` records of a training that ends here, its neighbours added."""
    settings = run.info["options"]["settings"]
    config = TrainerConfig.parse(settings["trainer"], where=f"{run.folder / 'run.json'}")
    log = run.folder / "metrics.jsonl"
    rows = list(json_rows(log)) if log.is_file() else []
    if not any(config.metric in row for row in rows) or not (run.model_folder / "config.json").is_file():
        raise PalateError(f"{run.folder} has no validated epoch yet", run.unfinished().remedy)
    request_finish(run.folder)  # it stands where the process is killed from here on
    model = load_recommender(run)
    assert isinstance(model, TrainedRanker)
    facts = summary(rows, config, model)
    near = NeighboursConfig.parse(settings.get("neighbours", {}), where=f"{run.folder / 'run.json'}")
    if near.sources:
        facts = neighbours_added(facts, run, dataset, near, config, run.seed)
    start = run.info.get("warm_start")
    facts["ended_early"] = {"epoch": rows[-1]["epoch"], "of": config.epochs, "by": BY_FINISH}
    facts["trained_on"] = record_logs(dataset, run, [Run.open(follow(start))] if start else [])
    return facts
