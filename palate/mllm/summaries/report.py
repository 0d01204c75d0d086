"""The outcome of a run of ``palate summarise``, and the estimate before it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from palate.mllm.prompts.chat import Chat
from palate.mllm.summaries.counts import WritingCounts
from palate.mllm.summaries.store import Cost, SummaryStore

# English in the tokenizers in use; a guess for a plan, never a figure of a report.
_LETTERS_A_TOKEN = 4.0


@dataclass(frozen=True)
class Missing:
    """A summary that was requested and could not be had.

    Attributes:
        what: the id: ``{"item": ...}``, or ``{"user": ..., "as_of": ..., "items": ...}`` with the items of the history.
        error: why, in full.
    """

    what: dict[str, Any]
    error: str

    @property
    def reason(self) -> str:
        """The error without the part that differs from case to case.

        >>> Missing({}, "no usable answer in 2 attempts (empty): 'x'").reason
        'no usable answer in 2 attempts (empty)'
        """
        return self.error.partition(": ")[0].strip().rstrip(".")


@dataclass(frozen=True)
class CostEstimate:
    """The cost of the missing summaries.

    Attributes:
        requests: to be sent.
        prompt_tokens: roughly, at four letters per token, pictures not counted.
        new_tokens: at most.
        pictures: to be sent.
    """

    requests: int
    prompt_tokens: int
    new_tokens: int
    pictures: int

    @classmethod
    def of(cls, chats: Sequence[Chat], max_new_tokens: int) -> CostEstimate:
        """Of the questions, in which a preference that is not written yet may stand as a placeholder of full length."""
        letters = sum(len(chat.text) for chat in chats)
        pictures = sum(len(chat.pictures) for chat in chats)
        return cls(len(chats), round(letters / _LETTERS_A_TOKEN), len(chats) * max_new_tokens, pictures)


@dataclass(frozen=True)
class SummaryReport:
    """The outcome of a run.

    Attributes:
        folder: of the store.
        unit: ``items`` or ``users``: costs are reported per thousand of them.
        units: how many of them were requested.
        requested: summaries (for users: cut-offs).
        skipped: reasons why some were not requested, with their number: no error.
        refused: pictures that cannot be shown to a model, and why.
        had: of those requested, how many were there before.
        written: new texts (for users: steps).
        left: summaries that --limit left for later.
        missing: those that could not be had.
        cost: of this run.
        total: of all runs of this store.
        writing: how many texts of the store are distinct, and how many have which fault.
        per_thousand: of the unit, from ``total``: what a thousand of them cost that start from nothing.
    """

    folder: Path
    unit: str
    units: int
    requested: int
    had: int
    written: int
    left: int
    missing: list[Missing]
    cost: Cost
    total: Cost
    writing: WritingCounts
    per_thousand: dict[str, float] | None
    skipped: dict[str, int] = field(default_factory=dict)
    refused: list[Missing] = field(default_factory=list)

    @property
    def reasons(self) -> dict[str, int]:
        """How often each reason, the most frequent first."""
        return reasons_of(self.missing)

    def as_json(self) -> dict[str, Any]:
        return {
            "store": str(self.folder),
            self.unit: self.units,
            "asked": self.requested,
            "skipped": self.skipped,
            "had": self.had,
            "written": self.written,
            "left": self.left,
            "missing": len(self.missing),
            "reasons": self.reasons,
            "cost": asdict(self.cost),
            "total": asdict(self.total),
            "writing": self.writing.as_json(),
            f"per_1000_{self.unit}": self.per_thousand,
        }


def reasons_of(missing: Sequence[Missing]) -> dict[str, int]:
    """How often each reason, the most frequent first."""
    return dict(Counter(one.reason for one in missing).most_common())


def save_missing(store: SummaryStore, missing: Sequence[Missing]) -> None:
    """List in ``missing.json`` what could not be had."""
    store.save_missing(reasons_of(missing), [{**one.what, "error": one.error} for one in missing])


def per_thousand(total: Cost, summaries: int, needed: int, units: int) -> dict[str, float] | None:
    """Cost of a thousand units that each need ``needed / units`` texts, at the mean cost of a text so far.

    Failed attempts are part of that cost. None while nothing was written or requested.
    """
    if not (summaries and needed and units):
        return None
    texts = 1000 * needed / units
    share = texts / summaries
    return {
        "texts": round(texts, 1),
        "requests": round(total.requests * share, 1),
        "prompt_tokens": round(total.prompt_tokens * share),
        "new_tokens": round(total.new_tokens * share),
        "seconds": round(total.seconds * share, 1),
    }
