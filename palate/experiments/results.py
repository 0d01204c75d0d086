"""Slow models are measured by one process per run, and the results kept: a comparison that was killed goes on.

::

    OUT/measured/SPLIT/runs/ARM-SEED/      as `palate evaluate` writes it
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import palate
from palate.evaluation.evaluate import Split
from palate.evaluation.groups import RunGroup
from palate.evaluation.outputs import load_result
from palate.evaluation.result import Result
from palate.experiments.jobs import Job, JobRunner, together
from palate.experiments.marks import clear_other, write_mark
from palate.experiments.plan import CheckedOptions
from palate.experiments.search import key_of
from palate.rankers.registry import RANKERS
from palate.runs.run import Run
from palate.storage.files import file_digest


async def measured(runner: JobRunner, groups: Sequence[RunGroup], split: Split) -> dict[Path, Result]:
    """Results of those runs that cannot rank the whole catalogue, by their folders; the fast ones are not worth it.

    Raises:
        RunFailed: an evaluation failed; the others are kept.
    """
    recipe = runner.recipe
    options = runner.plan.read("evaluate", recipe.evaluate, f"{recipe.path} [evaluate]")
    runs = {run.folder: run for group in groups for run in group.runs if is_slow(run)}
    results = await together(_one(runner, run, split, options) for run in runs.values())
    return dict(zip(runs, results, strict=True))


def is_slow(run: Run) -> bool:
    """Whether a run's model reads one prompt per item."""
    return not RANKERS[run.info["model"]].whole_catalogue


async def _one(runner: JobRunner, run: Run, split: Split, options: CheckedOptions) -> Result:
    within, dataset = run.folder.relative_to(runner.out), runner.plan.dataset
    folder = runner.out / "measured" / split / within
    name = "-".join(["measure", split, *within.parts[1:]])
    words = ["evaluate", str(run.folder), *options.words, "--split", split, "--dataset", dataset, "--out", str(folder)]
    key = key_of(file_digest(run.folder / "run.json"), runner.fingerprint, split, options.decides, palate.__version__)
    job = Job(name, folder, runner.out / "logs" / f"{name}.log", words, key)
    clear_other(folder, key)
    if not folder.exists():
        await runner.carry_out(job)
        write_mark(folder, key, parent=None, command=["palate", *words])
        runner.log(f"{name}: finished")
    return load_result(folder)
