"""What an item looks like: its colours, pattern and shape, and the same as numbers that taste can act on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin

import numpy as np
import numpy.typing as npt

RGB = tuple[int, int, int]

# Colour families as OKLCH (lightness 0..1, chroma, hue in degrees) of the ground colour.
SCHEMES: dict[str, tuple[float, float, float]] = {
    "ember": (0.62, 0.17, 35.0),
    "honey": (0.80, 0.14, 85.0),
    "meadow": (0.66, 0.14, 138.0),
    "lagoon": (0.68, 0.10, 195.0),
    "midnight": (0.38, 0.12, 265.0),
    "plum": (0.46, 0.14, 322.0),
    "rose": (0.78, 0.09, 5.0),
    "slate": (0.42, 0.01, 250.0),
    "cream": (0.91, 0.025, 85.0),
}

# Pattern -> how geometric (against organic), how busy (against calm), how playful (against classic) it is.
PATTERNS: dict[str, tuple[float, float, float]] = {
    "plain": (0.2, -1.7, -0.5),
    "stripes": (1.1, -0.4, -0.7),
    "checks": (1.2, 0.5, -1.2),
    "dots": (0.2, -0.2, 0.9),
    "zigzag": (1.0, 0.8, 0.5),
    "triangles": (0.8, 1.0, 0.3),
    "waves": (-0.8, -0.6, 0.2),
    "leaves": (-1.3, 0.3, -0.7),
    "flowers": (-1.2, 0.7, 0.0),
    "terrazzo": (-0.6, 1.1, 0.4),
    "stars": (0.0, 0.2, 1.4),
}

# The columns of a look vector.
FACTORS = ("red-green", "yellow-blue", "lightness", "geometric", "busy", "playful", "round", "fine")
_SCALE = np.array([0.8, 0.8, 0.6, 0.9, 0.9, 0.8, 0.9, 0.4])


@dataclass(frozen=True)
class Look:
    """The visible factors of one item.

    Attributes:
        scheme: Colour family, a key of ``SCHEMES``.
        pattern: A key of ``PATTERNS``.
        round: Round (True) or angular silhouette.
        fine: 0 (large pattern) to 1 (small pattern).
        ground: OKLCH of the main colour.
        turn: Hue distance of the second colour, degrees.
    """

    scheme: str
    pattern: str
    round: bool
    fine: float
    ground: tuple[float, float, float]
    turn: float

    def vector(self) -> npt.NDArray[np.float64]:
        """float64 ``[len(FACTORS)]``: what taste weighs."""
        light, chroma, hue = self.ground
        colour = [chroma / 0.12 * cos(hue * pi / 180), chroma / 0.12 * sin(hue * pi / 180), (light - 0.62) / 0.2]
        shape = [1.0 if self.round else -1.0, 2 * self.fine - 1]
        factors: npt.NDArray[np.float64] = np.array([*colour, *PATTERNS[self.pattern], *shape]) * _SCALE
        return factors

    def colours(self) -> tuple[RGB, RGB, RGB, RGB]:
        """Ground, two accents that stand out from it, and a dark trim for outlines."""
        light, chroma, hue = self.ground
        apart = -0.34 if light > 0.6 else 0.38
        first = oklch(light + apart, max(chroma, 0.05) * 0.9, hue + self.turn)
        second = oklch(0.93 if light < 0.75 else 0.55, 0.04 if light < 0.75 else 0.12, hue + 180)
        return oklch(*self.ground), first, second, oklch(max(light - 0.30, 0.15), chroma * 0.6, hue)


def draw_look(rng: np.random.Generator, pattern: str | None = None, round_: bool | None = None) -> Look:
    """A random look; of this pattern and this make where they are named."""
    scheme, ground = _ground(str(rng.choice(list(SCHEMES))), rng)
    drawn = str(rng.choice(list(PATTERNS)))
    turn = float(rng.choice([-40, 40, 150]) + rng.normal(0, 10))
    make, fine = bool(rng.random() < 0.5), float(rng.random())
    return Look(scheme, pattern or drawn, make if round_ is None else round_, fine, ground, turn)


def draw_colour(look: Look, scheme: str, rng: np.random.Generator) -> Look:
    """The same product in a colour of another family."""
    scheme, ground = _ground(scheme, rng)
    return replace(look, scheme=scheme, ground=ground)


def _ground(scheme: str, rng: np.random.Generator) -> tuple[str, tuple[float, float, float]]:
    """A shade of a colour family."""
    light, chroma, hue = SCHEMES[scheme]
    return scheme, (
        float(np.clip(light + rng.normal(0, 0.035), 0.2, 0.95)),
        float(max(chroma * (1 + rng.normal(0, 0.12)), 0.003)),
        float(hue + rng.normal(0, 9)),
    )


def oklch(light: float, chroma: float, hue: float) -> RGB:
    """An sRGB colour from OKLCH (B. Ottosson, "A perceptual color space for image processing", 2020), clipped.

    >>> oklch(1.0, 0.0, 0.0), oklch(0.0, 0.0, 0.0)
    ((255, 255, 255), (0, 0, 0))
    """
    a, b = chroma * cos(hue * pi / 180), chroma * sin(hue * pi / 180)
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )

    def byte(x: float) -> int:
        x = min(max(x, 0.0), 1.0)
        return round(255 * (12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055))

    return byte(linear[0]), byte(linear[1]), byte(linear[2])
