"""How the page writes numbers."""

from __future__ import annotations

import math


def figure(value: float | None) -> str:
    """A metric.

    >>> figure(0.09871), figure(12.3456), figure(None)
    ('0.0987', '12.35', '-')
    """
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.2f}"


def interval(low: float | None, high: float | None, signed: bool = False) -> str:
    """The ends of an interval in brackets; empty where there is none."""
    if low is None or high is None:
        return ""
    return f"[{low:+.4f}, {high:+.4f}]" if signed else f"[{figure(low)}, {figure(high)}]"


def count(value: float | None) -> str:
    """A whole number."""
    return "-" if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """
    >>> share(0.9606), share(1), share(0.0004)
    ('96.1%', '100%', '0.04%')
    """
    if value is None:
        return "-"
    percent = 100 * value
    places = 0 if percent in (0, 100) else 1 if percent >= 0.1 else 2
    return f"{percent:.{places}f}%"


def seconds(value: float | None) -> str:
    """
    >>> seconds(0.24), seconds(75), seconds(7325)
    ('0.24 s', '1 min 15 s', '2 h 2 min')
    """
    if value is None:
        return "-"
    if value < 60:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def megabytes(value: float | None) -> str:
    """
    >>> megabytes(662.8), megabytes(4200)
    ('663 MB', '4.2 GB')
    """
    if value is None:
        return "-"
    return f"{value:,.0f} MB" if value < 1000 else f"{value / 1000:,.1f} GB"


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers, evenly spaced, from ``low`` to ``high``.

    >>> ticks(0.048, 0.0987)
    [0.06, 0.08]
    >>> ticks(1, 10)
    [2.0, 4.0, 6.0, 8.0, 10.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.85)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
