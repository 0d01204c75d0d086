"""Things for the house, each in a round and in an angular make; kinds that the demo's shop does not sell."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

from PIL import ImageChops

from palate.demo.shop.canvas import DARK, METAL, WHITE, WOOD, Canvas, Points, ring
from palate.demo.shop.looks import RGB

FLAME: RGB = (250, 176, 60)
GLASS: RGB = (214, 230, 238)
LEAF: RGB = (86, 140, 80)


def _bottle(c: Canvas, round_: bool) -> None:
    c.shadow((28, 88, 72, 98))
    if round_:
        body = ImageChops.lighter(c.box((33, 44, 67, 94), 6), c.oval((33, 30, 67, 62)))
        c.clad(ImageChops.lighter(body, c.box((43, 14, 57, 50))))
        c.solid(c.box((41, 5, 59, 16), 4), c.first)
    else:
        c.clad(c.polygon([(44, 14), (56, 14), (56, 30), (69, 44), (69, 94), (31, 94), (31, 44), (44, 30)]))
        c.solid(c.box((42, 5, 58, 15)), c.first)
    c.fill(c.line([(42, 20), (58, 20)], 2.4), c.trim)


def _box(c: Canvas, round_: bool) -> None:
    """With a lid and a ribbon."""
    c.shadow((8, 84, 94, 97))
    if round_:
        c.clad(ImageChops.lighter(c.box((18, 46, 82, 82)), c.oval((18, 70, 82, 94))))
        c.solid(ImageChops.lighter(c.box((14, 34, 86, 48)), c.oval((14, 36, 86, 60))), c.first)
        c.solid(c.oval((14, 20, 86, 47)), c.ground)
        ribbon: Points = [(50, 20), (50, 94)]
    else:
        c.solid(c.polygon([(66, 46), (90, 34), (90, 78), (66, 94)]), c.trim)
        c.clad(c.box((12, 46, 66, 94)), round_=False)
        c.solid(c.polygon([(9, 36), (34, 22), (94, 22), (69, 36)]), c.ground)
        c.solid(c.polygon([(69, 36), (94, 22), (94, 35), (69, 50)]), c.trim)
        c.solid(c.box((9, 36, 69, 50)), c.first)
        ribbon = [(64, 22), (39, 36), (39, 94)]
    c.fill(c.line(ribbon, 6), c.second)
    x, y = (50, 26) if round_ else (51, 26)
    for side in (1, -1):
        loop = c.oval((x + 8 * side - 9, y - 20, x + 8 * side + 9, y - 4))
        if not round_:
            loop = c.polygon([(x, y - 2), (x + 18 * side, y - 20), (x + 20 * side, y - 4)])
        c.solid(loop, c.second)
    c.solid(c.oval((x - 4, y - 8, x + 4, y)), c.second)


def _bowl(c: Canvas, round_: bool) -> None:
    c.shadow((20, 82, 80, 95))
    c.solid(c.box((36, 80, 64, 90), 3 if round_ else 0), c.ground)
    if round_:
        c.clad(ImageChops.multiply(c.oval((8, -16, 92, 86)), c.box((0, 36, 100, 100))))
    else:
        c.clad(c.polygon([(8, 38), (92, 38), (66, 84), (34, 84)]))
    for inset, colour in ((0.0, c.second), (4.5, DARK)):
        left, right, top, bottom = 8 + inset, 92 - inset, 24 + 0.7 * inset, 50 - 0.7 * inset
        if round_:
            rim = c.oval((left, top, right, bottom))
        else:
            rim = c.polygon([(left, 37), (26, top), (74, top), (right, 37), (74, bottom), (26, bottom)])
        c.fill(rim, colour)
        c.outline(rim)


def _candle(c: Canvas, round_: bool) -> None:
    """Burning, on a dish."""
    c.shadow((14, 86, 86, 98))
    c.solid(c.oval((16, 82, 84, 96)) if round_ else c.polygon([(12, 86), (88, 86), (80, 95), (20, 95)]), METAL)
    if round_:
        c.clad(ImageChops.lighter(c.box((33, 40, 67, 84)), c.oval((33, 79, 67, 91))))
        c.solid(c.oval((33, 34, 67, 46)), c.ground)
    else:
        c.clad(c.polygon([(41, 38), (59, 38), (68, 88), (32, 88)]))
    c.fill(c.line([(50, 28), (50, 41)], 1.8), DARK)
    for size, colour in ((1.0, FLAME), (0.5, WHITE)):
        wide, high = 8 * size, 24 * size
        drop: Points = [(50, 30 - high), (50 + wide, 30 - high / 3), (50, 31), (50 - wide, 30 - high / 3)]
        if round_:
            turns = (2 * pi * step / 40 for step in range(40))
            drop = [(50 + wide * sin(t) * (1 - cos(t)) / 1.3, 30 - high * (1 + cos(t)) / 2) for t in turns]
        c.fill(c.polygon(drop), colour)


def _curtain(c: Canvas, round_: bool) -> None:
    """A pair of them before a window."""
    c.solid(c.box((24, 16, 76, 84)), WOOD)
    c.fill(c.box((27, 19, 73, 81)), GLASS)
    for points in ([(50, 19), (50, 81)], [(27, 50), (73, 50)]):
        c.fill(c.line([(float(x), float(y)) for x, y in points], 2), WOOD)
    for side in (1, -1):
        if round_:
            inner = [(2 + 30 * cos(t) ** 2, 12 + 46 * (t / (pi / 2))) for t in (pi / 2 * i / 12 for i in range(13))]
            gathered = [(x + 12, y) for x, y in inner] + [(22.0, 66.0), (28.0, 94.0), (4.0, 94.0), (4.0, 12.0)]
        else:
            gathered = [(38.0, 12.0), (38.0, 94.0), (5.0, 94.0), (5.0, 12.0)]
        panel: Points = [(50 + side * (50 - x), y) for x, y in gathered]
        c.clad(c.polygon(panel), round_=False)
        if round_:
            c.solid(c.polygon([(50 + side * (50 - x), y) for x, y in ((2, 60), (20, 56), (24, 63), (2, 68))]), c.first)
            continue
        for x in (13, 21, 30):
            c.fill(c.line([(50 + side * (50 - x), 14), (50 + side * (50 - x), 93)], 1), c.trim)
    c.solid(c.box((2, 7, 98, 12.5), 2), WOOD)
    for x in (2, 98):
        c.solid(c.oval((x - 4, 5, x + 4, 14)) if round_ else c.box((x - 3, 4, x + 3, 15)), WOOD)


def _mirror(c: Canvas, round_: bool) -> None:
    """A patterned frame around glass that shines."""
    if round_:
        c.clad(c.oval((14, 3, 86, 97)), round_=False)
        glass = c.oval((29, 19, 71, 81))
    else:
        c.clad(c.box((14, 3, 86, 97)), round_=False)
        glass = c.box((30, 19, 70, 81))
    c.solid(glass, GLASS)
    for points, width in (([(24, 66), (72, 18)], 7), ([(34, 76), (78, 32)], 3)):
        shine = c.line([(float(x), float(y)) for x, y in points], width)
        c.fill(ImageChops.multiply(shine, glass), WHITE)
    c.outline(glass)


def _plant_pot(c: Canvas, round_: bool) -> None:
    """With a plant in it."""
    c.shadow((22, 87, 78, 97))
    for angle, length in ((-75, 34), (-42, 42), (-12, 46), (14, 46), (44, 42), (76, 34)):
        t = angle * pi / 180
        along, across = (sin(t), -cos(t)), (cos(t), sin(t))
        blade = [(0.0, 0.0), (0.45, 0.17), (0.75, 0.15), (1.0, 0.0), (0.75, -0.15), (0.45, -0.17)]
        leaf: Points = [
            (50 + length * (u * along[0] + v * across[0]), 54 + length * (u * along[1] + v * across[1]))
            for u, v in blade
        ]
        c.solid(c.polygon(leaf), LEAF)
    if round_:
        c.clad(ImageChops.multiply(c.oval((22, 36, 78, 94)), c.box((0, 52, 100, 100))))
        c.solid(c.box((22, 48, 78, 58), 5), c.first)
    else:
        c.clad(c.polygon([(26, 54), (74, 54), (66, 94), (34, 94)]))
        c.solid(c.box((22, 46, 78, 58)), c.first)


def _teapot(c: Canvas, round_: bool) -> None:
    c.shadow((18, 82, 82, 94))
    if round_:
        c.solid(c.arc((64, 36, 97, 74), -110, 110, 6), c.ground)
        c.solid(c.polygon([(30, 78), (18, 62), (12, 44), (3, 38), (10, 33), (22, 38), (32, 54)]), c.ground)
        c.clad(c.oval((20, 30, 78, 90)))
        c.solid(ImageChops.multiply(c.oval((32, 25, 66, 56)), c.box((0, 0, 100, 38))), c.first)
        c.solid(c.oval((44, 15, 54, 26)), c.first)
        return
    c.solid(c.line([(68, 42), (94, 42), (90, 72), (70, 74)], 5.5), c.ground)
    c.solid(c.polygon([(32, 82), (4, 38), (14, 34), (38, 54)]), c.ground)
    c.clad(c.polygon([(34, 36), (66, 36), (82, 88), (18, 88)]))
    c.solid(c.polygon([(38, 26), (62, 26), (69, 37), (31, 37)]), c.first)
    c.solid(c.box((46, 16, 54, 26)), c.first)


def _clock(c: Canvas, round_: bool) -> None:
    frame = c.oval((7, 7, 93, 93)) if round_ else c.box((9, 9, 91, 91))
    c.clad(frame, round_=False)
    c.solid(c.oval((23, 23, 77, 77)) if round_ else c.box((25, 25, 75, 75)), WHITE)
    for hour, (x, y) in enumerate(ring(50, 50, 22, 12)):
        size = 2.2 if hour % 3 == 0 else 1.2
        c.fill(c.oval((x - size, y - size, x + size, y + size)), DARK)
    c.fill(c.line([(50, 50), (40, 37)], 3.4), DARK)
    c.fill(c.line([(50, 50), (66, 41)], 2.2), DARK)
    c.fill(c.oval((47, 47, 53, 53)), DARK)


def _chair(c: Canvas, round_: bool) -> None:
    c.shadow((16, 88, 84, 98))
    for x, foot in ((30, 29), (70, 71)):
        c.solid(c.line([(x, 40), (x, 58), (foot, 88)], 3.6), WOOD)
    c.clad(c.oval((24, 4, 76, 48)) if round_ else c.box((26, 6, 74, 44)), round_=False)
    for x, foot in ((22, 17), (78, 83)):
        c.solid(c.line([(x, 64), (foot, 95)], 4.6), WOOD)
    seat = c.oval((16, 52, 84, 72)) if round_ else c.polygon([(26, 54), (74, 54), (86, 68), (14, 68)])
    c.clad(seat)
    if not round_:
        c.solid(c.box((14, 68, 86, 72.5)), c.first)


HOUSEHOLD: dict[str, Callable[[Canvas, bool], None]] = {
    "bottle": _bottle,
    "box": _box,
    "bowl": _bowl,
    "candle": _candle,
    "curtain": _curtain,
    "mirror": _mirror,
    "plant pot": _plant_pot,
    "teapot": _teapot,
    "clock": _clock,
    "chair": _chair,
}
