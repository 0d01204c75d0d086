"""The one exception that a user's mistake raises, and the spelling help that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PalateError(Exception):
    """A mistake in input, options or environment, reported in one clear sentence.

    The command line prints it without a traceback; library users may catch it.

    Args:
        message: What is wrong, naming the file, row or option.
        remedy: What to do about it.

    >>> str(PalateError("items.csv, row 7: no title", remedy="Fill the column 'title'."))
    "items.csv, row 7: no title. Fill the column 'title'."
    """

    def __init__(self, message: str, remedy: str | None = None) -> None:
        self.message = message.rstrip(".")
        self.remedy = remedy
        super().__init__(f"{self.message}. {remedy}" if remedy else f"{self.message}.")

    def __reduce__(self) -> tuple[type[PalateError], tuple[str, str | None]]:
        """Arrives whole where another process raised it."""
        return type(self), (self.message, self.remedy)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """A sentence that names the closest known word, or lists what there is.

    >>> suggest("sasrek", ["sasrec", "gru4rec"])
    "Did you mean 'sasrec'?"
    >>> suggest("sku", ["SKU", "day"])
    "Did you mean 'SKU'?"
    >>> suggest("xyz", ["b", "a"])
    'Choose one of: a, b.'
    """
    choices = sorted(known)
    close = [word for word in choices if word.lower() == wrong.lower()] or get_close_matches(wrong, choices, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Choose one of: {', '.join(choices)}."


def one_line(error: Exception, longest: int = 200) -> str:
    """The kind of an error and the first line of its message.

    >>> one_line(ValueError("no such layer\\nsee above"))
    'ValueError: no such layer'
    """
    lines = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {lines[0]}"
    return text if len(text) <= longest else text[: longest - 1] + "…"
