"""Charts as inline SVG: drawn here, coloured by the page's style, so that they fit the light and the dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from palate.report.markup import Html, tag
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


def colour_class(number: int) -> str:
    """The classes of a line's or a swatch's colour."""
    return f"c{number % COLOURS}" + (" dashed" if number >= COLOURS else "")


def legend(names: Sequence[tuple[str, int]]) -> Html:
    """Which colour is whose."""
    rows = [
        tag("li", tag("span", class_=f"swatch {colour_class(colour)}", aria_hidden="true"), tag("bdi", name))
        for name, colour in names
    ]
    return tag("ul", rows, class_="legend")


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    across: str,
    zero: bool = False,
    area: bool = False,
    percent: bool = False,
    diagonal: bool = False,
) -> Html:
    """A figure with a heading: lines over common axes.

    Args:
        across: what the horizontal axis counts.
        zero: begin the vertical axis at 0, and draw a line there.
        area: fill below the lines.
        percent: both axes are shares.
        diagonal: draw what equal shares would be.
    """
    kept = [(line, [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]) for line in lines]
    points = [point for _, some in kept for point in some]
    if not points:
        return tag("figure", tag("figcaption", title), tag("p", "nothing was logged", class_="quiet"), class_="chart")
    frame = _Frame.of(points, zero, percent)
    drawn: list[Html] = frame.grid(percent, across)
    if zero and frame.low < 0 < frame.high:
        drawn.append(_straight(frame.x(frame.left), frame.y(0), frame.x(frame.right), frame.y(0), "axis"))
    if diagonal:
        drawn.append(_straight(frame.x(0), frame.y(0), frame.x(1), frame.y(1), "axis dashed"))
    for line, some in kept:
        drawn.append(_line(frame, line, some, area))
    told = f"{title}. " + " ".join(_told(line, some, percent) for line, some in kept if some)
    picture = tag("svg", drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=told)
    return tag("figure", tag("figcaption", title), picture, class_="chart")


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

    def grid(self, percent: bool, across: str) -> list[Html]:
        made: list[Html] = []
        for value in ticks(self.low, self.high, 5):
            made.append(_straight(_LEFT, self.y(value), WIDTH - _RIGHT, self.y(value), "grid"))
            made.append(tag("text", _tick(value, percent), x=_LEFT - 6, y=self.y(value) + 4, text_anchor="end"))
        places = [self.left + 0.5] if self.alone else ticks(self.left, self.right, 5)
        whole = not percent and self.right - self.left >= 2  # epochs are counted, where there is room to
        made += [
            tag("text", _tick(value, percent), x=self.x(value), y=HEIGHT - _BOTTOM + 16, text_anchor="middle")
            for value in places
            if float(value).is_integer() or not whole
        ]
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        made.append(tag("text", across, x=middle, y=HEIGHT - 3, text_anchor="middle", class_="across"))
        return made


def _line(frame: _Frame, line: Line, points: Sequence[tuple[float, float]], area: bool) -> Html:
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    path = " ".join(f"{x},{y}" for x, y in places)
    made: list[Html] = []
    if area and places:
        ground = frame.y(frame.low)
        made.append(tag("polygon", points=f"{places[0][0]},{ground} {path} {places[-1][0]},{ground}", class_="area"))
    if len(places) > 1:
        made.append(tag("polyline", points=path))
    dots = {line.mark} if line.mark is not None else {0} if len(places) == 1 else set()
    made += [tag("circle", cx=places[number][0], cy=places[number][1], r=4) for number in dots if number < len(places)]
    return tag("g", tag("title", line.name), made, class_=f"line {colour_class(line.colour)}")


def _tick(value: float, percent: bool) -> str:
    return f"{value:.0%}" if percent else f"{value:g}"


def _straight(x1: float, y1: float, x2: float, y2: float, class_: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _told(line: Line, points: Sequence[tuple[float, float]], percent: bool) -> str:
    """The line in words, for those who do not see it."""
    if percent:
        return ""
    first, last = points[0][1], points[-1][1]
    best = f", {points[line.mark][1]:.4g} where marked" if line.mark is not None and line.mark < len(points) else ""
    return f"{line.name}: from {first:.4g} to {last:.4g}{best}."
