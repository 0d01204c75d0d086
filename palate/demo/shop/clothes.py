"""Things to wear, each in a round and in an angular make; kinds that the demo's shop does not sell."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageChops

from palate.demo.shop.canvas import METAL, WHITE, Canvas, Points


def _mirrored(half: Points) -> Points:
    """A shape that is the same on both sides, from the points of its right half."""
    return half + [(100 - x, y) for x, y in reversed(half)]


def _both(first: Image.Image, *others: Image.Image) -> Image.Image:
    """Mask of everything that is in any of these."""
    for other in others:
        first = ImageChops.lighter(first, other)
    return first


def _sock(c: Canvas, round_: bool) -> None:
    c.shadow((26, 86, 90, 96))
    if round_:
        body = _both(c.box((30, 14, 56, 74)), c.box((30, 54, 90, 90), 18), c.oval((44, 48, 72, 76)))
    else:
        body = c.polygon([(30, 14), (56, 14), (56, 56), (90, 70), (90, 90), (40, 90), (30, 80)])
    c.clad(body, round_=False)
    toe = c.oval((74, 50, 110, 100)) if round_ else c.polygon([(76, 50), (100, 50), (100, 95), (76, 95)])
    heel = c.oval((14, 66, 46, 100)) if round_ else c.polygon([(20, 66), (54, 100), (20, 100)])
    for patch in (toe, heel):
        c.solid(ImageChops.multiply(body, patch), c.first)
    c.solid(c.box((27, 8, 59, 22), 5 if round_ else 0), c.first)
    for x in range(32, 58, 5):
        c.fill(c.line([(x, 10), (x, 20)], 0.9), c.trim)


def _skirt(c: Canvas, round_: bool) -> None:
    c.shadow((16, 86, 84, 96))
    if round_:
        side = [(64 + 27 * t**0.6, 20 + 60 * t) for t in np.linspace(0, 1, 20)]
        hem = [(50 + 41 * cos(t), 80 + 10 * sin(t)) for t in np.linspace(0, pi / 2, 12)]
        c.clad(c.polygon(_mirrored([(float(x), float(y)) for x, y in side + hem])))
    else:
        c.clad(c.polygon([(35, 20), (65, 20), (90, 88), (10, 88)]), round_=False)
        for top, bottom in ((41, 26), (47, 42), (53, 58), (59, 74)):
            c.fill(c.line([(top, 24), (bottom, 88)], 1), c.trim)
    c.solid(c.box((34, 10, 66, 21), 4 if round_ else 0), c.first)
    c.solid(c.oval((47, 12.5, 53, 18.5)) if round_ else c.box((46, 9, 54, 22)), METAL)


def _tie(c: Canvas, round_: bool) -> None:
    """Under a white collar."""
    if round_:
        tail = [(50 + 17 * cos(t), 78 + 16 * sin(t)) for t in np.linspace(0, pi / 2, 12)]
        c.clad(c.polygon(_mirrored([(55.0, 22.0), *tail])), round_=False)
    else:
        c.clad(c.polygon(_mirrored([(55, 22), (67, 78), (50, 96)])), round_=False)
    knot = c.oval((40, 8, 60, 28)) if round_ else c.polygon([(39, 8), (61, 8), (56, 27), (44, 27)])
    c.clad(knot, round_=False)
    for side in (1, -1):
        flap: Points = [(50 + side * x, y) for x, y in ((0, 6), (30, 2), (34, 16), (22, 34))]
        c.solid(c.polygon(flap), WHITE)
    c.clad(ImageChops.multiply(knot, c.polygon([(50, 7), (66, 30), (34, 30)])), round_=False)


def _backpack(c: Canvas, round_: bool) -> None:
    c.shadow((16, 87, 84, 97))
    c.solid(c.arc((40, 3, 60, 25), 180, 360, 3.5), c.first)
    for left in (12, 74):
        c.solid(c.box((left, 46, left + 14, 84), 6 if round_ else 0), c.first)
    c.clad(_both(c.box((20, 12, 80, 70), 28), c.box((20, 40, 80, 92), 10)) if round_ else c.box((20, 12, 80, 92)))
    pocket = c.box((29, 60, 71, 86), 9) if round_ else c.box((30, 66, 70, 88))
    c.solid(pocket, c.first)
    c.fill(c.line([(34, 70), (66, 70)], 1.6), METAL)
    if round_:
        c.fill(c.arc((27, 18, 73, 64), 190, 350, 2), c.trim)
        c.solid(c.oval((70, 40, 75, 48)), METAL)
        return
    c.clad(c.polygon([(17, 12), (83, 12), (83, 38), (50, 46), (17, 38)]))
    for x in (34, 60):
        c.solid(c.box((x, 30, x + 6, 54)), c.trim)
        c.solid(c.box((x - 1, 46, x + 7, 52)), METAL)


def _scarf(c: Canvas, round_: bool) -> None:
    """Wound once, its two ends hanging down."""
    ends: list[tuple[Points, float]] = [([(38, 34), (58, 34), (56, 84), (32, 84)], 32.0)]
    ends.append(([(48, 34), (66, 34), (80, 74), (56, 78)], 57.0))
    for points, left in reversed(ends):
        bottom = points[2][1]
        for x in np.arange(left, left + 22, 4):
            c.fill(c.line([(x, bottom - 4), (x, bottom + 10)], 1.6), c.first)
        c.clad(c.polygon(points), round_=False)
    if round_:
        c.clad(ImageChops.subtract(c.oval((14, 6, 86, 52)), c.oval((30, 12, 70, 33))))
    else:
        outer: Points = [(12, 26), (30, 6), (70, 6), (88, 26), (62, 52), (38, 52)]
        c.clad(ImageChops.subtract(c.polygon(outer), c.polygon([(34, 14), (66, 14), (50, 34)])))


def _mitten(c: Canvas, round_: bool) -> None:
    c.shadow((24, 89, 80, 98))
    if round_:
        thumb = c.line([(62, 66), (82, 44)], 15)
        body = _both(c.box((24, 6, 68, 80), 21), thumb, c.oval((74.5, 36.5, 89.5, 51.5)))
    else:
        body = _both(
            c.polygon([(24, 22), (38, 6), (54, 6), (68, 22), (68, 80), (24, 80)]),
            c.polygon([(64, 54), (78, 34), (90, 42), (74, 76), (64, 78)]),
        )
    c.clad(body)
    c.solid(c.box((22, 75, 70, 94), 5 if round_ else 0), c.first)
    for x in range(28, 68, 6):
        c.fill(c.line([(x, 77), (x, 92)], 1.2), c.trim)


def _apron(c: Canvas, round_: bool) -> None:
    c.shadow((20, 89, 80, 98))
    c.solid(c.arc((34, 1, 66, 41), 180, 360, 3), c.first)
    for left, right in (((22, 50), (4, 62)), ((78, 50), (96, 62))):
        c.fill(c.line([left, right], 3), c.first)
    if round_:
        bib: Points = [(66 + 16 * t**2, 18 + 28 * t) for t in (float(t) for t in np.linspace(0, 1, 10))]
        hem: Points = [(50 + 32 * cos(t), 68 + 24 * sin(t)) for t in np.linspace(0, pi / 2, 12)]
        c.clad(c.polygon(_mirrored([*bib, *hem])), round_=False)
    else:
        c.clad(c.polygon(_mirrored([(66, 18), (66, 44), (82, 48), (82, 92)])), round_=False)
    pocket = c.box((36, 56, 64, 78), 9) if round_ else c.box((34, 56, 66, 78))
    c.solid(pocket, c.first)
    c.fill(c.line([(50, 57), (50, 77)], 1), c.trim)


def _hat(c: Canvas, round_: bool) -> None:
    c.shadow((8, 72, 92, 88))
    if round_:
        c.clad(c.oval((4, 56, 96, 82)))
        crown = ImageChops.multiply(c.oval((24, 16, 76, 116)), c.box((0, 0, 100, 68)))
        crown = _both(crown, c.oval((24, 60, 76, 76)))
    else:
        c.clad(c.polygon([(3, 70), (16, 62), (84, 62), (97, 70), (84, 80), (16, 80)]))
        crown = c.polygon([(28, 16), (72, 16), (76, 70), (24, 70)])
    c.clad(crown)
    band = c.box((20, 55, 80, 67))
    if round_:
        band = ImageChops.subtract(c.oval((10, 40, 90, 76)), c.oval((10, 26, 90, 64)))
    c.solid(ImageChops.multiply(crown, band), c.first)
    if not round_:
        c.solid(c.oval((28, 12, 72, 20)), c.ground)


CLOTHES: dict[str, Callable[[Canvas, bool], None]] = {
    "sock": _sock,
    "skirt": _skirt,
    "tie": _tie,
    "backpack": _backpack,
    "scarf": _scarf,
    "mitten": _mitten,
    "apron": _apron,
    "hat": _hat,
}
