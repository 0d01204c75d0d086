"""What the shop writes about an item: line, brand, kind, material and colour, and its pattern now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.demo.shop.looks import Look
from palate.demo.shop.style import DEMO, ShopStyle


@dataclass(frozen=True)
class LineWords:
    """What all colours of a product share: its name, material, and description."""

    name: str
    material: str
    natural: bool
    description: str | None


@dataclass(frozen=True)
class Words:
    """Title and fields of an item (None where the shop wrote nothing), and whether its material is natural."""

    title: str | None
    brand: str | None
    category: str | None
    material: str | None
    colour: str | None
    description: str | None
    natural: bool


def write_line(category: str, look: Look, rng: np.random.Generator, style: ShopStyle = DEMO) -> LineWords:
    """Words for a product. Some have no description, and some of the others name their pattern."""
    kind = style.kinds[category]
    which = int(rng.integers(len(kind.materials)))
    name = f"{rng.choice(style.line_starts)}{rng.choice(style.line_ends)}"
    sentences = [str(rng.choice(kind.uses)), str(rng.choice(style.care))]
    if rng.random() < style.pattern_named:
        sentences.insert(0, style.patterns[look.pattern])
    described = rng.random() >= style.no_description
    return LineWords(name, kind.materials[which], which < 2, " ".join(sentences) if described else None)


def write_words(
    line: LineWords, brand: str, category: str, look: Look, rng: np.random.Generator, style: ShopStyle = DEMO
) -> Words:
    """Words for the product in one colour. A few have no text at all."""
    if rng.random() < style.no_text:
        return Words(None, None, None, None, None, None, line.natural)
    colour = style.colours[look.scheme]
    title = style.title.format(line=line.name, material=line.material, kind=category, colour=colour, brand=brand)
    return Words(title[0].upper() + title[1:], brand, category, line.material, colour, line.description, line.natural)
