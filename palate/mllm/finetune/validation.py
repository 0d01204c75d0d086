"""Validation while a multimodal LLM is trained: the recommender itself scores cases that are drawn once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from palate.mllm.finetune.examples import PromptCases
from palate.mllm.recommender import MLLMRecommender
from palate.runs.workers import Workers

METRICS = {"yes-no": "AUC", "choose": "accuracy"}


class Validator:
    """Scores of the recommender on validation cases, divided among the workers.

    ``AUC``: the chance that the target scores above another candidate of its case; ``accuracy``: that it is chosen.
    Ties count as lost. ``valid_loss`` is the cross-entropy of the answer among those allowed, targets
    and others weighing alike.

    Args:
        forget_pictures: training changes the features of pictures, so that none may be remembered.
    """

    def __init__(
        self,
        recommender: MLLMRecommender,
        questions: PromptCases,
        *,
        forget_pictures: bool = False,
        workers: Workers | None = None,
    ) -> None:
        self.recommender, self.forget_pictures = recommender, forget_pictures
        self.workers = workers or Workers()
        self.task = recommender.config.prompt.task
        self.metric = METRICS[self.task]
        rows = self.workers.share(np.arange(len(questions)))
        self.histories = questions.cases.histories.take(rows)
        candidates, order = questions.candidates[rows], questions.order[rows]
        # In the order of column 0 the letter A would always be right.
        self.order = torch.from_numpy(order)
        self.listed = torch.from_numpy(np.take_along_axis(candidates, order, axis=1)).long()

    def __call__(self) -> dict[str, float]:
        if self.forget_pictures:
            self.recommender.forget_pictures()
        scores = self.recommender.score(self.histories, self.listed)
        scores = torch.empty_like(scores).scatter_(1, self.order, scores)  # the target comes first again
        won, loss = _yes_no(scores) if self.task == "yes-no" else _choose(scores)
        if self.workers.gather is not None:
            won, loss = (self.workers.gather(one.to(self.workers.device)).cpu() for one in (won, loss))
        return {self.metric: float(won.double().mean()), "valid_loss": float(loss.double().mean())}


def _yes_no(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds ``[cases, 1 + others]``, the target's first -> share of the others beaten and loss of each case.

    >>> won, loss = _yes_no(torch.tensor([[0.0, -1.0, 0.0]]))
    >>> won.tolist(), round(float(loss), 3)
    ([0.5], 0.598)
    """
    target, others = scores[:, :1], scores[:, 1:]
    loss = (softplus(-target).mean(dim=1) + softplus(others).mean(dim=1)) / 2
    return (target > others).double().mean(dim=1), loss


def _choose(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the letters, the target's first -> whether it is chosen, and loss of each case."""
    return (scores[:, :1] > scores[:, 1:]).all(dim=1).double(), -scores[:, 0].double()
