"""The times of a history that somebody sends, beside those of a log."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from palate.console import counted
from palate.data.moments import YEAR_1, YEAR_9999
from palate.errors import PalateError


def check_times(what: str, items: int, times: Sequence[int] | None, asked: int | None = None) -> None:
    """Refuse times that cannot be those of a history, oldest first.

    Args:
        what: the history, as messages name it.
        items: how many it has.
        times: Unix milliseconds; None: none are given.
        asked: when the next item is asked for.

    Raises:
        PalateError: another number of times, times that go back, one outside of the years 1 to 9999, or a moment of
            asking alone.

    >>> check_times("the history", 2, [1000, 500])
    Traceback (most recent call last):
        ...
    palate.errors.PalateError: the times of the history go back from 1000 to 500. Give them oldest first, as the items.
    """
    if times is None:
        if asked is not None:
            raise PalateError(
                f"{what} has no times, so how long ago it was before {asked} is not known",
                "Give the times of its items, or leave out asked.",
            )
        return
    if len(times) != items:
        raise PalateError(
            f"{what} has {counted(items, 'item')} and {counted(len(times), 'time')}", "Give one time for each item."
        )
    whole = [*times, *([] if asked is None else [asked])]
    for when in whole:
        if not YEAR_1 <= when <= YEAR_9999:
            raise PalateError(f"the time {when} of {what} is outside of the years 1 to 9999", "Give Unix milliseconds.")
    for before, after in pairwise(whole):
        if after < before:
            raise PalateError(
                f"the times of {what} go back from {before} to {after}", "Give them oldest first, as the items."
            )
