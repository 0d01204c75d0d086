"""The newest answers of this process, by which what is taken finds its model and its position."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

_MOST = 50_000


@dataclass
class RecentAnswer:
    """An answer that was shown.

    Attributes:
        variant: name of the model.
        taken: whether something of it was taken.
    """

    user: str | None
    variant: str
    items: Sequence[str]
    taken: bool = False

    def position(self, item: str) -> int | None:
        """The place of an item from 1; None: it was not shown."""
        return self.items.index(item) + 1 if item in self.items else None


class RecentAnswers:
    """Remembers the newest answers, in one thread.

    >>> recent = RecentAnswers(most=1)
    >>> recent.add("a", RecentAnswer("anna", "best", ["x", "y"]))
    >>> recent.take("a", ["y"]).position("y"), recent.click_through("best")
    (2, 1.0)
    >>> recent.add("b", RecentAnswer("anna", "best", ["x"]))
    >>> recent.find("a") is None, recent.click_through("best")
    (True, 0.0)
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._answers: OrderedDict[str, RecentAnswer] = OrderedDict()
        self._shown: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()

    def add(self, request: str, answer: RecentAnswer) -> None:
        self._answers[request] = answer
        self._shown[answer.variant] += 1
        while len(self._answers) > self._most:
            _, old = self._answers.popitem(last=False)
            self._shown[old.variant] -= 1
            self._taken[old.variant] -= old.taken

    def find(self, request: str | None) -> RecentAnswer | None:
        return None if request is None else self._answers.get(request)

    def take(self, request: str | None, items: Sequence[str]) -> RecentAnswer | None:
        """The answer that items were taken from, if it is remembered."""
        answer = self.find(request)
        if answer is not None and not answer.taken and any(item in answer.items for item in items):
            answer.taken = True
            self._taken[answer.variant] += 1
        return answer

    def click_through(self, variant: str) -> float:
        """Share of a model's remembered answers of which something was taken."""
        return self._taken[variant] / max(self._shown[variant], 1)
