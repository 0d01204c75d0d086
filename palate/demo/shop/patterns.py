"""Patterns as square textures: drawn large, so that a product can be cut from them."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from palate.demo.shop.looks import RGB, Look

Pen = ImageDraw.ImageDraw
Rng = np.random.Generator


def texture(look: Look, side: int, rng: Rng) -> Image.Image:
    """RGB ``side x side``: the look's pattern in its colours."""
    ground, first, second, _ = look.colours()
    image = Image.new("RGB", (side, side), ground)
    unit = side * (0.17 - 0.07 * look.fine)
    _DRAW[look.pattern](ImageDraw.Draw(image), side, unit, first, second, rng)
    return image


def _grid(side: int, unit: float, shift: bool = True) -> list[tuple[float, float, int]]:
    """Centres of a grid (every other row shifted by half a step) and a running number."""
    rows = int(side / unit) + 2
    return [
        ((x + (0.5 if shift and y % 2 else 0.0)) * unit, y * unit, x + 2 * y) for y in range(rows) for x in range(rows)
    ]


def _plain(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    pass


def _stripes(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for i in range(int(side / unit) + 1):
        x = i * unit * 1.1
        pen.rectangle((x, 0, x + unit * 0.45, side), fill=first)
        pen.rectangle((x + unit * 0.66, 0, x + unit * 0.76, side), fill=second)


def _checks(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for y in range(int(side / unit) + 1):
        for x in range(int(side / unit) + 1):
            if (x + y) % 2:
                pen.rectangle((x * unit, y * unit, (x + 1) * unit - 1, (y + 1) * unit - 1), fill=first)


def _dots(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, n in _grid(side, unit * 0.95):
        pen.circle((x, y), unit * 0.27, fill=second if n % 3 == 0 else first)


def _zigzag(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for row in range(-1, int(side / unit) + 2):
        points = [(i * unit * 0.5, row * unit + (unit * 0.5 if i % 2 else 0)) for i in range(int(2 * side / unit) + 3)]
        pen.line(points, fill=second if row % 3 == 0 else first, width=max(2, int(unit * 0.28)))


def _triangles(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, n in _grid(side, unit):
        points = [(x - unit * 0.45, y + unit * 0.4), (x + unit * 0.45, y + unit * 0.4), (x, y - unit * 0.4)]
        pen.polygon(points, fill=second if n % 4 == 0 else first)


def _waves(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for row in range(-1, int(side / unit) + 2):
        points = [(x, row * unit + sin(x / unit * 2.2) * unit * 0.3) for x in range(-4, side + 8, 4)]
        pen.line(points, fill=second if row % 4 == 0 else first, width=max(2, int(unit * 0.26)), joint="curve")


def _leaf(pen: Pen, x: float, y: float, size: float, angle: float, colour: RGB) -> None:
    """A pointed leaf: two arcs between its ends."""
    points: list[tuple[float, float]] = []
    for t in [*np.linspace(-1, 1, 9), *np.linspace(1, -1, 9)[1:-1]]:
        half = 0.38 * (1 - t * t) * (1 if len(points) < 9 else -1)
        points.append(
            (x + size * (t * cos(angle) - half * sin(angle)), y + size * (t * sin(angle) + half * cos(angle)))
        )
    pen.polygon(points, fill=colour)


def _leaves(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, n in _grid(side, unit * 1.05):
        angle = pi / 4 * (1 if n % 2 else 3) + rng.normal(0, 0.25)
        _leaf(pen, x + rng.normal(0, unit * 0.05), y, unit * 0.52, angle, second if n % 5 == 0 else first)


def _flowers(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, _ in _grid(side, unit * 1.3):
        turn = rng.random() * pi
        for petal in range(5):
            angle = turn + petal * 2 * pi / 5
            pen.circle((x + cos(angle) * unit * 0.28, y + sin(angle) * unit * 0.28), unit * 0.22, fill=first)
        pen.circle((x, y), unit * 0.16, fill=second)


def _terrazzo(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, n in _grid(side, unit * 0.72):
        size = unit * rng.uniform(0.16, 0.4)
        angles = np.sort(rng.random(5)) * 2 * pi
        x, y = x + rng.normal(0, unit * 0.15), y + rng.normal(0, unit * 0.15)
        pen.polygon([(x + size * cos(a), y + size * sin(a)) for a in angles], fill=second if n % 2 else first)


def _stars(pen: Pen, side: int, unit: float, first: RGB, second: RGB, rng: Rng) -> None:
    for x, y, n in _grid(side, unit * 1.15):
        size, turn = unit * (0.48 if n % 2 else 0.34), rng.normal(0, 0.2)
        points = [
            (
                x + size * (1 if i % 2 == 0 else 0.42) * sin(turn + i * pi / 5),
                y - size * (1 if i % 2 == 0 else 0.42) * cos(turn + i * pi / 5),
            )
            for i in range(10)
        ]
        pen.polygon(points, fill=second if n % 3 == 0 else first)


_DRAW: dict[str, Callable[[Pen, int, float, RGB, RGB, Rng], None]] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "zigzag": _zigzag,
    "triangles": _triangles,
    "waves": _waves,
    "leaves": _leaves,
    "flowers": _flowers,
    "terrazzo": _terrazzo,
    "stars": _stars,
}
