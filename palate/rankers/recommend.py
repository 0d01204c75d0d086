"""Recommendations from a run, in the ids of the outside world: the Python calls behind ``palate recommend``."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import torch

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.dropped import dropped_of
from palate.data.item_filter import filter_items
from palate.data.sequences import Sequences
from palate.data.spelling import did_you_mean
from palate.data.timed_history import check_times
from palate.engines.base import Advance, Engine, Task, Work
from palate.engines.local import LOCAL
from palate.errors import PalateError, suggest
from palate.names import free_name
from palate.progress import counter
from palate.rankers.registry import RANKERS, load_recommender
from palate.rankers.sharded_top_k import sharded_top_k
from palate.rankers.tables import table_writer
from palate.recommender import FEW_HISTORIES, HISTORIES_IN_BLOCKS, Recommender, Shard
from palate.runs.run import Run
from palate.topk import checked_k

_COLUMNS = ("user", "history", "rank", "item", "title", "score")
# Scores of one batch, in numbers: bounds the memory of scoring every user (256 MiB of float32).
_BATCH_SCORES = 2**26


class Recommendations:
    """A run, loaded: histories of item ids in, ranked item ids out. Needs no dataset.

    Attributes:
        unknown: ids of ``allow`` and ``deny`` that the run does not know.

    Args:
        run: a finished run or its folder.
        only: conditions on the catalogue, such as ``colour=red,blue`` or ``price<20``
            (:mod:`palate.data.conditions`); an item must meet all of them.
        without: conditions of which an item must meet none.
        allow: ids of the items that may be recommended; None: all.
        deny: ids of items that may not.
        fields: columns of the catalogue to add to the answers.
        exclude_seen: leave out the items of the history.
        recommender: answers instead of the run's own model, for items numbered like the run's (a cascade, say).
        shard: load the vectors of this part of the items only, and recommend these.
    """

    def __init__(
        self,
        run: Run | Path | str,
        *,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        fields: Sequence[str] = (),
        exclude_seen: bool = True,
        device: str = "cpu",
        recommender: Recommender | None = None,
        shard: Shard | None = None,
    ) -> None:
        self.run = Run.opened(run)
        self.catalogue = self.run.catalogue
        chosen = filter_items(self.catalogue, only=only, without=without, allow=allow, deny=deny)
        self.allowed, self.unknown = chosen.mask, chosen.unknown
        self.fields = _field_names(self.catalogue, fields)
        self.exclude_seen = exclude_seen
        kind = RANKERS[self.run.info["model"]]
        if recommender is None and not kind.whole_catalogue:
            raise PalateError(
                f"{self.run.folder} ({self.run.info['model']}) cannot afford the whole catalogue",
                "Give --retriever RUN0: a fast run, trained on the same data, that proposes what this one re-ranks.",
            )
        self.recommender = recommender or load_recommender(self.run, device=device, shard=shard)
        if self.recommender.num_items != len(self.catalogue):
            raise PalateError(
                f"{self.run.folder}: the model scores {self.recommender.num_items} items, its catalogue has"
                f" {len(self.catalogue)}",
                "The run is damaged; train it again.",
            )
        self.recommender.allow_generation()
        self._mask = None if self.allowed is None else torch.from_numpy(self.allowed)

    def __call__(
        self, histories: Sequence[Sequence[str]], k: int = 10, times: Sequence[Sequence[int]] | None = None
    ) -> pl.DataFrame:
        """The best ``k`` items of each history (item ids, oldest first; it may be empty).

        Args:
            times: Unix milliseconds of the items of each history, for a model that reads them; it answers without.

        Returns:
            Columns ``history`` (row of ``histories``), ``rank`` (from 1), ``item``, ``title``, ``score`` and the
            chosen fields; fewer than ``k`` rows per history where fewer items are left.

        Raises:
            PalateError: an item that the run does not know, times that do not fit the items, or a ``k`` that is no
                whole number of at least 1.
        """
        rows = []
        for history in histories:
            if isinstance(history, str):
                raise PalateError(
                    f"a history is the text '{history}', and a list of item ids is needed", f"Write [['{history}']]."
                )
            known, unknown = self.known(history)
            if unknown:
                raise PalateError(f"the run knows no item '{unknown[0]}'", self.closest(unknown[0]))
            rows.append(known)
        found = Sequences.from_lists(rows)
        if times is not None:
            if len(times) != len(rows):
                raise PalateError(f"{len(rows)} histories and times of {len(times)}", "Give the times of each history.")
            for number, (row, when) in enumerate(zip(rows, times, strict=True)):
                check_times(f"history {number}", len(row), when)
            found = found.at(times)
        return self.of_indices(found, k)

    def of_indices(self, histories: Sequences, k: int) -> pl.DataFrame:
        """The same for histories of the run's item indices."""
        return self.frame(*self.best(histories, k))

    def best(self, histories: Sequences, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same as the run's item indices and their scores; see :meth:`Recommender.recommend`."""
        return self.recommender.recommend(histories, checked_k(k), self.exclude_seen, self._mask)

    def frame(self, items: torch.Tensor, scores: torch.Tensor) -> pl.DataFrame:
        """What :meth:`best` has found, in the ids of the outside world."""
        found = items.cpu().numpy().ravel()
        rows = np.maximum(found - 1, 0)  # padding is left out below
        frame = pl.DataFrame(
            {
                "history": np.repeat(np.arange(len(items), dtype=np.int64), items.shape[1]),
                "rank": np.tile(np.arange(1, items.shape[1] + 1, dtype=np.int32), len(items)),
                "item": self.catalogue.frame["item_id"].gather(rows),
                "title": self.catalogue.title_column.gather(rows),
                "score": scores.cpu().float().numpy().ravel(),
                **{name: self.catalogue.frame[field].gather(rows) for field, name in self.fields.items()},
            }
        )
        answer = frame.filter(pl.Series(found > 0))
        if not answer["score"].is_finite().all():
            raise PalateError(f"{self.run.folder}: its scores are NaN or infinite", "Train it again.")
        return answer

    def known(self, history: Sequence[str]) -> tuple[list[int], list[str]]:
        """Indices of the items that the run knows, and the ids of the others."""
        index = self.catalogue.index
        return [index[item] for item in history if item in index], [item for item in history if item not in index]

    def closest(self, item: str) -> str:
        """A sentence: what left the item out of the run's dataset, or the known item nearest in spelling or title."""
        ids = "Item ids are those of the catalogue: catalogue.parquet in a run, items.parquet in a bundle."
        made_of = self.run.info.get("dataset") or {}
        dropped = dropped_of(made_of.get("path"), made_of.get("fingerprint", ""))
        return did_you_mean(self.catalogue, item, ids, dropped)

    def histories_of(self, dataset: Dataset) -> tuple[Sequences, int]:
        """Every user's whole history in the run's item indices, and how many interactions had unknown items."""
        if dataset.folder is not None:
            self.recommender.set_data_folder(dataset.folder)
        items = dataset.catalogue.indices_in(self.catalogue)[dataset.items]
        known = items > 0
        times = dataset.timestamps if self.recommender.reads_times else None
        return Sequences(items, dataset.offsets, times).only(known), int((~known).sum())

    def for_everyone(
        self,
        dataset: Dataset,
        out: Path | str,
        k: int = 10,
        *,
        engine: Engine = LOCAL,
        load: Callable[..., Recommendations] | None = None,
        shards: int | None = None,
    ) -> int:
        """Write every user's recommendations: user, rank, item, score, title and the chosen fields.

        The users go through in batches, so that memory does not grow with them; the file appears whole or not at all.

        Returns:
            The number of rows.

        Args:
            out: the ending names the format: ``.parquet``, ``.csv``, ``.tsv``, ``.jsonl`` or ``.xlsx``. A URL is a
                folder of Parquet parts.
            engine: where the work is done; the file is the same.
            load: gives the like of this object to workers in other processes, so it holds paths and options.
            shards: divide the items among this many workers, which find the best of their own; ``load`` then takes the
                :class:`Shard` by the name ``shard``.

        Raises:
            PalateError: another ending, or more rows than the format holds.
        """
        k = checked_k(k)
        if load is None and not engine.in_process:
            raise PalateError("a model in memory cannot be sent to workers", "Give load: what opens it by its folder.")
        if load is None and shards is not None:
            raise PalateError("a model in memory has all items", "Give load, which opens a part; or leave shards out.")
        histories, _ = self.histories_of(dataset)
        most = self.recommender.batch_size or 1024
        batch = max(1, min(most, _BATCH_SCORES // (self.recommender.num_items + 1)))
        if batch < FEW_HISTORIES and self.recommender.scores_in_blocks:
            batch = HISTORIES_IN_BLOCKS
        if shards is not None:  # items are scored in blocks
            batch = max(batch, HISTORIES_IN_BLOCKS)
        schema = pl.Schema(
            {"user": pl.String, "rank": pl.Int32, "item": pl.String, "score": pl.Float32, "title": pl.String}
        )
        schema.update({name: self.catalogue.frame.schema[field] for field, name in self.fields.items()})
        left = self.recommender.num_items if self.allowed is None else int(self.allowed.sum())
        starts = range(0, dataset.num_users, batch)
        written = 0
        pieces = (histories[start : start + batch] for start in starts)
        task = RecommendTask(load or (lambda: self), k, dataset.folder, self.run.folder)
        with (
            table_writer(out, schema, rows=dataset.num_users * min(k, left)) as write,
            counter("Recommending", dataset.num_users) as advance,
            closing(self._answers(engine, task, pieces, advance, shards)) as answers,
        ):
            for start, best in zip(starts, answers, strict=True):
                users = dataset.user_ids[start : start + batch].gather(best["history"])
                rows = best.with_columns(pl.lit(users.cast(pl.String)).alias("user")).select(list(schema))
                write(rows)
                written += len(rows)
        return written

    def _answers(
        self, engine: Engine, task: RecommendTask, pieces: Iterator[Sequences], advance: Advance, shards: int | None
    ) -> Generator[pl.DataFrame, None, None]:
        """The answers for every batch of histories, in their order."""
        if shards is None:
            with engine.workers(task) as workers:
                for _, frame in workers.map(pieces, advance, ordered=True):
                    yield frame
            return
        for best in sharded_top_k(engine, task.load, shards, pieces, task.k, task.folders, advance):
            yield self.frame(*best)


class RecommendTask(Task[Sequences, pl.DataFrame]):
    """:meth:`Recommendations.of_indices` for many histories.

    Args:
        load: gives the recommendations.
        data: folder of the dataset of the histories, if it has one.
        run: folder of the run.
    """

    def __init__(self, load: Callable[..., Recommendations], k: int, data: Path | None, run: Path) -> None:
        self.load, self.k, self._data = load, k, data
        self.folders = (run,) if data is None else (run, data)

    def open(self) -> Work[Sequences, pl.DataFrame]:
        """Load the run."""
        ready = self.load()
        if self._data is not None:
            ready.recommender.set_data_folder(self._data)
        return _Recommending(ready, self.k)


class _Recommending(Work[Sequences, pl.DataFrame]):
    def __init__(self, ready: Recommendations, k: int) -> None:
        self._ready, self._k = ready, k
        self.facts = ready.recommender.num_items

    def __call__(self, pieces: Iterator[Sequences], advance: Advance) -> Iterator[pl.DataFrame]:
        for histories in pieces:
            yield self._ready.of_indices(histories, self._k)
            advance(len(histories))


def _field_names(catalogue: Catalogue, fields: Sequence[str]) -> dict[str, str]:
    """How each chosen field is called in a table, where ``rank``, say, is taken."""
    names: dict[str, str] = {}
    for field in dict.fromkeys(fields):
        if field not in catalogue.frame.columns:
            raise PalateError(f"the catalogue has no field '{field}'", suggest(field, catalogue.fields))
        if field not in ("item_id", "title"):  # these are columns anyway
            names[field] = free_name(field, [*_COLUMNS, *names.values()])
    return names
