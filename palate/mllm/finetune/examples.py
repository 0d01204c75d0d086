"""Which prompts a multimodal LLM learns from: positions of the log, and the items that were not the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from palate.data.dataset import Cases, Dataset
from palate.data.held_out import require_targets
from palate.data.negatives import Ints, Items, draw_negatives
from palate.data.positions import validation_positions, validation_users
from palate.data.sample import sample_users
from palate.errors import PalateError
from palate.mllm.finetune.config import ExamplesConfig
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.prompter import LETTERS, NO, YES, Prompter
from palate.mllm.recommender import MLLMRecommender
from palate.negatives import NEGATIVES
from palate.negatives.base import WeightedStrategy

_ORDER = 0x6F7264  # a stream of the seed: other draws do not shift this one
_PICTURE = 400  # characters that a picture counts as: about a hundred tokens


@dataclass(frozen=True)
class PromptCases:
    """Cases and their candidates, before they are written as prompts.

    Attributes:
        cases: history and target of each.
        candidates: int32 ``[cases, 1 + negatives]``, the target in column 0.
        order: int64, the same shape: in which order ``choose`` lists them, one permutation per row.
    """

    cases: Cases
    candidates: Items
    order: Ints

    def __len__(self) -> int:
        return len(self.cases)

    @classmethod
    def draw(cls, dataset: Dataset, cases: Cases, *, source: str, negatives: int, seed: int) -> PromptCases:
        """Give every case its negatives and a random order, all by the seed.

        Args:
            source: the strategy, one with weights.
        """
        strategy = NEGATIVES[source]()
        assert isinstance(strategy, WeightedStrategy)
        weights = strategy.of_catalogue(dataset.train_counts)
        return cls.of(cases, draw_negatives(dataset, cases, weights=weights, count=negatives, seed=seed), seed)

    @classmethod
    def of(cls, cases: Cases, others: Items, seed: int) -> PromptCases:
        """Cases with the items ``[cases, others]`` that were not the answer, in an order by the seed."""
        candidates = np.concatenate([cases.targets.values[:, None], others], axis=1).astype(np.int32)
        order = np.empty(candidates.shape, np.int64)
        for row, (user, history) in enumerate(zip(cases.users, cases.histories, strict=True)):
            rng = np.random.default_rng([seed, _ORDER, int(user), len(history)])
            order[row] = rng.permutation(candidates.shape[1])
        return cls(cases, candidates, order)

    def listed(self, row: int) -> tuple[Sequence[int], int]:
        """Candidates of a row in the order of ``choose``, and the place of the target among them."""
        order = self.order[row]
        return self.candidates[row][order].tolist(), int(np.flatnonzero(order == 0)[0])


class Examples(Sequence[tuple[Chat, str]]):
    """Prompts, each with its right answer.

    ``yes-no`` has one prompt per candidate of a case (the target's answer is Yes), ``choose`` one per case.

    Args:
        written: the preference of each case's user at that time, or None where the prompt shows none.

    Attributes:
        each: prompts per case.
    """

    def __init__(self, questions: PromptCases, prompter: Prompter, written: Sequence[str | None]) -> None:
        assert len(written) == len(questions)
        self.questions, self.prompter, self.written = questions, prompter, written
        self.each = questions.candidates.shape[1] if prompter.options.task == "yes-no" else 1

    def __len__(self) -> int:
        return len(self.questions) * self.each

    @overload
    def __getitem__(self, row: int) -> tuple[Chat, str]: ...
    @overload
    def __getitem__(self, row: slice) -> list[tuple[Chat, str]]: ...
    def __getitem__(self, row: int | slice) -> tuple[Chat, str] | list[tuple[Chat, str]]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        if not 0 <= row < len(self):
            raise IndexError(f"example {row} of {len(self)}")
        case, column = divmod(row, self.each)
        history, preference = self.questions.cases.histories[case].tolist(), self.written[case]
        if self.prompter.options.task == "yes-no":
            candidate = int(self.questions.candidates[case, column])
            return self.prompter.yes_no(history, candidate, preference), NO if column else YES
        listed, place = self.questions.listed(case)
        return self.prompter.choose(history, listed, preference), LETTERS[place]

    def case(self, case: int) -> tuple[list[Chat], list[int]]:
        """All prompts of a case, and of each the place of the right answer among :attr:`answers`."""
        rows = [self[case * self.each + column] for column in range(self.each)]
        return [chat for chat, _ in rows], [self.answers.index(answer) for _, answer in rows]

    @property
    def answers(self) -> Sequence[str]:
        """What may be answered."""
        if self.prompter.options.task == "yes-no":
            return (YES, NO)
        return LETTERS[: self.questions.candidates.shape[1]]

    @cached_property
    def sizes(self) -> list[int]:
        """About how long each example is, in characters: enough to put like with like."""
        return [len(chat.text) + _PICTURE * len(chat.pictures) for chat, _ in self]

    def case_sizes(self) -> list[int]:
        """About how long each case is: all its prompts."""
        return [sum(self.sizes[start : start + self.each]) for start in range(0, len(self), self.each)]

    def check_longest(self, model: ChatModel) -> None:
        """Refuse prompts that are longer than what the model reads; the longest few are encoded to find out."""
        longest = np.argsort(self.sizes)[-4:]
        model.check_length(max(len(model.encode(*self[int(row)])) for row in longest))


def sampled_users(dataset: Dataset, count: int | None, seed: int) -> Ints | None:
    """The users of a sample; None for all users."""
    return None if count is None or count >= dataset.num_users else sample_users(dataset, count, seed)


def validation_cases(dataset: Dataset, recommender: MLLMRecommender, config: ExamplesConfig) -> PromptCases:
    """The cases that validate a training, the same for every seed.

    Raises:
        PalateError: there are none, or their summaries have not been written.
    """
    require_targets(dataset, "valid")
    count = min(config.validate_users, config.users or dataset.num_users)
    # Summaries have been written for users of the sample.
    summarised = recommender.preferences is not None
    within = sampled_users(dataset, config.users, config.users_seed) if summarised else None
    cases = validation_positions(dataset, validation_users(dataset, count, config.users_seed, within=within))
    if not len(cases):
        raise PalateError("no user of the sample has a validation case", "Take more users, or prepare with more data.")
    recommender.check_ready(cases.histories)
    choose = recommender.config.prompt.task == "choose"
    others = config.choices - 1 if choose else config.validate_negatives
    return PromptCases.draw(dataset, cases, source=config.negatives, negatives=others, seed=config.users_seed)
