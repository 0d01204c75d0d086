"""What slow models answer is measured by a process a run, and kept: a comparison that is killed does not ask again.

::

    OUT/measured/SPLIT/runs/ARM-SEED/      as `palate evaluate` writes it
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import palate
from palate.evaluation.evaluate import Split
from palate.evaluation.groups import RunGroup
from palate.evaluation.outputs import load_result
from palate.evaluation.result import Result
from palate.experiments.jobs import CheckedOptions, Job, JobRunner, together
from palate.experiments.sampler import key_of
from palate.rankers.registry import RANKERS
from palate.runs.run import Run
from palate.storage.files import file_digest


async def measured(arms: JobRunner, groups: Sequence[RunGroup], split: Split) -> dict[Path, Result]:
    """Results of those runs that cannot afford the whole catalogue, by their folders; the fast ones are not worth it.

    Raises:
        RunFailed: an evaluation failed; the others are kept.
    """
    given = arms.read("evaluate", arms.recipe.evaluate, f"{arms.recipe.path} [evaluate]")
    runs = {run.folder: run for group in groups for run in group.runs if is_slow(run)}
    results = await together(_one(arms, run, split, given) for run in runs.values())
    return dict(zip(runs, results, strict=True))


def is_slow(run: Run) -> bool:
    """Whether a run's model reads a prompt an item."""
    return not RANKERS[run.info["model"]].whole_catalogue


async def _one(arms: JobRunner, run: Run, split: Split, given: CheckedOptions) -> Result:
    within = run.folder.relative_to(arms.out)
    folder = arms.out / "measured" / split / within
    name = "-".join(["measure", split, *within.parts[1:]])
    dataset, fingerprint = arms.dataset
    words = ["evaluate", str(run.folder), *given.words, "--split", split, "--dataset", dataset, "--out", str(folder)]
    key = key_of(file_digest(run.folder / "run.json"), fingerprint, split, given.decides, palate.__version__)
    job = Job(name, folder, arms.out / "logs" / f"{name}.log", words, key, None)
    if folder.exists() and arms.mark_of(folder).get("key") != key:
        shutil.rmtree(folder)
    if not folder.exists():
        await arms.carry_out(job)
        arms.write_mark(job)
        arms.say(f"{name}: finished")
    return load_result(folder)
