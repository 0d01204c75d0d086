"""What the shop writes about an item: line, brand, kind, material and colour, and its pattern now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.demo.shop.looks import Look

# Category -> materials. The first two are natural, the last two made; some users care.
MATERIALS: dict[str, tuple[str, str, str, str]] = {
    "mug": ("stoneware", "clay", "enamel", "steel"),
    "shirt": ("cotton", "linen", "jersey", "polyester"),
    "cushion": ("linen", "wool", "velvet", "microfibre"),
    "poster": ("rag paper", "canvas", "foil print", "vinyl"),
    "bag": ("jute", "cotton", "nylon", "recycled PET"),
    "vase": ("clay", "stoneware", "glass", "resin"),
    "plate": ("stoneware", "wood", "melamine", "enamel"),
    "lamp": ("paper", "linen", "metal", "acrylic"),
    "notebook": ("linen", "recycled paper", "vinyl", "stone paper"),
    "rug": ("wool", "jute", "polypropylene", "viscose"),
    "phone case": ("cork", "bamboo", "silicone", "polycarbonate"),
    "umbrella": ("cotton", "bamboo", "nylon", "polyester"),
}
# fmt: off
_ONE = (
    "Hal", "Nor", "Bel", "Tor", "Mar", "Lin", "Sol", "Ver", "Ost", "Fen", "Cal", "Bra", "Ren", "Win", "Ald", "Kes",
    "Juna", "Ori", "Pel", "Sten",
)
_TWO = (
    "den", "by", "mere", "ova", "ia", "wick", "dal", "ford", "ello", "una", "sted", "vik", "lund", "esta", "ora",
    "holm",
)
# fmt: on
_USE = {
    "mug": ("Holds 350 ml.", "For the first coffee of the day.", "Fits most coffee machines."),
    "shirt": ("Runs true to size.", "Cut for everyday wear.", "Pre-washed, so it keeps its size."),
    "cushion": ("Filling included.", "The cover comes off for washing.", "Fits sofas and chairs, 45 cm."),
    "poster": ("Ready to hang.", "Framed by hand.", "Comes with a hook and a nail."),
    "bag": ("Carries up to 12 kg.", "Folds flat.", "Room for a laptop and lunch."),
    "vase": ("Watertight.", "Looks well with a single stem.", "Stands 24 cm tall."),
    "plate": ("27 cm, for main courses.", "Stacks well.", "Sold singly."),
    "lamp": ("Takes an E27 bulb.", "Gives a warm light.", "Switch on the cord."),
    "notebook": ("192 pages.", "Lies flat when open.", "Takes fountain pens."),
    "rug": ("140 x 200 cm.", "Lies flat from day one.", "With a backing that does not slip."),
    "phone case": ("Survives a drop from two metres.", "Wireless charging works.", "Raised edge around the screen."),
    "umbrella": ("Withstands gusts of 80 km/h.", "Opens at the press of a button.", "Fits a rucksack."),
}
_CARE = ("Ships within two days.", "Wipe clean with a damp cloth.", "Two years' guarantee.", "Made in small runs.")
# fmt: off
# Made-up brands; a shop uses as many as its size asks for.
BRANDS = (
    "Atelier Nord", "Kobo", "Lumen & Co", "Pico", "Maison Verre", "Tidewater", "Oak & Ash", "Fold", "Studio Lark",
    "Brio", "Harrow", "Casa Mira", "Plume", "Quill", "Sundry", "Ember Row", "Northpine", "Gable", "Juniper", "Mono",
    "Patch & Pin", "Rialto", "Saltbox", "Tangram", "Umbra Works", "Velt", "Wren", "Yonder", "Zephyr", "Aurel",
    "Bramble", "Copperfield", "Dune", "Eldon", "Fable", "Gather", "Hearth", "Isle", "Kite", "Loom",
)
# fmt: on
# The shop's word for a colour family; every shade of it has the same word.
COLOURS = {
    "ember": "rust",
    "honey": "mustard",
    "meadow": "green",
    "lagoon": "teal",
    "midnight": "navy",
    "plum": "purple",
    "rose": "pink",
    "slate": "black",
    "cream": "cream",
}
_PATTERN_WORDS = {
    "plain": "In one colour.",
    "stripes": "With stripes.",
    "checks": "In checks.",
    "dots": "With dots.",
    "zigzag": "With a zigzag.",
    "triangles": "With triangles.",
    "waves": "With waves.",
    "leaves": "With leaves.",
    "flowers": "With flowers.",
    "terrazzo": "In terrazzo.",
    "stars": "With stars.",
}


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


def write_line(category: str, look: Look, rng: np.random.Generator) -> LineWords:
    """Words for a product. About 8% have no description, and 40% of the others name their pattern."""
    which = int(rng.integers(4))
    name = f"{rng.choice(_ONE)}{rng.choice(_TWO)}"
    sentences = [str(rng.choice(_USE[category])), str(rng.choice(_CARE))]
    if rng.random() < 0.4:
        sentences.insert(0, _PATTERN_WORDS[look.pattern])
    described = rng.random() >= 0.08
    return LineWords(name, MATERIALS[category][which], which < 2, " ".join(sentences) if described else None)


def write_words(line: LineWords, brand: str, category: str, look: Look, rng: np.random.Generator) -> Words:
    """Words for the product in one colour. About 3% have no text at all."""
    if rng.random() < 0.03:
        return Words(None, None, None, None, None, None, line.natural)
    colour = COLOURS[look.scheme]
    title = f"{line.name} {line.material} {category}, {colour}"
    return Words(title, brand, category, line.material, colour, line.description, line.natural)
