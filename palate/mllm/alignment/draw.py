"""Drawing the rejected items of an alignment: seeded, the same on every worker, written to a file once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.mllm.alignment.config import PairsConfig
from palate.mllm.finetune.examples import PromptCases
from palate.negatives.base import Source, WeightedStrategy
from palate.rankers.registry import load_recommender
from palate.recommender import Recommender, mask_items
from palate.runs.run import Run
from palate.storage.files import atomic_file
from palate.storage.tables import read_parquet
from palate.topk import best_items

Ints = npt.NDArray[np.int64]
_STREAMS: dict[Source, int] = {"scores": 0x706F6F6C, "dislikes": 0x6469736C}  # of the seed
_ROUND = 0x726F756E
_ROWS = 256  # histories that a retriever ranks the catalogue for at a time


@dataclass(frozen=True)
class NegativeSampler:
    """Draws the rejected items of every position.

    Attributes:
        dataset: whose training split is learnt from.
        cases: positions, each with its target.
        config: which items are rejected.
        count: how many per position.
        seed: of everything.
    """

    dataset: Dataset
    cases: Cases
    config: PairsConfig
    count: int
    seed: int

    def draw(self, number: int, pools: npt.NDArray[np.int32] | None) -> PromptCases:
        """The rejected items of the round ``number``.

        Args:
            pools: int32 ``[cases, K]``, best first, 0 where a case has fewer; for strategies that have one.

        Raises:
            PalateError: a pool or a catalogue with too few items for some user.
        """
        seed, strategy = self.seed_of(number), self.config.strategy
        if isinstance(strategy, WeightedStrategy):
            source = self.config.negatives
            return PromptCases.draw(self.dataset, self.cases, source=source, negatives=self.count, seed=seed)
        rows = np.zeros((len(self.cases), self.count), np.int32)
        for row, (user, history) in enumerate(zip(self.cases.users, self.cases.histories, strict=True)):
            if strategy.source == "dislikes":
                candidates = disliked(self.dataset, self.cases, row)
            else:
                assert pools is not None
                candidates = pools[row][pools[row] > 0]
            self._enough(row, candidates)
            rng = np.random.default_rng([seed, _STREAMS[strategy.source], int(user), len(history)])
            rows[row] = strategy.pick(candidates, self.count, rng)
        return PromptCases.of(self.cases, rows, seed)

    def seed_of(self, number: int) -> int:
        """The seed of a round; the first one's is the alignment's own."""
        return self.seed if not number else int(np.random.default_rng([self.seed, _ROUND, number]).integers(2**31))

    def check(self, pools: npt.NDArray[np.int32] | None) -> None:
        """Refuse pools that are too small for some user.

        Raises:
            PalateError: naming the user.
        """
        for row, pool in enumerate(() if pools is None else pools):
            self._enough(row, pool[pool > 0])

    def _enough(self, row: int, pool: npt.NDArray[np.int32]) -> None:
        if len(pool) < self.count:
            user = self.dataset.user_ids[int(self.cases.users[row])]
            raise PalateError(
                f"user '{user}' has {len(pool)} items to reject, and {self.count} are needed",
                "Ask for fewer: --num-negatives, or with choose pairs.choices.",
            )


def disliked(dataset: Dataset, cases: Cases, row: int) -> npt.NDArray[np.int32]:
    """The items that the case's user rated low, without those of its training items, history and target."""
    assert dataset.dislikes is not None
    user = int(cases.users[row])
    had = np.concatenate([dataset.train_sequences()[user], cases.histories[row], cases.targets[row]])
    found = np.unique(dataset.dislikes[user])
    left: npt.NDArray[np.int32] = found[~np.isin(found, had)].astype(np.int32)
    return left


def with_dislikes(dataset: Dataset, cases: Cases, count: int) -> Cases:
    """The cases whose users dislike at least ``count`` items.

    Raises:
        PalateError: the dataset has no dislikes, or no user has enough of them.
    """
    if dataset.dislikes is None:
        raise PalateError(
            "the dataset keeps no dislikes", "Prepare it with --min-rating and --disliked-at-most, from rated data."
        )
    enough = [row for row in range(len(cases)) if len(disliked(dataset, cases, row)) >= count]
    if not enough:
        raise PalateError(f"no user of the sample dislikes {count} items or more", "Choose other --negatives.")
    return cases.take(np.array(enough))


def open_retriever(retriever: Run | Path | str, start: Run, device: str) -> Recommender:
    """The model that proposes rejected items; it ranks the whole catalogue of the data of ``start``."""
    run = Run.opened(retriever)
    if run.info["dataset"]["fingerprint"] != start.info["dataset"]["fingerprint"]:
        raise PalateError(
            f"the retriever {run.folder} was trained on other data than {start.folder}",
            "Train one on the same dataset.",
        )
    if not run.finished:
        raise PalateError(f"the retriever {run.folder} is not finished", "Finish it first.")
    found = load_recommender(run, device=device)
    if not found.whole_catalogue:
        raise PalateError(f"'{found.name}' cannot rank the whole catalogue", "Choose a fast retriever.")
    return found


@torch.no_grad()
def retrieved(
    retriever: Recommender, dataset: Dataset, cases: Cases, depth: int, mask_future: bool
) -> npt.NDArray[np.int32]:
    """The ``depth`` items that a retriever ranks best for each case: int32 ``[cases, depth]``, best first.

    History and target are left out, and with ``mask_future`` what the user takes later in training. Validation and test
    items are not: training may not know them. 0 where a case has fewer.
    """
    out = np.zeros((len(cases), depth), np.int32)
    train = dataset.train_sequences()
    for start in range(0, len(cases), _ROWS):
        some = cases.take(np.arange(start, min(start + _ROWS, len(cases))))
        scores = retriever.score(some.histories).detach().float().cpu()
        scores[:, 0] = -torch.inf
        left_out = [
            np.unique(np.concatenate([history, targets, *([train[int(user)]] if mask_future else [])]))
            for user, history, targets in zip(some.users, some.histories, some.targets, strict=True)
        ]
        mask_items(scores, Sequences(np.concatenate(left_out), offsets_of(np.array([len(row) for row in left_out]))))
        places, values = best_items(scores, depth)
        found = torch.where(values > -torch.inf, places, 0).numpy()
        out[start : start + len(found), : found.shape[1]] = found
    return out


def save_pairs(pairs: PromptCases, dataset: Dataset, path: Path) -> None:
    """Pairs by outside ids, to read and to resume from: one row per position."""
    items = dataset.catalogue.frame["item_id"]
    frame = pl.DataFrame(
        {
            "user_id": dataset.user_ids[pairs.cases.users.astype(np.int64)],
            "history_length": pairs.cases.histories.lengths,
            "chosen": items[pairs.candidates[:, 0].astype(np.int64) - 1],
            "rejected": [items[row.astype(np.int64) - 1].to_list() for row in pairs.candidates[:, 1:]],
        }
    )
    with atomic_file(path) as part:
        frame.write_parquet(part)


def load_pairs(path: Path, sampler: NegativeSampler, number: int) -> PromptCases:
    """What :func:`save_pairs` wrote, for the same cases.

    Raises:
        PalateError: the file holds other positions.
    """
    frame, cases = read_parquet(path), sampler.cases
    users = sampler.dataset.user_ids[cases.users.astype(np.int64)].to_list()
    if frame["user_id"].to_list() != users or frame["history_length"].to_list() != cases.histories.lengths.tolist():
        raise PalateError(f"{path} holds the pairs of other positions", "Start again in another --out.")
    index = sampler.dataset.catalogue.index
    rejected = np.array([[index[item] for item in row] for row in frame["rejected"].to_list()], np.int32)
    return PromptCases.of(cases, rejected, sampler.seed_of(number))
