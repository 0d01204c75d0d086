"""Which pairs a step learns from: drawn at the start, and again every few steps, alike on every worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from palate.data.dataset import Dataset
from palate.mllm.alignment.draw import NegativeSampler, load_pairs, retrieved, save_pairs
from palate.mllm.alignment.policy import Policy
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.recommender import Recommender
from palate.runs.workers import Workers

FOLDER = "pairs"


@dataclass(frozen=True)
class Round:
    """The pairs that some steps learn from.

    Attributes:
        examples: the prompts.
        reference: float32 ``[cases, prompts, answers]``, the reference's logits.
        later: bool ``[cases, 1 + others]``, the shape of ``examples.questions.candidates``: which of them the user
            takes later in training.
    """

    examples: Examples
    reference: Tensor
    later: Tensor

    def listed_items(self, cases: Tensor) -> Tensor:
        """int64 ``[B, 1 + others]``: candidates of cases in the order in which prompts show them."""
        questions = self.examples.questions
        if self.examples.prompter.options.task == "choose":
            return torch.tensor([list(questions.listed(int(case))[0]) for case in cases])
        return torch.from_numpy(questions.candidates[cases.numpy()].astype(np.int64))


class PairData:
    """Positions with their chosen and rejected items, in rounds of steps.

    Every worker draws with the same seeds from the same pools. A pool that the policy ranks is ranked by all workers
    together and then the same for all. What was drawn is written to ``pairs/round-N.parquet`` before it is learnt from,
    and read from there when a run resumes: the policy that ranked the pool may have changed since.

    Args:
        policy: ranks pools, and makes prompts.
        sampler: draws rejected items for the positions.
        retriever: proposes pools; None where items come from elsewhere.
        projector: training changes the features of pictures.

    Attributes:
        typical: prompts about the targets and items drawn uniformly: about as long as those that are learnt from.
    """

    def __init__(
        self, policy: Policy, sampler: NegativeSampler, retriever: Recommender | None, *, projector: bool
    ) -> None:
        self.policy, self.sampler, self.retriever, self.projector = policy, sampler, retriever, projector
        self.workers = Workers()
        self._summaries = policy.recommender.written(sampler.cases.histories)
        self.typical = self._examples(
            PromptCases.draw(
                sampler.dataset, sampler.cases, source="uniform", negatives=sampler.count, seed=sampler.seed
            )
        )
        self._folder: Path | None = None
        self._number = -1
        self._round: Round | None = None
        self._proposed: npt.NDArray[np.int32] | None = None

    def _examples(self, cases: PromptCases) -> Examples:
        examples = Examples(cases, self.policy.recommender.prompter, self._summaries)
        examples.check_longest(self.policy.model)
        return examples

    def propose(self, workers: Workers) -> None:
        """Make the retriever's pools, int32 ``[cases, depth]``: the first worker's, for all.

        Raises:
            PalateError: a pool is too small for some user.
        """
        self.workers = workers
        if self.retriever is not None:
            config = self.sampler.config
            depth = config.depth or config.pool_k
            found = retrieved(self.retriever, self.sampler.dataset, self.sampler.cases, depth, config.mask_future)
            self._proposed = workers.first(torch.from_numpy(found)).numpy()
        self.sampler.check(self._proposed)

    def begin(self, run: Path, resume: bool) -> None:
        """Where rounds are written; those of a run that was interrupted stay if it resumes."""
        self._folder = run / FOLDER
        if self.workers.main:
            self._folder.mkdir(exist_ok=True)
            for path in () if resume else self._folder.glob("round-*.parquet"):
                path.unlink()
        self.workers.wait()

    def __call__(self, step: int) -> Round:
        """The pairs of a step of the optimiser."""
        every = self.sampler.config.refresh_steps
        return self.at(step // every if every else 0)

    def at(self, number: int) -> Round:
        """The round of a number."""
        if self._round is None or number != self._number:
            drawn = self._drawn(number)
            examples = self._examples(drawn)
            later = torch.from_numpy(taken_later(self.sampler.dataset, drawn))
            self._round, self._number = Round(examples, self.policy.reference.logits(examples), later), number
        return self._round

    def _drawn(self, number: int) -> PromptCases:
        assert self._folder is not None
        path = self._folder / f"round-{number}.parquet"
        there = path.is_file()
        self.workers.wait()  # no worker writes while others look
        if not there:
            drawn = self.sampler.draw(number, self._pools())
            if self.workers.main:
                save_pairs(drawn, self.sampler.dataset, path)
            self.workers.wait()
        # All read what one has written: scores that differ in their last bits may order a pool differently elsewhere.
        return load_pairs(path, self.sampler, number)

    def _pools(self) -> npt.NDArray[np.int32] | None:
        """int32 ``[cases, pool_k]``, best first; in the policy's own order if it ranks more than ``pool_k``."""
        pools, config = self._proposed, self.sampler.config
        if pools is None or config.depth is None:
            return pools
        workers = Workers() if self.policy.model.sharded else self.workers  # sharded: all workers rank all
        mine = workers.share(np.arange(len(pools)))
        scores = torch.zeros(pools.shape)
        histories, items = self.sampler.cases.histories.take(mine), torch.from_numpy(pools[mine]).long()
        scores[mine] = self.policy.score(histories, items, projector=self.projector)
        order = workers.total(scores).argsort(dim=1, descending=True, stable=True).numpy()
        return np.take_along_axis(pools, order, axis=1)[:, : config.pool_k]


def taken_later(dataset: Dataset, drawn: PromptCases) -> npt.NDArray[np.bool_]:
    """bool, the shape of ``drawn.candidates``: what the user takes after the target, in training."""
    train = dataset.train_sequences()
    later = np.zeros(drawn.candidates.shape, bool)
    for row, (user, history) in enumerate(zip(drawn.cases.users, drawn.cases.histories, strict=True)):
        later[row] = np.isin(drawn.candidates[row], train[int(user)][len(history) + 1 :])
    return later
