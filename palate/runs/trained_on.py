"""What a run has learnt from: recorded when it is finished, and looked up before it is measured.

Nothing may be measured on interactions that were trained on. A run knows its own log and those of the runs whose
weights it started from, for what these have learnt is still in its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.dataset import Dataset, Part
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.remote import find

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TrainedLog:
    """A dataset that a run, or one that it started from, was trained on.

    Attributes:
        path: its folder, or None.
        whole: True: all interactions were trained on (a refit). False: those of the training split; those of the
            validation split chose the epoch.
        until: Unix milliseconds of the last interaction that was used; None where there are no times.
    """

    name: str
    path: str | None
    fingerprint: str
    whole: bool
    until: int | None = None

    @classmethod
    def read(cls, facts: dict[str, Any]) -> Self:
        """What :func:`record_logs` recorded."""
        known: dict[str, Any] = {name: facts.get(name) for name in cls.__dataclass_fields__}
        return cls(**known)

    def open(self) -> Dataset | None:
        """Its dataset, or None where it is gone or another one has taken its place."""
        found = find(self.path)
        if found is None or not (found / "manifest.json").is_file():
            return None
        dataset = Dataset.load(found)
        return dataset if dataset.fingerprint == self.fingerprint else None

    def of(self, dataset: Dataset) -> pl.DataFrame:
        """``user_id``, ``item_id`` and (where there are times) ``timestamp`` of the interactions that were used."""
        return interactions(dataset, used_rows(dataset, self.whole))


def used_rows(dataset: Dataset, whole: bool) -> Mask:
    """bool ``[interactions]``: what a run uses of the dataset that it is trained on."""
    return np.ones(len(dataset), np.bool_) if whole else dataset.parts != Part.TEST


def interactions(dataset: Dataset, rows: Any) -> pl.DataFrame:
    """Some interactions of a dataset, by ids from outside."""
    ids = pl.Series("item_id", dataset.catalogue.ids, dtype=pl.String)
    columns = {
        "user_id": dataset.user_ids.cast(pl.String).gather(dataset.rows_user[rows]),
        "item_id": ids.gather(dataset.items[rows]),
    }
    if dataset.timestamps is not None:
        columns["timestamp"] = pl.Series(dataset.timestamps[rows])
    return pl.DataFrame(columns)


def record_logs(
    dataset: Dataset, run: Run, earlier: Sequence[Run] = (), *, whole: bool = False
) -> list[dict[str, Any]]:
    """What ``run.json`` records under ``trained_on``: the run's own log first.

    A log whose interactions are all trained on again is left out, or a shop that starts from last night's weights would
    have one more every night. Where that cannot be known, because its dataset is gone, it stays.

    Args:
        earlier: the runs whose weights, or whose scores, are part of this one.
        whole: whether all interactions are trained on.
    """
    until = None
    if dataset.timestamps is not None and len(dataset):
        until = int(dataset.timestamps[used_rows(dataset, whole)].max(initial=0))
    facts = run.info["dataset"]
    logs = [TrainedLog(facts["name"], facts["path"], facts["fingerprint"], whole, until)]
    for log in dict.fromkeys(log for one in earlier for log in trained_logs(one)):
        if log not in logs and not _trained_again(log, dataset, facts["fingerprint"], whole):
            logs.append(log)
    return [asdict(log) for log in logs]


def _trained_again(log: TrainedLog, dataset: Dataset, fingerprint: str, whole: bool) -> bool:
    """Whether all that a log used is used again.

    A log that was trained on whole is kept unless this one is as well: its dataset has test targets that were learnt,
    and only a whole log says so.
    """
    if log.whole and not whole:
        return False
    parent = dataset.manifest.get("parent") or {}
    if log.fingerprint == fingerprint or (whole and log.fingerprint == parent.get("fingerprint")):
        return True
    other = None
    if not isinstance(dataset, StreamedDataset):
        with suppress(PalateError):  # a store that cannot be reached, say: no reason to lose what was just trained
            other = log.open()
    if other is None or (other.timestamps is None) != (dataset.timestamps is None):
        return False
    # By this dataset's indices: a join of numbers takes a fraction of the memory that one of ids takes.
    theirs = _indexed(other, used_rows(other, log.whole), dataset)
    ours = _indexed(dataset, used_rows(dataset, whole), dataset)
    return theirs.join(ours, on=theirs.columns, how="anti").is_empty()


def _indexed(dataset: Dataset, rows: Mask, by: Dataset) -> pl.DataFrame:
    """Some interactions of a dataset by the indices that users and items have in another one; -1 is unknown there."""
    users = _places(dataset.user_ids, by.user_ids)
    items = _places(pl.Series(dataset.catalogue.ids), pl.Series(by.catalogue.ids))
    columns = {"user": users[dataset.rows_user[rows]], "item": items[dataset.items[rows]]}
    if dataset.timestamps is not None:
        columns["timestamp"] = dataset.timestamps[rows]
    return pl.DataFrame(columns)


def _places(ids: pl.Series, among: pl.Series) -> npt.NDArray[np.int64]:
    """Where each id stands among others, or -1."""
    known = pl.DataFrame({"id": among.cast(pl.String)}).with_row_index("place")
    found = pl.DataFrame({"id": ids.cast(pl.String)}).join(known, on="id", how="left", maintain_order="left")
    return found["place"].cast(pl.Int64).fill_null(-1).to_numpy()


def trained_logs(run: Run) -> list[TrainedLog]:
    """The logs that a run has learnt from, its own first."""
    recorded = run.info.get("trained_on")
    if recorded:
        return [TrainedLog.read(facts) for facts in recorded]
    facts = run.info["dataset"]  # a run from before this was recorded
    logs = [TrainedLog(facts["name"], facts["path"], facts["fingerprint"], "refit" in run.info)]
    start = run.info.get("warm_start")
    found = find(start)
    if found is not None and (found / "run.json").is_file():
        logs += [log for log in trained_logs(Run.open(found)) if log not in logs]
    return logs


def check_unseen(run: Run, dataset: Dataset, split: str) -> None:
    """Refuse to measure a run on a split whose interactions it was trained on.

    Raises:
        PalateError: it was, as a refit or by the run that it started from.
    """
    for log in trained_logs(run):
        if log.whole and log.fingerprint == dataset.fingerprint:
            how = "it was trained on all interactions" if "refit" in run.info else "it started from weights that were"
            raise PalateError(
                f"{run.folder} has seen the {split} targets of {dataset.name}: {how} (palate train --refit)",
                "Evaluate the run that chose its settings; compare two nights by a later day's interactions: "
                "palate gate OLD NEW --dataset LATER.",
            )
