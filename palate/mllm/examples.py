"""Which questions a multimodal LLM learns from: positions of the log, and the items that were not the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.data.sample import user_order
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.mllm.chat import Chat
from palate.mllm.prompter import LETTERS, NO, YES, Prompter

Source = Literal["uniform", "popularity"]
Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]

# Streams of the seed: what is drawn for one purpose does not shift what is drawn for another.
_NEGATIVES, _ORDER = 0x6E6567, 0x6F7264
_ROUNDS = 4
_PICTURE = 400  # a picture counts as so many characters: about a hundred tokens


def training_positions(dataset: Dataset, users: npt.ArrayLike | None, cutoffs: int) -> Cases:
    """The last ``cutoffs`` training positions of each user: given what came before, the target is what came next.

    The history of position ``p`` is the user's training items before ``p``, oldest first, and so never holds the
    target nor anything later; there is none without a history.

    Args:
        users: rows of the user table; None takes everybody.
        cutoffs: positions a user, fewer where the user has fewer.

    Returns:
        One case a position, by user and then by time, each with one target. A user stands as often as it has positions.

    Raises:
        PalateError: ``cutoffs`` is less than 1.
    """
    if cutoffs < 1:
        raise PalateError(f"{cutoffs} cut-offs a user leave nothing to learn", "Give at least 1.")
    rows = np.arange(dataset.num_users) if users is None else np.asarray(users, np.int64)
    sequences = dataset.train_sequences()
    lengths = sequences.lengths[rows]
    counts = np.clip(lengths - 1, 0, cutoffs)
    which = np.repeat(np.arange(len(rows)), counts)
    # Positions length - count ... length - 1 of each user.
    places = lengths[which] - counts[which] + _running(counts)
    starts = sequences.offsets[rows][which]
    targets = sequences.values[starts + places]
    histories = [sequences.values[start : start + place] for start, place in zip(starts, places, strict=True)]
    values = np.concatenate(histories) if histories else np.empty(0, np.int32)
    return Cases(
        rows[which], Sequences(values, offsets_of(places)), Sequences(targets, np.arange(len(targets) + 1, dtype="i8"))
    )


def validation_positions(dataset: Dataset, users: npt.ArrayLike | None) -> Cases:
    """The validation cases of the given users, each with its first target and some history."""
    cases = dataset.cases("valid")
    wanted = cases.histories.lengths > 0
    if users is not None:
        wanted &= np.isin(cases.users, np.asarray(users, np.int64))
    cases = cases.take(np.flatnonzero(wanted))
    first = cases.targets.values[cases.targets.offsets[:-1]]
    return Cases(cases.users, cases.histories, Sequences(first, np.arange(len(first) + 1, dtype="i8")))


def judges(dataset: Dataset, count: int, seed: int, *, within: npt.ArrayLike | None = None) -> Ints:
    """``count`` users that have a validation case, in the order of :func:`~palate.data.sample.sample_users`.

    Where everybody has one (leave-last-out), they are that function's. Fewer of the same seed lie within more.

    Args:
        within: take none but these users, unless none of them has a validation case.

    Returns:
        int64, ascending: rows of the user table, fewer where there are fewer.
    """
    order = user_order(dataset, seed)
    able = order[np.isin(order, validation_positions(dataset, None).users)]
    inside = able if within is None else able[np.isin(able, np.asarray(within, np.int64))]
    found: Ints = np.sort((inside if len(inside) else able)[:count])
    return found


def draw_negatives(dataset: Dataset, cases: Cases, *, source: Source, count: int, seed: int) -> Items:
    """Items that the user had neither in training nor in the case's history: int32 ``[cases, count]``, all different.

    Validation and test items of the user are not left out: who trains may not know them. Each case has draws of its
    own, which depend on the seed, the user and the length of the history alone: a larger sample of users keeps them.

    Args:
        source: ``uniform`` over the catalogue, or ``popularity``: in proportion to training interactions, so that
            negatives are as popular as positives are and popularity alone does not tell them apart.

    Raises:
        PalateError: a user has had so much that fewer than ``count`` items are left.
    """
    weights = np.ones(dataset.num_items + 1) if source == "uniform" else dataset.train_counts.astype(np.float64)
    weights[0] = 0.0
    bounds = np.cumsum(weights) / max(weights.sum(), 1.0)
    train = dataset.train_sequences()
    out = np.zeros((len(cases), count), np.int32)
    for row, (user, history, targets) in enumerate(zip(cases.users, cases.histories, cases.targets, strict=True)):
        had = np.concatenate([train[int(user)], history, targets])  # users that were held out have trained nothing
        rng = np.random.default_rng([seed, _NEGATIVES, int(user), len(history)])
        drawn = _draw(weights, bounds, had, count, rng)
        if len(drawn) < count:
            raise PalateError(
                f"user '{dataset.user_ids[int(user)]}' leaves {len(drawn)} items for {count} negatives",
                "Ask for fewer negatives or choices, or draw them uniformly.",
            )
        out[row] = drawn
    return out


def _draw(
    weights: npt.NDArray[np.float64],
    bounds: npt.NDArray[np.float64],
    had: npt.NDArray[np.int32],
    count: int,
    rng: np.random.Generator,
) -> Ints:
    """Up to ``count`` different items, one after another in proportion to ``weights``."""
    drawn = np.empty(0, np.int64)
    for _ in range(_ROUNDS):
        picks = np.searchsorted(bounds, rng.random(count + 4), side="right")
        picks = np.concatenate([drawn, picks[(picks < len(weights)) & ~np.isin(picks, had)]])
        drawn = picks[np.sort(np.unique(picks, return_index=True)[1])][:count]
        if len(drawn) == count:
            return drawn
    left = weights.copy()  # nearly everything is taken: draw from the rest alone
    left[had] = 0
    left[drawn] = 0
    rest = np.flatnonzero(left)
    more = min(count - len(drawn), len(rest))
    if more:
        drawn = np.concatenate([drawn, rng.choice(rest, more, replace=False, p=left[rest] / left[rest].sum())])
    return drawn


@dataclass(frozen=True)
class Questions:
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
    def draw(cls, dataset: Dataset, cases: Cases, *, source: Source, negatives: int, seed: int) -> Questions:
        """Give every case its negatives and a random order, all by the seed."""
        return cls.of(cases, draw_negatives(dataset, cases, source=source, count=negatives, seed=seed), seed)

    @classmethod
    def of(cls, cases: Cases, others: Items, seed: int) -> Questions:
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

    def __init__(self, questions: Questions, prompter: Prompter, written: Sequence[str | None]) -> None:
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


def _running(counts: Ints) -> Ints:
    """0, 1, ... count - 1 for every count, joined.

    >>> _running(np.array([2, 0, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(counts) - counts
    index: Ints = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(starts, counts)
    return index
