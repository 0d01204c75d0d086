"""Decades and centuries, and the years that they are shown as."""

from __future__ import annotations

import numpy as np

_DECADES = {
    "the twenties": 1920,
    "the thirties": 1930,
    "the forties": 1940,
    "the fifties": 1950,
    "the sixties": 1960,
    "the seventies": 1970,
    "the eighties": 1980,
    "the nineties": 1990,
    "the two-thousands": 2000,
    "the twenty-tens": 2010,
}
_CENTURIES = {"the seventeenth century": 1600, "the eighteenth century": 1700, "the nineteenth century": 1800}
DECADES = tuple(_DECADES)
PERIODS = (*_CENTURIES, *_DECADES)


def year_in(period: str, rng: np.random.Generator) -> str:
    """A year in a decade or century.

    >>> year_in("the eighties", np.random.default_rng(0))[:3]
    '198'
    """
    if period in _CENTURIES:
        return str(_CENTURIES[period] + int(rng.integers(100)))
    return str(_DECADES[period] + int(rng.integers(10)))
