"""Seeds: whole numbers that every generator takes."""

from __future__ import annotations

from typing import Any

from palate.errors import PalateError

_BEYOND = 2**63


def checked_seed(seed: Any) -> int:
    """A seed as it is, if the generators of torch and numpy both take it.

    >>> checked_seed(7)
    7

    Raises:
        PalateError: no whole number, or one outside of the range.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= int(seed) < _BEYOND:
        raise PalateError(f"the seed is {seed!r}", "Give a whole number from 0 to 2**63 - 1.")
    return int(seed)
