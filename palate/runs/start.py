"""Starting a run, or taking one up again that was started with the same options on the same data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.runs.run import Run
from palate.runs.workers import Workers
from palate.storage.lock import one_writer

# What differs; "other options" where it is none of these.
_OTHER = {
    "model": "another model",
    "seed": "another seed",
    "warm_start": "another warm start",
    "features": "other features",
    "parts": "other parts",
    "aligned_from": "another run",
    "attached_to": "another run",
}


@contextmanager
def run_to_train(
    out: Path | str,
    identity: dict[str, Any],
    dataset: Dataset,
    *,
    dataset_path: Path | str | None = None,
    resume: bool,
    facts: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
) -> Iterator[Run]:
    """The folder of a run, held for as long as it is trained; several workers call it together.

    The main worker makes it, or opens it again to resume: then the run may be finished.

    Args:
        identity: model, seed, options and features: what a resumed run must have been started with.
        dataset_path: recorded in the run; by default the folder that the dataset was read from.
        facts: what else ``run.json`` says, and a resumed run must have been started with.

    Raises:
        PalateError: the folder holds a run that is not to be resumed, one that was started otherwise, or another
            process is at work in it.
    """
    workers = workers or Workers()
    with one_writer(out, workers.main):
        if workers.main:
            _open_run(out, identity, dataset, dataset_path, resume, facts or {})
        workers.wait()
        yield Run.open(out)


def _open_run(
    out: Path | str,
    identity: dict[str, Any],
    dataset: Dataset,
    dataset_path: Path | str | None,
    resume: bool,
    facts: Mapping[str, Any],
) -> None:
    """Make the run's folder, or check that the one to resume was started with the same identity, facts and data."""
    if not (resume and (Path(out) / "run.json").exists()):
        Run.start(out, dataset=dataset, dataset_path=dataset_path, facts=dict(facts), **identity)
        return
    run = Run.open(out)
    for key, value in {**identity, **facts}.items():
        where = "" if key in ("options", "model", "seed") else key
        change = difference(run.info.get(key), json.loads(json.dumps(value)), where)
        if change is not None:
            other = _OTHER.get(key, "other options")
            raise PalateError(
                f"{out} was started with {other} ({change})", "Resume with the same options, or change --out."
            )
    if run.info["dataset"]["fingerprint"] != dataset.fingerprint:
        raise PalateError(f"{out} was started on other data", "Resume with the same dataset, or change --out.")


def difference(before: Any, now: Any, where: str = "") -> str | None:
    """The first difference of two JSON values in words, or None.

    An option that there was not yet when a run was started is no difference while it is off (None or False).

    >>> difference({"trainer": {"epochs": 3}}, {"trainer": {"epochs": 5}})
    'trainer.epochs: 3, now 5'
    >>> difference({"trainer": {}}, {"trainer": {"keep": "best"}})
    "trainer.keep: not there, now 'best'"
    >>> difference({"trainer": {}}, {"trainer": {"stream": False}}) is None
    True
    """
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            at = f"{where}.{key}" if where else str(key)
            if key not in before:
                if now[key] is None or now[key] is False:
                    continue
                return f"{at}: not there, now {now[key]!r}"
            if key not in now:
                return f"{at}: {before[key]!r}, now not there"
            found = difference(before[key], now[key], at)
            if found is not None:
                return found
        return None
    return None if before == now else f"{where + ': ' if where else ''}{before!r}, now {now!r}"
