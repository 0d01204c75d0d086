"""The audit: the answers of a model in words, parsed and counted.

A score read from logits always exists. A generated answer may be none: it may name no candidate, two, or one that was
not offered. Such answers are misses here, never left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from palate.errors import PalateError
from palate.mllm.backends.base import Backend, ModelRequest, Reply
from palate.mllm.diagnostics.answers import ParsedAnswer, Verdict, read_choice, read_yes_no
from palate.mllm.prompts.chat import Chat
from palate.progress import track

Task = Literal["yes-no", "choose"]
_EXAMPLES = 3


@dataclass(frozen=True)
class AuditCase:
    """One user's candidates and answers.

    Attributes:
        titles: of the candidates, as the prompts show them.
        targets: places of those that the user chose in truth.
        answers: yes-no: one per candidate; choose: one. None where there was none.
    """

    titles: Sequence[str]
    targets: Collection[int]
    answers: Sequence[str | None]


@dataclass(frozen=True)
class Audit:
    """Counts of one task.

    Attributes:
        counts: answers by verdict; every verdict is there.
        hits: whether each user's answers point at a target and at nothing else.
        right: how many answers are right: of yes-no, yes to targets and no to others; of choose, a target.
        examples: a few answers of every verdict but valid, shortened.
    """

    task: Task
    counts: dict[Verdict, int]
    hits: tuple[bool, ...]
    right: int
    examples: dict[Verdict, list[str]]

    @property
    def answers(self) -> int:
        return sum(self.counts.values())

    @property
    def hit1(self) -> float:
        """Share of users that are hit; an answer that cannot be used is a miss."""
        return sum(self.hits) / len(self.hits)

    @property
    def accuracy(self) -> float:
        """Share of right answers; one that cannot be used is wrong."""
        return self.right / self.answers

    def facts(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "users": len(self.hits),
            "answers": self.answers,
            "counts": {str(verdict): count for verdict, count in self.counts.items()},
            "hit1": self.hit1,
            "accuracy": self.accuracy,
            "examples": {str(verdict): list(texts) for verdict, texts in self.examples.items()},
        }


def audit(task: Task, cases: Sequence[AuditCase], known: Collection[str] = ()) -> Audit:
    """Read and count the answers of every user.

    A user is hit where, of ``choose``, the answer is a target; of ``yes-no``, a target got a yes and every other
    candidate a readable no: two yes are a tie, ties count against the model, and what cannot be read counts as a yes
    for the others.

    Args:
        known: titles of the whole catalogue, by which an item that was not offered is recognised.

    Raises:
        PalateError: nobody was asked, or the number of answers does not fit.
    """
    if not cases:
        raise PalateError("there are no answers to audit", "Ask about at least one user.")
    counts: Counter[Verdict] = Counter()
    examples: dict[Verdict, list[str]] = {}
    hits, right = [], 0
    for one in cases:
        expected = len(one.titles) if task == "yes-no" else 1
        if len(one.answers) != expected:
            raise PalateError(f"{len(one.answers)} answers of a user instead of {expected}", "Ask again.")
        read = [read_yes_no(text) if task == "yes-no" else read_choice(text, one.titles, known) for text in one.answers]
        for text, answer in zip(one.answers, read, strict=True):
            counts[answer.verdict] += 1
            texts = examples.setdefault(answer.verdict, [])
            if answer.verdict is not Verdict.VALID and len(texts) < _EXAMPLES and text is not None:
                texts.append(" ".join(text.split())[:120])
        hit, good = _yes_no(read, one.targets) if task == "yes-no" else _choose(read, one.targets)
        hits.append(hit)
        right += good
    return Audit(
        task,
        {verdict: counts[verdict] for verdict in Verdict},
        tuple(hits),
        right,
        {verdict: texts for verdict, texts in examples.items() if texts},
    )


def _yes_no(read: Sequence[ParsedAnswer], targets: Collection[int]) -> tuple[bool, int]:
    right = sum(answer.choice == int(place in targets) for place, answer in enumerate(read))
    liked = any(read[place].choice == 1 for place in targets)
    others_out = all(answer.choice == 0 for place, answer in enumerate(read) if place not in targets)
    return liked and others_out, right


def _choose(read: Sequence[ParsedAnswer], targets: Collection[int]) -> tuple[bool, int]:
    hit = read[0].choice is not None and read[0].choice in targets
    return hit, int(hit)


def generate_answers(
    backend: Backend, chats: Sequence[Chat], *, max_new_tokens: int = 24, description: str | None = None
) -> list[Reply]:
    """One reply per chat, in their order, as the model gave it: a bad answer is not asked for again.

    Raises:
        PalateError: what makes all further work useless; a single failure is in its reply.
    """
    replies: dict[str, Reply] = {}
    requests: Iterator[ModelRequest] = (
        ModelRequest(str(number), chat, max_new_tokens) for number, chat in enumerate(chats)
    )
    if description:
        requests = track(requests, description, total=len(chats))

    def done(reply: Reply) -> tuple[ModelRequest, ...]:
        replies[reply.key] = reply
        return ()

    backend.work(requests, done, check=lambda text: None)
    missing = Reply("", None, error="the backend gave no reply")
    return [replies.get(str(number), missing) for number in range(len(chats))]
