"""How many texts of a store are distinct, and how many have which fault."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from palate.console import agreeing, counted


@dataclass(frozen=True)
class WritingCounts:
    """Counts of texts.

    Attributes:
        texts: all of them.
        distinct: different ones.
        checked: those whose faults are known; the following counts are of these.
        repeating: they repeat themselves.
        copying: they copy the prompt.
        unchanged: of those that copy, they are the preference so far, word for word.
        naming_unseen: they name what the prompt did not show.
    """

    texts: int
    distinct: int
    checked: int
    repeating: int
    copying: int
    unchanged: int
    naming_unseen: int

    @classmethod
    def of(cls, texts: Mapping[str, str], faults: Mapping[str, Collection[str]]) -> Self:
        """Of texts by key, and the names of their faults (:data:`palate.mllm.summaries.faults.FAULTS`) by key, as far
        as they are known."""
        known = [faults[key] for key in texts if key in faults]
        repeating, copying, unchanged, unseen = (
            sum(name in names for names in known) for name in ("repeats", "copies", "unchanged", "unseen")
        )
        return cls(len(texts), len(set(texts.values())), len(known), repeating, copying, unchanged, unseen)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        """One line for people.

        >>> print(WritingCounts(200, 190, 200, 3, 20, 8, 0))  # doctest: +NORMALIZE_WHITESPACE
        Of 200 texts, 190 are distinct (95.0%); 3 repeat themselves (1.5%), 20 copy the prompt (10.0%), 0 name what it
        did not show (0.0%).
        """
        if not self.texts:
            return "There are no texts."
        distinct = f"{self.distinct:,} {agreeing(self.distinct, 'is', 'are')} distinct"
        line = f"Of {counted(self.texts, 'text')}, {distinct} ({self.distinct / self.texts:.1%})"
        if not self.checked:
            return f"{line}; their faults were not counted."
        counts = {
            "repeat themselves": self.repeating,
            "copy the prompt": self.copying,
            "name what it did not show": self.naming_unseen,
        }
        faults = ", ".join(f"{count:,} {what} ({count / self.checked:.1%})" for what, count in counts.items())
        checked = "" if self.checked == self.texts else f"of {self.checked:,} that were checked, "
        return f"{line}; {checked}{faults}."
