"""Which pairs a step learns from: drawn at the start, and anew every so many steps, alike on every worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from palate.data.dataset import Dataset
from palate.mllm.alignment.draw import load_questions, retrieved, save_questions
from palate.mllm.alignment.reference import Reference
from palate.mllm.alignment.trainer import Round
from palate.mllm.examples import Questions
from palate.recommender import Recommender

if TYPE_CHECKING:
    from palate.mllm.alignment.plan import Asked

FOLDER = "pairs"


class Rounds:
    """Makes the round of a step, and remembers the current one.

    Every worker draws with the same seeds from the same pools. A pool that the policy ranks is ranked by all workers
    together and then the same for all. What was drawn is written to ``pairs/round-N.parquet`` before it is learnt from,
    and read from there when a run resumes: the policy that ranked the pool may have moved on.

    Args:
        main: this worker writes.
        wait: until all workers are here.
    """

    def __init__(self, asked: Asked, reference: Reference, *, main: bool, wait: Callable[[], None]) -> None:
        self.asked, self.reference, self.main, self.wait = asked, reference, main, wait
        self._folder: Path | None = None
        self._number = -1
        self._round: Round | None = None
        self._retrieved: npt.NDArray[np.int32] | None = None

    def begin(self, run: Path, resume: bool) -> None:
        """Where rounds are written; those of an earlier life are kept if the run resumes."""
        self._folder = run / FOLDER
        if self.main:
            self._folder.mkdir(exist_ok=True)
            for path in () if resume else self._folder.glob("round-*.parquet"):
                path.unlink()
        self.wait()

    def __call__(self, step: int) -> Round:
        every = self.asked.pairs.refresh_steps
        return self.at(step // every if every else 0)

    def at(self, number: int) -> Round:
        """The round of a number."""
        if self._round is None or number != self._number:
            questions = self._questions(number)
            examples = self.asked.examples(questions)
            later = torch.from_numpy(taken_later(self.asked.dataset, questions))
            self._round, self._number = Round(examples, self.reference.logits(examples), later), number
        return self._round

    def _questions(self, number: int) -> Questions:
        assert self._folder is not None
        path = self._folder / f"round-{number}.parquet"
        there = path.is_file()
        self.wait()  # nobody writes while others look
        if there:
            return load_questions(path, self.asked.drawer, number)
        questions = self.asked.drawer.draw(number, self._pools())
        if self.main:
            save_questions(questions, self.asked.dataset, path)
        self.wait()
        return questions

    def _pools(self) -> npt.NDArray[np.int32] | None:
        """int32 ``[cases, pool_k]``, best first."""
        config, asked = self.asked.pairs, self.asked
        if not config.pooled:
            return None
        if self._retrieved is None:
            assert asked.retriever is not None
            depth = config.depth or config.pool_k
            cases = asked.drawer.cases
            self._retrieved = retrieved(asked.retriever, asked.dataset, cases, depth, config.mask_future)
        if config.depth is None:
            return self._retrieved
        return self._ranked(asked.recommender, self._retrieved)[:, : config.pool_k]

    def _ranked(self, policy: Recommender, pools: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The pools in the policy's order: each worker asks about its share."""
        reference, cases = self.reference, self.asked.drawer.cases
        mine = np.arange(reference.worker, len(pools), reference.workers)
        scores = torch.zeros(len(pools), pools.shape[1])
        scores[mine] = policy.score(cases.histories.take(mine), torch.from_numpy(pools[mine]).long()).nan_to_num(
            neginf=torch.finfo(torch.float32).min
        )
        if reference.gather is not None:
            flat = reference.gather(scores.flatten().to(reference.model.device)).cpu()
            scores = flat.view(reference.workers, *scores.shape).sum(0)
        order = scores.argsort(dim=1, descending=True, stable=True).numpy()
        return np.take_along_axis(pools, order, axis=1)


def taken_later(dataset: Dataset, questions: Questions) -> npt.NDArray[np.bool_]:
    """bool, the shape of ``questions.candidates``: what the user takes after the target, in training."""
    train = dataset.train_sequences()
    later = np.zeros(questions.candidates.shape, bool)
    cases = questions.cases
    for row, (user, history) in enumerate(zip(cases.users, cases.histories, strict=True)):
        later[row] = np.isin(questions.candidates[row], train[int(user)][len(history) + 1 :])
    return later
