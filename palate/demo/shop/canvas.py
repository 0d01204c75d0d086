"""A product photograph in the making: shapes cut from a patterned cloth, with light, shade and an outline."""

from __future__ import annotations

from functools import cached_property, lru_cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from palate.demo.shop.looks import RGB

PAPER: RGB = (247, 245, 241)
WOOD: RGB = (176, 134, 92)
METAL: RGB = (150, 150, 156)
DARK: RGB = (58, 54, 60)
WHITE: RGB = (252, 251, 248)
Box = tuple[float, float, float, float]
Points = list[tuple[float, float]]


class Canvas:
    """Coordinates run from 0 to 100, y downwards; the picture is drawn at twice its size and shrunk at the end.

    Args:
        size: Side of the finished picture, pixels.
        cloth: RGB texture of twice that side, cut to whatever :meth:`clad` is given.
        colours: Ground, two accents, trim.
    """

    def __init__(self, size: int, cloth: Image.Image, colours: tuple[RGB, RGB, RGB, RGB]) -> None:
        self.size = size
        self.side = 2 * size
        self.cloth = cloth
        self.ground, self.first, self.second, self.trim = colours
        self.image = Image.new("RGB", (self.side, self.side), PAPER)

    @cached_property
    def _k(self) -> float:
        return self.side / 100

    def _mask(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        mask = Image.new("L", (self.side, self.side), 0)
        return mask, ImageDraw.Draw(mask)

    def box(self, box: Box, radius: float = 0.0) -> Image.Image:
        """Mask of a rectangle, with round corners if asked."""
        mask, pen = self._mask()
        pen.rounded_rectangle(self._scale(box), radius * self._k, fill=255)
        return mask

    def oval(self, box: Box) -> Image.Image:
        mask, pen = self._mask()
        pen.ellipse(self._scale(box), fill=255)
        return mask

    def polygon(self, points: Points) -> Image.Image:
        mask, pen = self._mask()
        pen.polygon([(x * self._k, y * self._k) for x, y in points], fill=255)
        return mask

    def arc(self, box: Box, start: float, end: float, width: float) -> Image.Image:
        """Mask of a part of an oval's line, degrees clockwise from three o'clock."""
        mask, pen = self._mask()
        pen.arc(self._scale(box), start, end, fill=255, width=int(width * self._k))
        return mask

    def line(self, points: Points, width: float) -> Image.Image:
        mask, pen = self._mask()
        pen.line([(x * self._k, y * self._k) for x, y in points], fill=255, width=int(width * self._k), joint="curve")
        return mask

    def _scale(self, box: Box) -> Box:
        left, top, right, bottom = (value * self._k for value in box)
        return left, top, right, bottom

    def fill(self, mask: Image.Image, colour: RGB) -> None:
        self.image.paste(colour, (0, 0), mask)

    def clad(self, mask: Image.Image, round_: bool = True) -> None:
        """Cut the shape from the cloth, darken its edge, and light it from the left (more where it is round)."""
        self.image.paste(self.cloth, (0, 0), mask)
        shade = _shade(self.side, 0.34 if round_ else 0.16)
        self.image.paste((20, 16, 24), (0, 0), ImageChops.multiply(mask, shade))
        self.outline(mask)

    def outline(self, mask: Image.Image) -> None:
        edge = ImageChops.subtract(mask, mask.filter(ImageFilter.MinFilter(3)))
        self.image.paste(self.trim, (0, 0), edge)

    def solid(self, mask: Image.Image, colour: RGB) -> None:
        """A part in one colour, shaded and outlined like the rest."""
        self.fill(mask, colour)
        self.image.paste((20, 16, 24), (0, 0), ImageChops.multiply(mask, _shade(self.side, 0.2)))
        self.outline(mask)

    def shadow(self, box: Box) -> None:
        """A soft shadow on the ground."""
        soft = self.oval(box).resize((self.side // 4,) * 2).filter(ImageFilter.GaussianBlur(self.side / 100))
        soft = soft.resize((self.side, self.side), Image.Resampling.BILINEAR).point(lambda v: v * 0.28)
        self.image.paste((60, 52, 48), (0, 0), soft)

    def finish(self) -> Image.Image:
        return self.image.resize((self.size, self.size), Image.Resampling.LANCZOS)


@lru_cache(maxsize=8)
def _shade(side: int, depth: float) -> Image.Image:
    """L: darkness that grows towards the right and a little towards the bottom."""
    y, x = np.mgrid[0:side, 0:side] / side
    dark = depth * np.clip(1.5 * (x - 0.3), 0, 1) ** 1.3 + 0.25 * depth * np.clip(y - 0.4, 0, 1)
    return Image.fromarray((255 * dark).astype(np.uint8))


def ring(cx: float, cy: float, radius: float, corners: int, turn: float = 0.0) -> Points:
    """Corners of a regular polygon."""
    return [
        (cx + radius * cos(turn + 2 * pi * i / corners), cy + radius * sin(turn + 2 * pi * i / corners))
        for i in range(corners)
    ]
