"""Training sequences and validation cases of a dataset as Parquet shards, for logs that memory does not hold.

::

    DATASET/shards/
      shards.json          the dataset's fingerprint, and what each shard holds; written last
      00000.parquet ...    one row per user, in the dataset's order: `length` (int32), `items` (list of int32, oldest
                           first), `trained` (whether they are trained on, or only history), `targets` (list of int32)
      train_counts.npy     int64 [num_items + 1]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from palate.data.dataset import Part
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError, one_line
from palate.storage.files import atomic_folder, read_json, write_json
from palate.storage.tensors import load_array

FOLDER, FORMAT = "shards", 1
# Interactions of a shard: 8 MB of items.
SHARD_SIZE = 2_000_000
# Rows of interactions.parquet that are held at a time.
_READ_ROWS = 500_000


class Rows(NamedTuple):
    """Users of the log, in its order.

    Attributes:
        items: what each took and may be known of before validation.
        trained: bool ``[users]``: False where that is history only.
        targets: of validation; empty for most.
    """

    items: Sequences
    trained: npt.NDArray[np.bool_]
    targets: Sequences


@dataclass(frozen=True)
class Shards:
    """The shards of a dataset.

    Attributes:
        folder: where they are.
        info: the content of ``shards.json``.
    """

    folder: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, dataset: Path | str) -> Shards | None:
        """The shards of a dataset's folder; None where there are none, or those of an earlier dataset."""
        folder = Path(dataset) / FOLDER
        if not (folder / "shards.json").is_file():
            return None
        info = read_json(folder / "shards.json")
        expected = {"format": FORMAT, "fingerprint": _fingerprint(Path(dataset))}
        fits = isinstance(info, dict) and all(info.get(key) == value for key, value in expected.items())
        return cls(folder, info) if fits else None

    def __len__(self) -> int:
        return len(self.info["shards"])

    def sizes(self, what: str) -> npt.NDArray[np.int64]:
        """int64 ``[shards]``: ``users``, ``interactions``, ``training`` (interactions), ``targets`` (of training) or
        ``cases`` of each."""
        return np.array([shard[what] for shard in self.info["shards"]], np.int64)

    @property
    def train_counts(self) -> npt.NDArray[np.int64]:
        """int64 ``[num_items + 1]``, training interactions of each item."""
        counts: npt.NDArray[np.int64] = load_array(self.folder / "train_counts.npy")
        return counts

    def lengths(self, number: int) -> npt.NDArray[np.int64]:
        """int64 ``[users]``: training interactions of each user of a shard that has some."""
        table = self._read(number, ["length", "trained"])
        lengths: npt.NDArray[np.int64] = table["length"].to_numpy()[_flags(table)].astype(np.int64)
        return lengths

    def training(self, number: int) -> Sequences:
        """The training sequences of a shard, of the same users."""
        table = self._read(number, ["items", "trained"])
        rows, trained = _lists(table, "items"), _flags(table)
        return rows if trained.all() else rows.take(np.flatnonzero(trained))

    def cases(self, number: int) -> Rows:
        """The users of a shard that have a validation target."""
        table = self._read(number, ["items", "trained", "targets"])
        targets = _lists(table, "targets")
        some = np.flatnonzero(targets.lengths)
        return Rows(_lists(table, "items").take(some), _flags(table)[some], targets.take(some))

    def _read(self, number: int, columns: list[str]) -> pa.Table:
        path = self.folder / f"{number:05}.parquet"
        try:
            return pq.ParquetFile(path).read(columns)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise PalateError(
                f"{path} is damaged ({one_line(error)})", f"Remove {self.folder}: it is made again."
            ) from None


def make_shards(dataset: Path | str, num_items: int, size: int = SHARD_SIZE) -> Shards:
    """The shards of a dataset, made where they are not there yet. A part of the log is in memory at a time.

    Args:
        size: interactions of a shard; a user is never divided.

    Raises:
        PalateError: users whose interactions are partly trained on and partly history only.
    """
    found = Shards.open(dataset)
    if found is not None:
        return found
    path = Path(dataset)
    counts = np.zeros(num_items + 1, np.int64)
    facts: list[dict[str, int]] = []
    with atomic_folder(path / FOLDER, replace=True) as part:
        for rows in _shards_of(path / "interactions.parquet", size):
            trained = np.repeat(rows.trained, rows.items.lengths)
            counts += np.bincount(rows.items.values[trained], minlength=num_items + 1)
            _write(part / f"{len(facts):05}.parquet", rows)
            lengths = rows.items.lengths[rows.trained]
            facts.append(
                {
                    "users": len(rows.items),
                    "interactions": len(rows.items.values),
                    "training": int(lengths.sum()),
                    "targets": int(np.maximum(lengths - 1, 0).sum()),
                    "cases": int(np.count_nonzero(rows.targets.lengths)),
                }
            )
        np.save(part / "train_counts.npy", counts, allow_pickle=False)
        write_json(part / "shards.json", {"format": FORMAT, "fingerprint": _fingerprint(path), "shards": facts})
    return Shards(path / FOLDER, read_json(path / FOLDER / "shards.json"))


def _shards_of(path: Path, size: int) -> Iterator[Rows]:
    """Whole users, about ``size`` interactions at a time."""
    pending: list[_Log] = []
    held = 0
    for rows in _batches(path, min(size, _READ_ROWS)):
        pending.append(rows)
        held += len(rows.user)
        if held < size:
            continue
        log = _Log.join(pending)
        last = int(np.searchsorted(log.user, log.user[-1]))  # the last user may go on in the next rows
        if last:
            yield _rows(log.part(slice(0, last)))
        pending, held = [log.part(slice(last, None))], held - last
    if held:
        yield _rows(_Log.join(pending))


class _Log(NamedTuple):
    """Rows of ``interactions.parquet``, by column."""

    user: npt.NDArray[np.uint32]
    item: npt.NDArray[np.int32]
    use: npt.NDArray[np.uint8]

    @classmethod
    def join(cls, parts: list[_Log]) -> _Log:
        user, item, use = (tuple(part[column] for part in parts) for column in range(3))
        return cls(np.concatenate(user), np.concatenate(item), np.concatenate(use))

    def part(self, rows: slice) -> _Log:
        return _Log(self.user[rows].copy(), self.item[rows].copy(), self.use[rows].copy())


def _batches(path: Path, rows: int) -> Iterator[_Log]:
    """The log, at most ``rows`` rows at a time."""
    last = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(rows, columns=["user", "item", "part"]):
            user, item, use = (batch.column(n).to_numpy(zero_copy_only=False) for n in ("user", "item", "part"))
            if not len(user):
                continue
            if user[0] < last or (user[1:] < user[:-1]).any():
                raise PalateError(f"{path} is damaged (users are out of order)", "Run `palate prepare` again.")
            last = int(user[-1])
            yield _Log(user.astype(np.uint32), item.astype(np.int32), use.astype(np.uint8))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise PalateError(f"{path} is damaged ({one_line(error)})", "Run `palate prepare` again.") from None


def _rows(log: _Log) -> Rows:
    """The users of a log."""
    user = np.cumsum(np.diff(log.user, prepend=log.user[:1]) != 0)
    count = int(user[-1]) + 1

    def sequences(mask: npt.NDArray[np.bool_]) -> Sequences:
        return Sequences(log.item[mask], offsets_of(np.bincount(user[mask], minlength=count).astype(np.int64)))

    trained, context = (sequences(log.use == part) for part in (Part.TRAIN, Part.CONTEXT))
    if ((trained.lengths > 0) & (context.lengths > 0)).any():
        raise PalateError(
            "the split trains on a part of some user's history only, which shards cannot hold",
            "Train without trainer.stream.",
        )
    before = sequences((log.use == Part.TRAIN) | (log.use == Part.CONTEXT)) if len(context.values) else trained
    return Rows(before, trained.lengths > 0, sequences(log.use == Part.VALID))


def _write(path: Path, rows: Rows) -> None:
    columns = {
        "length": pa.array(rows.items.lengths.astype(np.int32)),
        "items": _array(rows.items),
        "trained": pa.array(rows.trained),
        "targets": _array(rows.targets),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=len(rows.items))


def _array(rows: Sequences) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(rows.offsets.astype(np.int32)), pa.array(rows.values))


def _lists(table: pa.Table, name: str) -> Sequences:
    array = table[name].combine_chunks()
    offsets = array.offsets.to_numpy().astype(np.int64)
    return Sequences(array.values.to_numpy()[offsets[0] : offsets[-1]], offsets - offsets[0])


def _flags(table: pa.Table) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = table["trained"].to_numpy()
    return flags


def _fingerprint(dataset: Path) -> str:
    return str(read_json(dataset / "manifest.json")["fingerprint"])
