"""What makes a shop the shop it is: what it sells, how it writes, and how its people choose.

The defaults are the demo's own shop, set so that purchases repeat kind, brand, line, colour and pattern about as often
as in real shops: docs/demo.md has the statistics. No model was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from palate.demo.shop.vocabulary import (
    BRANDS,
    CARE,
    COLOURS,
    LINE_ENDS,
    LINE_STARTS,
    MATERIALS,
    PATTERN_SENTENCES,
    USES,
)


@dataclass(frozen=True)
class KindWords:
    """What is written of a kind of product: four materials (two natural, then two made) and sentences of its use."""

    materials: tuple[str, str, str, str]
    uses: tuple[str, ...]


@dataclass(frozen=True)
class ShopStyle:
    """All settings of a drawn shop.

    Attributes:
        kinds: by their names, which are among :data:`palate.demo.shop.products.KINDS`; at least one.
        brands: a shop uses as many of these as its size asks for.
        items_per_brand: on average, but there are at least four brands.
        line_starts, line_ends: the two halves of a line's name.
        care: sentences that any description may end with.
        colours: the shop's word for a colour family; every shade of it has the same word.
        patterns: the shop's sentence for a pattern.
        title: format with any of ``{line}``, ``{material}``, ``{kind}``, ``{colour}`` and ``{brand}``.
        pattern_named: share of descriptions that name the pattern.
        no_text, no_picture, no_description: shares of items (lines, for the description).
        brand_popularity, line_popularity, item_popularity: standard deviations of popularity, which an item shares
            with its brand and with its line.
        strength: how much the look of an item weighs in a choice.
        drift: how much of a taste is left after a step, 0 to 1.
        kind_liking, brand_liking, natural_liking: standard deviations, over people, of what is liked for good.
        shortest, longest: bounds of the number of purchases of a person.
        typical_further, further_spread: purchases beyond the shortest: median, and standard deviation of the logarithm.
    """

    kinds: Mapping[str, KindWords] = field(
        default_factory=lambda: {kind: KindWords(MATERIALS[kind], USES[kind]) for kind in MATERIALS}
    )
    brands: tuple[str, ...] = BRANDS
    items_per_brand: int = 60
    line_starts: tuple[str, ...] = LINE_STARTS
    line_ends: tuple[str, ...] = LINE_ENDS
    care: tuple[str, ...] = CARE
    colours: Mapping[str, str] = field(default_factory=lambda: COLOURS)
    patterns: Mapping[str, str] = field(default_factory=lambda: PATTERN_SENTENCES)
    title: str = "{line} {material} {kind}, {colour}"
    pattern_named: float = 0.4
    no_text: float = 0.03
    no_picture: float = 0.04
    no_description: float = 0.08
    brand_popularity: float = 0.4
    line_popularity: float = 0.8
    item_popularity: float = 0.8
    strength: float = 0.8
    drift: float = 0.98
    kind_liking: float = 1.1
    brand_liking: float = 0.9
    natural_liking: float = 0.5
    shortest: int = 5
    longest: int = 60
    typical_further: float = 1.8
    further_spread: float = 1.05


DEMO = ShopStyle()
