"""Which questions a multimodal LLM learns from: positions of the log, and the items that were not the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from palate.data.dataset import Cases, Dataset
from palate.data.negatives import Ints, Items, draw_negatives
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.prompter import LETTERS, NO, YES, Prompter
from palate.negatives import NEGATIVES
from palate.negatives.base import WeightedStrategy

_ORDER = 0x6F7264  # a stream of the seed: other draws do not shift this one
_PICTURE = 400  # a picture counts as so many characters: about a hundred tokens


@dataclass(frozen=True)
class PromptCases:
    """Cases and their candidates: what is asked, before it is put into words.

    Attributes:
        cases: history and target of each.
        candidates: int32 ``[cases, 1 + negatives]``, the target in column 0.
        order: int64, the same shape: in which order ``choose`` lists them, a permutation a row.
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
        strategy: WeightedStrategy = NEGATIVES[source]()
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
    """Questions in words, each with its right answer: what is learnt.

    ``yes-no`` asks about every candidate of a case (the target's answer is Yes), ``choose`` once a case.

    Args:
        written: the preference of each case's user at that time, or None where the prompt shows none.

    Attributes:
        each: prompts a case.
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

    def sizes(self) -> list[int]:
        """About how long each example is, in characters: enough to put like with like."""
        return [len(chat.text) + _PICTURE * len(chat.pictures) for chat, _ in self]
