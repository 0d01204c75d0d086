"""The twelve kinds of product of the demo's shop, each in a round and in an angular make, drawn from a look."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageChops

from palate.demo.shop.canvas import DARK, METAL, PAPER, WHITE, WOOD, Canvas, Points, ring
from palate.demo.shop.clothes import CLOTHES
from palate.demo.shop.household import HOUSEHOLD
from palate.demo.shop.looks import Look
from palate.demo.shop.patterns import texture


def render(category: str, look: Look, size: int, rng: np.random.Generator) -> Image.Image:
    """RGB ``size x size``: a product of the category (one of ``KINDS``) with this look, on light paper."""
    canvas = Canvas(size, texture(look, 2 * size, rng), look.colours())
    _ALL[category](canvas, look.round)
    return canvas.finish()


def _mug(c: Canvas, round_: bool) -> None:
    c.shadow((18, 80, 84, 94))
    if round_:
        c.solid(c.arc((60, 34, 92, 70), -100, 100, 7), c.ground)
        body = ImageChops.lighter(c.box((18, 22, 72, 60)), c.box((18, 30, 72, 88), 22))
    else:
        c.solid(c.line([(66, 36), (88, 36), (83, 66), (62, 66)], 6.5), c.ground)
        body = c.polygon([(16, 22), (74, 22), (66, 87), (24, 87)])
    c.clad(body)
    left, right = (18, 72) if round_ else (16, 74)
    c.solid(c.oval((left, 15, right, 29)), c.second)
    c.fill(c.oval((left + 4, 17.5, right - 4, 27.5)), DARK)


def _shirt(c: Canvas, round_: bool) -> None:
    c.shadow((22, 86, 78, 95))
    sleeve = 44.0 if round_ else 38.0
    half: Points = [(65, 14), (92, 26), (86, sleeve + 6), (73, sleeve - 2), (73, 90)]
    body = c.polygon(half + [(100 - x, y) for x, y in reversed(half)])
    c.clad(body, round_=False)
    neck = c.oval((37, 5, 63, 25)) if round_ else c.polygon([(36, 13), (64, 13), (50, 36)])
    below = c.box((0, 14, 100, 100))  # a collar does not stand up above the shoulders
    c.fill(ImageChops.multiply(neck, below), c.trim)
    inner = c.oval((39, 3, 61, 22)) if round_ else c.polygon([(39, 13), (61, 13), (50, 31)])
    c.fill(inner, PAPER)


def _cushion(c: Canvas, round_: bool) -> None:
    c.shadow((14, 80, 86, 95))
    if round_:
        c.clad(c.oval((13, 14, 87, 88)))
        c.solid(c.oval((45, 46, 55, 56)), c.trim)
        return
    edge = [(t, 1 - (2 * t - 1) ** 2) for t in np.linspace(0, 1, 12)]
    low, high, bow = 12.0, 88.0, 5.0
    points = [(low + 76 * t, low + bow * s) for t, s in edge] + [(high - bow * s, low + 76 * t) for t, s in edge]
    points += [(high - 76 * t, high - bow * s) for t, s in edge] + [(low + bow * s, high - 76 * t) for t, s in edge]
    c.clad(c.polygon(points))


def _poster(c: Canvas, round_: bool) -> None:
    if round_:
        c.shadow((16, 84, 84, 96))
        c.solid(c.oval((10, 8, 90, 88)), WOOD)
        c.fill(c.oval((14, 12, 86, 84)), WHITE)
        c.clad(c.oval((21, 19, 79, 77)), round_=False)
        return
    c.shadow((16, 89, 84, 98))
    c.solid(c.box((18, 5, 82, 94)), DARK)
    c.fill(c.box((21, 8, 79, 91)), WHITE)
    c.clad(c.box((28, 16, 72, 83)), round_=False)


def _bag(c: Canvas, round_: bool) -> None:
    c.shadow((18, 86, 82, 96))
    if round_:
        c.solid(c.arc((30, 6, 70, 66), 180, 360, 4.5), c.first)
        c.clad(ImageChops.lighter(c.box((20, 36, 80, 70)), c.box((20, 42, 80, 92), 24)), round_=False)
        return
    c.solid(c.line([(34, 44), (37, 8), (63, 8), (66, 44)], 4.5), c.first)
    c.clad(c.polygon([(20, 34), (80, 34), (85, 92), (15, 92)]), round_=False)


def _vase(c: Canvas, round_: bool) -> None:
    c.shadow((26, 86, 74, 96))
    if round_:
        c.clad(ImageChops.lighter(c.oval((22, 34, 78, 92)), c.box((41, 12, 59, 48), 2)))
    else:
        c.clad(c.polygon([(40, 12), (60, 12), (58, 30), (80, 52), (64, 92), (36, 92), (20, 52), (42, 30)]))
    c.solid(c.oval((38, 8, 62, 16)), c.second)
    c.fill(c.oval((41, 9.5, 59, 14.5)), DARK)


def _plate(c: Canvas, round_: bool) -> None:
    c.shadow((12, 78, 88, 95))
    if round_:
        c.clad(c.oval((8, 8, 92, 92)), round_=False)
        c.solid(c.oval((29, 29, 71, 71)), c.second)
        c.fill(c.oval((32, 32, 68, 68)), WHITE)
        return
    c.clad(c.polygon(ring(50, 50, 45, 8, pi / 8)), round_=False)
    c.solid(c.polygon(ring(50, 50, 24, 8, pi / 8)), c.second)
    c.fill(c.polygon(ring(50, 50, 21, 8, pi / 8)), WHITE)


def _lamp(c: Canvas, round_: bool) -> None:
    c.shadow((28, 87, 72, 97))
    c.solid(c.box((47.5, 50, 52.5, 90)), METAL)
    c.solid(c.oval((32, 86, 68, 95)) if round_ else c.polygon([(34, 94), (66, 94), (60, 87), (40, 87)]), METAL)
    if round_:
        c.clad(c.polygon([(50 - 38 * cos(t), 58 - 46 * sin(t)) for t in np.linspace(0, pi, 30)]))
    else:
        c.clad(c.polygon([(34, 10), (66, 10), (88, 60), (12, 60)]))


def _notebook(c: Canvas, round_: bool) -> None:
    c.shadow((20, 88, 84, 97))
    c.solid(c.box((23, 11, 83, 93), 8 if round_ else 0), WHITE)
    c.clad(c.box((20, 8, 80, 90), 8 if round_ else 0), round_=False)
    if round_:
        for y in range(14, 88, 8):
            c.fill(c.box((15, y, 26, y + 2.6), 1.2), METAL)
    else:
        c.fill(c.box((70, 8, 73.5, 90)), c.trim)
        c.solid(c.box((31, 22, 59, 36)), WHITE)


def _rug(c: Canvas, round_: bool) -> None:
    if round_:
        c.solid(c.oval((3, 19, 97, 85)), c.first)
        c.clad(c.oval((7, 22, 93, 81)), round_=False)
        return
    for y in range(23, 80, 4):
        c.fill(c.line([(4, y), (96, y)], 1.2), c.trim)
    c.solid(c.box((9, 20, 91, 80)), c.first)
    c.clad(c.box((13, 24, 87, 76)), round_=False)


def _phone_case(c: Canvas, round_: bool) -> None:
    c.shadow((28, 89, 74, 98))
    c.clad(c.box((29, 5, 71, 95), 11 if round_ else 3.5), round_=False)
    if round_:
        for y in (11, 21):
            c.solid(c.oval((34, y, 43, y + 9)), DARK)
            c.fill(c.oval((36.5, y + 2.5, 40.5, y + 6.5)), METAL)
    else:
        c.solid(c.box((33, 9, 52, 26), 2), DARK)
        for x, y in ((36, 12), (44, 12), (36, 19)):
            c.fill(c.box((x, y, x + 5, y + 5), 1), METAL)


def _umbrella(c: Canvas, round_: bool) -> None:
    c.shadow((36, 90, 66, 97))
    c.solid(c.line([(50, 40), (50, 86)], 2.6), WOOD)
    c.solid(c.arc((38, 78, 51.4, 92), 0, 190, 2.8), WOOD)
    c.solid(c.line([(50, 6), (50, 18)], 2), c.trim)
    if round_:
        top = [(50 - 44 * cos(t), 56 - 44 * sin(t)) for t in np.linspace(0, pi, 40)]
        hem = [(94 - 88 * t, 56 - 5 * abs(sin(4 * pi * t))) for t in np.linspace(0, 1, 60)]
    else:
        top = [(6.0, 58.0), (24.0, 24.0), (50.0, 12.0), (76.0, 24.0), (94.0, 58.0)]
        hem = [(72.0, 50.0), (50.0, 58.0), (28.0, 50.0)]
    c.clad(c.polygon([(float(x), float(y)) for x, y in top + hem]))
    for x in (28, 72):
        c.fill(c.line([(50, 12), (x, 52 if round_ else 50)], 0.9), c.trim)


_DRAW: dict[str, Callable[[Canvas, bool], None]] = {
    "mug": _mug,
    "shirt": _shirt,
    "cushion": _cushion,
    "poster": _poster,
    "bag": _bag,
    "vase": _vase,
    "plate": _plate,
    "lamp": _lamp,
    "notebook": _notebook,
    "rug": _rug,
    "phone case": _phone_case,
    "umbrella": _umbrella,
}
CATEGORIES = tuple(_DRAW)
_ALL = {**_DRAW, **CLOTHES, **HOUSEHOLD}
KINDS = tuple(_ALL)  # the demo's, and those that only pretraining draws
