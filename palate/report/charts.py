"""Line charts laid out for inline SVG, which ``templates/charts.html.j2`` draws in the colours of the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from palate.report.numbers import ticks

WIDTH, HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 12, 34
COLOURS = 8  # classes c0 ... c7 of the style; more lines than that are dashed from there on


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        points: ``(x, y)`` from left to right.
        mark: number of the point that wears a dot, or None.
    """

    name: str
    colour: int
    points: Sequence[tuple[float, float]]
    mark: int | None = None


@dataclass(frozen=True)
class ChartRule:
    """A straight line of the grid or an axis, in pixels."""

    x1: float
    y1: float
    x2: float
    y2: float
    css: str


@dataclass(frozen=True)
class ChartLabel:
    """A word or number beside the axes; ``x`` and ``y`` in pixels."""

    text: str
    x: float
    y: float
    anchor: Literal["middle", "end"]
    css: str = ""


@dataclass(frozen=True)
class DrawnLine:
    """A line in pixels: ``points`` of SVG for the line and the area below it (empty: not drawn), centre of its dot."""

    name: str
    colour: int
    path: str
    area: str
    dot: tuple[float, float] | None


@dataclass(frozen=True)
class ChartView:
    """A figure with a heading: lines over common axes.

    Attributes:
        description: the chart in words, for those who do not see it.
    """

    title: str
    description: str = ""
    rules: Sequence[ChartRule] = ()
    labels: Sequence[ChartLabel] = ()
    lines: Sequence[DrawnLine] = ()
    width: int = WIDTH
    height: int = HEIGHT


def colour_class(number: int) -> str:
    """The classes of a line's or a swatch's colour."""
    return f"c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    across: str,
    zero: bool = False,
    area: bool = False,
    percent: bool = False,
    diagonal: bool = False,
) -> ChartView:
    """Lay out lines over common axes. Points that are not finite are left out.

    Args:
        across: what the horizontal axis counts.
        zero: begin the vertical axis at 0, and draw a line there.
        area: fill below the lines.
        percent: both axes are shares.
        diagonal: draw what equal shares would be.
    """
    finite = [(line, [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]) for line in lines]
    everything = [point for _, points in finite for point in points]
    if not everything:
        return ChartView(title)
    frame = _Frame.of(everything, zero, percent)
    rules, labels = frame.grid(percent, across)
    if zero and frame.low < 0 < frame.high:
        rules.append(ChartRule(frame.x(frame.left), frame.y(0), frame.x(frame.right), frame.y(0), "axis"))
    if diagonal:
        rules.append(ChartRule(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "axis dashed"))
    described = "" if percent else " ".join(_describe(line, points) for line, points in finite if points)
    drawn = [_draw(frame, line, points, area) for line, points in finite]
    return ChartView(title, f"{title}. {described}", rules, labels, drawn)


@dataclass(frozen=True)
class _Frame:
    left: float
    right: float
    low: float
    high: float
    alone: bool = False  # one place on the horizontal axis

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]], zero: bool, percent: bool) -> _Frame:
        if percent:
            return cls(0, 1, 0, 1)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        low, high = min(ys), max(ys)
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        room = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
        left, right = min(xs), max(xs)
        alone = left == right
        if alone:
            left, right = left - 0.5, right + 0.5
        return cls(left, right, low - (room if low < 0 or not zero else 0), high + room, alone)

    def x(self, value: float) -> float:
        return round(_LEFT + (value - self.left) / (self.right - self.left) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - _TOP - _BOTTOM), 1)

    def grid(self, percent: bool, across: str) -> tuple[list[ChartRule], list[ChartLabel]]:
        heights = [(value, self.y(value)) for value in ticks(self.low, self.high, 5)]
        rules = [ChartRule(_LEFT, y, WIDTH - _RIGHT, y, "grid") for _, y in heights]
        labels = [ChartLabel(_tick(value, percent), _LEFT - 6, y + 4, "end") for value, y in heights]
        places = [self.left + 0.5] if self.alone else ticks(self.left, self.right, 5)
        whole = not percent and self.right - self.left >= 2  # epochs are counted, where there is room to
        labels += [
            ChartLabel(_tick(value, percent), self.x(value), HEIGHT - _BOTTOM + 16, "middle")
            for value in places
            if float(value).is_integer() or not whole
        ]
        labels.append(ChartLabel(across, (_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 3, "middle", "across"))
        return rules, labels


def _draw(frame: _Frame, line: Line, points: Sequence[tuple[float, float]], area: bool) -> DrawnLine:
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    ground = frame.y(frame.low)
    below = f"{places[0][0]},{ground} {path} {places[-1][0]},{ground}" if area and places else ""
    mark = 0 if line.mark is None and len(places) == 1 else line.mark
    dot = places[mark] if mark is not None and mark < len(places) else None
    return DrawnLine(line.name, line.colour, path if len(places) > 1 else "", below, dot)


def _tick(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:g}"


def _describe(line: Line, points: Sequence[tuple[float, float]]) -> str:
    first, last = points[0][1], points[-1][1]
    best = f", {points[line.mark][1]:.4g} where marked" if line.mark is not None and line.mark < len(points) else ""
    return f"{line.name}: from {first:.4g} to {last:.4g}{best}."
