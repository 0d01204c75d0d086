"""Give a run that is trained already its neighbours: the Python call behind ``palate attach``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.neighbours import check_sources
from palate.rankers.registry import RANKERS, rankers_that
from palate.rankers.sequential import SequentialRanker
from palate.runs.dataset import dataset_of
from palate.runs.run import Run
from palate.runs.start import run_to_train
from palate.runs.trained_on import check_unseen, record_logs
from palate.storage.files import atomic_folder, digest
from palate.storage.remote import recorded, takes_urls
from palate.training.config import TrainerConfig
from palate.training.neighbour_run import add_neighbours
from palate.training.plan import Settings, neighbours_config


@takes_urls("out")
def attach(
    run: Run | Path | str,
    *,
    out: Path | str,
    neighbours: Sequence[str],
    settings: Settings | None = None,
    seed: int | None = None,
    dataset: Dataset | None = None,
    dataset_path: Path | str | None = None,
    resume: bool = False,
) -> Run:
    """Fit neighbours to a finished run and return the new run: the ranker is the same, and is not trained again.

    Equal to having trained it with them (``palate train --neighbours``), for weights of neighbours are fitted last.

    Args:
        run: a finished run of a neural ranker; neighbours that it has are replaced.
        out: folder of the new run.
        neighbours: sources, see :func:`palate.training.fit.train`.
        settings: further options, of the section ``neighbours`` only.
        seed: of the sample of users; by default the run's own.
        dataset: what the run was trained on; by default it is opened where the run met it.
        resume: make an interrupted one again; a finished one is returned as it is.

    Raises:
        PalateError: no neural ranker, an unfinished run, another dataset, no such source: before any work.
    """
    start = Run.opened(run)
    check_attachable(start.info["model"], str(start.folder))
    if not start.finished:
        raise start.unfinished()
    sections = dict(settings or {})
    unknown = sorted(set(sections) - {"neighbours"})
    if unknown:
        raise PalateError(f"settings [{unknown[0]}]: the ranker is not trained again", "Give [neighbours] only.")
    config = neighbours_config(dict(sections.get("neighbours", {})), neighbours)
    if not config.sources:
        raise PalateError("no neighbours are named", "Give --neighbours co-occurrence,lexical, say.")
    data = dataset_of(start, dataset, dataset_path)
    check_unseen(start, data, "valid")
    check_sources(data, config.sources, data.folder)
    options = start.info["options"]
    trainer = TrainerConfig.parse(options["settings"]["trainer"], where=f"{start.folder / 'run.json'}")
    seed = start.seed if seed is None else seed
    identity: dict[str, Any] = {
        "model": start.info["model"],
        "seed": seed,
        "options": {
            **options,
            "settings": {**options["settings"], "neighbours": config.model_dump(mode="json")},
        },
        "features": start.info["features"],
        "warm_start": None,
    }
    weights = digest((start.model_folder / "weights.safetensors").read_bytes())
    origin = {"run": recorded(start.folder), "weights": weights}
    with run_to_train(out, identity, data, resume=resume, facts={"attached_to": origin}) as made:
        if made.finished:
            return made
        with atomic_folder(made.model_folder, replace=True) as part:
            shutil.copytree(start.model_folder, part, dirs_exist_ok=True)
        facts = add_neighbours(made, data, config, trainer, seed, learnt=start)
        near = facts["neighbours"]
        best = {**start.info.get("best", {}), **near["after"]}
        facts |= {"best": best, "trained_on": record_logs(data, made, [start])}
        return made.add(finished=True, epochs=start.info.get("epochs"), seconds=near["seconds"], **facts)


def check_attachable(model: str, where: str) -> None:
    """Refuse a ranker that takes no neighbours.

    Args:
        where: what is of this ranker, in messages.

    Raises:
        PalateError: with the rankers that do.
    """
    if not issubclass(RANKERS[model], SequentialRanker):
        raise PalateError(
            f"{where} is a {model}: neighbours are a part of rankers that compare vectors",
            f"Attach them to a run of {rankers_that(lambda one: issubclass(one, SequentialRanker))}; `palate blend` "
            "adds other rankers' scores.",
        )
