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


def spellings(period: str) -> frozenset[str]:
    """Figures that name a decade or a century, its years among them; none for any other word.

    >>> sorted(spellings("the eighties"))[:3], "1850" in spellings("the nineteenth century"), spellings("teal")
    (['1980', '1980s', '1981'], True, frozenset())
    """
    if period in _DECADES:
        start, length = _DECADES[period], 10
        short = f"{start % 100:02d}s"
    elif period in _CENTURIES:
        start, length = _CENTURIES[period], 100
        short = f"{start // 100 + 1}th century"
    else:
        return frozenset()
    return frozenset((short, f"{start}s", *(str(start + year) for year in range(length))))
