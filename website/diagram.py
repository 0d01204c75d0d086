"""Boxes, arrows and pictures of items on a canvas measured in inches: what the figures of the papers are drawn with.

A diagram is first a list of elements and then a PNG. The list is what the file is identified by: the PNG keeps its
:meth:`Diagram.digest`. Pixels differ between versions of matplotlib, the list does not.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from palate.plots import BLUE, COLOURS, GREY, RED, picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
INK = "#20262e"
GOLD = COLOURS[4]
VIOLET = COLOURS[3]
# What a colour says, in every figure alike.
DATA, POLICY, FROZEN, TEXT, LOSS = GREY, BLUE, COLOURS[7], GOLD, RED
KEY = "Palate diagram"  # of the digest among the PNG's texts
DPI = 200
TITLE, BODY = 9.0, 8.0  # points; at the width of a page, 8 inches are about 750 pixels


def tint(colour: str, share: float = 0.12) -> str:
    """The colour mixed with white."""
    channels = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02x}" for channel in channels)


@dataclass(frozen=True)
class Box:
    """A rounded rectangle with a bold first line and further ones; ``left, bottom`` is its corner.

    Attributes:
        look: ``plain``; ``dashed``, for what is optional; ``bare``, no border; ``lane``, the band behind a stage.
    """

    left: float
    bottom: float
    width: float
    height: float
    colour: str
    title: str = ""
    lines: tuple[str, ...] = ()
    look: Literal["plain", "dashed", "bare", "lane"] = "plain"

    @property
    def top(self) -> float:
        return self.bottom + self.height

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def middle(self) -> Point:
        return self.left + self.width / 2, self.bottom + self.height / 2

    def side(self, which: Literal["left", "right", "top", "bottom"]) -> Point:
        """The middle of a side."""
        x, y = self.middle
        return {"left": (self.left, y), "right": (self.right, y), "top": (x, self.top), "bottom": (x, self.bottom)}[
            which
        ]

    def draw(self, axes: Axes) -> list[Any]:
        from matplotlib.patches import FancyBboxPatch

        lane = self.look == "lane"
        border = "none" if self.look in ("bare", "lane") else self.colour
        axes.add_patch(
            FancyBboxPatch(
                (self.left, self.bottom), self.width, self.height, boxstyle="round,pad=0,rounding_size=0.06",
                facecolor=tint(self.colour, 0.05 if lane else 0.12), edgecolor=border, linewidth=1.1,
                linestyle=(0, (4, 2)) if self.look == "dashed" else "-", zorder=0 if lane else 2,
            )
        )  # fmt: skip
        if lane:
            return []
        rows = ([(self.title, TITLE, "bold")] if self.title else []) + [(line, BODY, "normal") for line in self.lines]
        leading = 0.165
        x, y = self.middle
        return [
            axes.text(
                x, y + ((len(rows) - 1) / 2 - place) * leading, text, fontsize=size, fontweight=weight,
                color=INK, ha="center", va="center_baseline", zorder=4,
            )
            for place, (text, size, weight) in enumerate(rows)
        ]  # fmt: skip


@dataclass(frozen=True)
class Label:
    """Words without a box."""

    x: float
    y: float
    text: str
    colour: str = INK
    size: float = BODY
    weight: Literal["normal", "bold"] = "normal"
    align: Literal["left", "center", "right"] = "center"

    def draw(self, axes: Axes) -> list[Any]:
        return [
            axes.text(
                self.x, self.y, self.text, fontsize=self.size, fontweight=self.weight, color=self.colour,
                ha=self.align, va="center", zorder=5, linespacing=1.25,
            )
        ]  # fmt: skip


@dataclass(frozen=True)
class Arrow:
    """A line through points, square at its corners, with a head at its end."""

    points: tuple[Point, ...]
    colour: str = INK
    dashed: bool = False
    head: bool = True

    def draw(self, axes: Axes) -> list[Any]:
        from matplotlib.patches import FancyArrowPatch
        from matplotlib.path import Path as Line

        style = "-|>,head_length=4.5,head_width=2.4" if self.head else "-"
        axes.add_patch(
            FancyArrowPatch(
                path=Line(list(self.points)), arrowstyle=style, color=self.colour, linewidth=1.2,
                linestyle=(0, (3, 2)) if self.dashed else "-", capstyle="butt", joinstyle="round", zorder=3,
            )
        )  # fmt: skip
        return []


@dataclass(frozen=True)
class Tile:
    """An item: its picture (hills and a sun), or a mark such as its place in the history."""

    left: float
    bottom: float
    size: float
    colour: str
    mark: str = ""

    def draw(self, axes: Axes) -> list[Any]:
        from matplotlib.patches import Circle, FancyBboxPatch, Polygon

        x, y, size = self.left, self.bottom, self.size
        frame = FancyBboxPatch(
            (x, y), size, size, boxstyle=f"round,pad=0,rounding_size={0.14 * size}", facecolor=tint(self.colour, 0.25),
            edgecolor=self.colour, linewidth=1.0, zorder=3,
        )  # fmt: skip
        axes.add_patch(frame)
        texts = []
        if self.mark:
            texts.append(
                axes.text(x + size / 2, y + size / 2, self.mark, fontsize=BODY, color=INK, ha="center",
                          va="center", zorder=5)
            )  # fmt: skip
        else:
            hills = [(0.08, 0.12), (0.36, 0.62), (0.52, 0.38), (0.68, 0.54), (0.92, 0.12)]
            axes.add_patch(
                Polygon([(x + a * size, y + b * size) for a, b in hills], facecolor=self.colour, zorder=4, linewidth=0)
            )
            axes.add_patch(Circle((x + 0.72 * size, y + 0.74 * size), 0.1 * size, facecolor=self.colour, zorder=4))
        return texts


@dataclass(frozen=True)
class Bar:
    """A filled rectangle: a score, a probability, a stretch of time.

    Attributes:
        hatched: there, and not to be used.
    """

    left: float
    bottom: float
    width: float
    height: float
    colour: str
    hatched: bool = False

    def draw(self, axes: Axes) -> list[Any]:
        from matplotlib.patches import Rectangle

        axes.add_patch(
            Rectangle(
                (self.left, self.bottom), self.width, self.height, linewidth=0.8, edgecolor=self.colour, zorder=3,
                facecolor="white" if self.hatched else tint(self.colour, 0.55), hatch="////" if self.hatched else None,
            )
        )  # fmt: skip
        return []


Element = Box | Label | Arrow | Tile | Bar


@dataclass
class Diagram:
    """What is drawn, in inches from the lower left corner."""

    width: float
    height: float
    elements: list[Element] = field(default_factory=list)

    def box(
        self,
        left: float,
        bottom: float,
        width: float,
        height: float,
        colour: str,
        title: str = "",
        *lines: str,
        look: Literal["plain", "dashed", "bare", "lane"] = "plain",
    ) -> Box:
        """Add a box, and return it so that arrows can start from it."""
        made = Box(left, bottom, width, height, colour, title, lines, look)
        self.elements.append(made)
        return made

    def arrow(self, *points: Point, colour: str = INK, dashed: bool = False, head: bool = True) -> None:
        self.elements.append(Arrow(points, colour, dashed, head))

    def add(self, *elements: Element) -> None:
        self.elements += elements

    def digest(self) -> str:
        """SHA-256 of everything that is drawn, as text."""
        listing = [self.width, self.height, [[type(one).__name__, asdict(one)] for one in self.elements]]
        return hashlib.sha256(json.dumps(listing, sort_keys=True).encode()).hexdigest()

    def draw(self, axes: Axes) -> list[tuple[Element, list[Any]]]:
        """Draw every element; the texts that each one has drawn come back with it."""
        axes.set_xlim(0, self.width)
        axes.set_ylim(0, self.height)
        axes.axis("off")
        return [(one, one.draw(axes)) for one in self.elements]

    def write(self, path: Path) -> None:
        """Write a PNG on white, which carries the digest."""
        with picture(path, self.width, self.height, {KEY: self.digest()}) as figure:
            figure.set_layout_engine("none")
            figure.set_dpi(DPI)
            self.draw(figure.add_axes((0, 0, 1, 1)))


def written_digest(path: Path) -> str | None:
    """The digest of the diagram that a PNG was made from."""
    from PIL import Image

    with Image.open(path) as image:
        return image.info.get(KEY)
