"""The steps by which a history becomes a written preference, each with a key of its content.

Stage 2 of MLLM-MSR (arXiv 2408.09698): the history, oldest first, is cut into blocks; step t reads block t and the
preference of step t-1, and writes the new one. ``direct`` reads all items at once, for comparison.

The key of a step hashes the key of the step before and what this one is shown, so it depends on the items, their order
and their wording, and not on the user: users with equal beginnings share their steps, and so do
the cut-offs of one user. It holds items before the cut-off alone, because it is made of nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import Field

from palate.config import Config
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.summary_prompts import SummaryPrompts
from palate.storage.files import digest

Strategy = Literal["recurrent", "direct"]
TEMPLATES: dict[str, tuple[str, ...]] = {"recurrent": ("user-first", "user-next"), "direct": ("user-direct",)}
# In place of the preference so far where a step's content is hashed: its text follows from the keys before.
_SO_FAR = "the preference so far"


class UserOptions(Config):
    """How preferences are written.

    Attributes:
        strategy: ``recurrent`` or ``direct``.
        block: items per step.
        max_items: how many of the last items are read at most; 0: all.
        max_new_tokens: of a preference, at most.
        fields: of an item without a written summary, these fields are read beside the title; None: all text.
    """

    strategy: Strategy = "recurrent"
    block: int = Field(default=3, ge=1)
    max_items: int = Field(default=18, ge=0)
    max_new_tokens: int = Field(default=120, ge=1)
    fields: tuple[str, ...] | None = None

    @property
    def templates(self) -> tuple[str, ...]:
        """Names of the prompts in use."""
        return TEMPLATES[self.strategy]

    def window(self, items: int) -> int:
        """Where the items that are read begin in a history of ``items`` items.

        It moves by whole blocks, so that the blocks of a longer history are those of the shorter one as often as can
        be. Both strategies read the same items.

        >>> options = UserOptions(block=3, max_items=6)
        >>> [options.window(n) for n in (5, 6, 7, 9, 10)]
        [0, 0, 3, 3, 6]
        """
        over = max(0, items - self.max_items) if self.max_items else 0
        return min(-(-over // self.block) * self.block, max(0, items - 1))


@dataclass(frozen=True)
class SummaryStep:
    """One request: the items it reads, after the step whose text it goes on from.

    Attributes:
        key: hash of everything that decides the text.
        previous: key of the step before; None for the first.
        items: indices, oldest first.
    """

    key: str
    previous: str | None
    items: tuple[int, ...]


class SummarySteps:
    """Turns histories into steps, and steps into chats.

    Args:
        prompts: the wording.
        options: length, blocks.
        identity: of the backend.
    """

    def __init__(self, prompts: SummaryPrompts, options: UserOptions, identity: dict[str, Any]) -> None:
        self.prompts, self.options, self.identity = prompts, options, identity
        self._keys: dict[tuple[str, tuple[int, ...]], str] = {}

    @cached_property
    def root(self) -> str:
        """Key before the first step: what all steps share."""
        options, templates = self.options, self.prompts.templates
        prints = [templates.fingerprint(name) for name in options.templates]
        numbers = f"{options.block if options.strategy == 'recurrent' else 0} {options.max_new_tokens}"
        return digest("preference", options.strategy, numbers, as_text(self.identity), *prints)

    def of(self, history: Sequence[int]) -> list[SummaryStep]:
        """The steps of a history of item indices, oldest first; the last one's text is its preference. None without
        any item."""
        options = self.options
        items = [int(item) for item in history]
        items = items[options.window(len(items)) :]
        size = options.block if options.strategy == "recurrent" else max(1, len(items))
        steps: list[SummaryStep] = []
        key: str | None = None
        for start in range(0, len(items), size):
            block = tuple(items[start : start + size])
            previous, key = key, self._key(key, block)
            steps.append(SummaryStep(key, previous, block))
        return steps

    def forget(self, most: int) -> None:
        """Drop the keys of steps that were asked for, which are computed again when needed, if there are more than
        ``most``."""
        if len(self._keys) > most:
            self._keys.clear()

    def ask(self, step: SummaryStep, so_far: str | None) -> Chat:
        """The question of a step.

        Args:
            so_far: the text of the step before, where there is one.
        """
        if self.options.strategy == "direct":
            return self.prompts.direct(step.items)
        return self.prompts.first(step.items) if so_far is None else self.prompts.next(step.items, so_far)

    def _key(self, previous: str | None, block: tuple[int, ...]) -> str:
        known = (previous or "", block)
        if known not in self._keys:
            so_far = None if previous is None else _SO_FAR
            shown = self.ask(SummaryStep("", previous, block), so_far).fingerprint
            self._keys[known] = digest(previous or self.root, shown)
        return self._keys[known]


def as_text(value: Any) -> str:
    """A value of JSON in its canonical form."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
