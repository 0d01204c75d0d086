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
from palate.mllm.finetune.examples import PromptCases
from palate.mllm.finetune.sft import check_longest
from palate.mllm.recommender import MLLMRecommender
from palate.mllm.scoring.scorer import Scorer

if TYPE_CHECKING:
    from palate.mllm.alignment.plan import AlignmentSetup

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

    def __init__(self, asked: AlignmentSetup, reference: Reference, *, main: bool, wait: Callable[[], None]) -> None:
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
            check_longest(self.asked.recommender.model, examples)
            later = torch.from_numpy(taken_later(self.asked.dataset, questions))
            self._round, self._number = Round(examples, self.reference.logits(examples), later), number
        return self._round

    def _questions(self, number: int) -> PromptCases:
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
        # All read what one has written: scores that differ in their last bits may order a pool differently elsewhere.
        return load_questions(path, self.asked.drawer, number)

    def check(self) -> None:
        """Make the pools, and refuse those that are too small for somebody, before a run is made.

        Raises:
            PalateError: naming the user.
        """
        self.asked.drawer.check(self._proposed() if self.asked.pairs.pooled else None)

    def _proposed(self) -> npt.NDArray[np.int32]:
        """What the retriever proposes, int32 ``[cases, depth]``: the first worker's, for all."""
        if self._retrieved is None:
            config, asked = self.asked.pairs, self.asked
            assert asked.retriever is not None
            depth = config.depth or config.pool_k
            found = retrieved(asked.retriever, asked.dataset, asked.drawer.cases, depth, config.mask_future)
            gather, workers = self.reference.gather, self.reference.workers
            if gather is not None:
                flat = gather(torch.from_numpy(found).flatten().to(self.reference.model.device)).cpu()
                found = flat.view(workers, *found.shape)[0].numpy()
            self._retrieved = found
        return self._retrieved

    def _pools(self) -> npt.NDArray[np.int32] | None:
        """int32 ``[cases, pool_k]``, best first."""
        config, asked = self.asked.pairs, self.asked
        if not config.pooled:
            return None
        if config.depth is None:
            return self._proposed()
        return self._ranked(asked.recommender, self._proposed())[:, : config.pool_k]

    def _ranked(self, policy: MLLMRecommender, pools: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The pools in the policy's order: each worker asks about its share."""
        reference, cases = self.reference, self.asked.drawer.cases
        if self.asked.lora.projector:  # what it remembers of pictures was an earlier projector's
            policy.scorer = Scorer(policy.model, rows=policy.config.rows)
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


def taken_later(dataset: Dataset, questions: PromptCases) -> npt.NDArray[np.bool_]:
    """bool, the shape of ``questions.candidates``: what the user takes after the target, in training."""
    train = dataset.train_sequences()
    later = np.zeros(questions.candidates.shape, bool)
    cases = questions.cases
    for row, (user, history) in enumerate(zip(cases.users, cases.histories, strict=True)):
        later[row] = np.isin(questions.candidates[row], train[int(user)][len(history) + 1 :])
    return later
