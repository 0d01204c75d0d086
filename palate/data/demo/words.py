"""What the shop writes about an item: kind and material in plain words, its look only now and then."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.data.demo.looks import Look

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
_ONE = [
    "Hal",
    "Nor",
    "Bel",
    "Tor",
    "Mar",
    "Lin",
    "Sol",
    "Ver",
    "Ost",
    "Fen",
    "Cal",
    "Bra",
    "Ren",
    "Win",
    "Ald",
    "Kes",
    "Juna",
    "Ori",
    "Pel",
    "Sten",
]
_TWO = [
    "den",
    "by",
    "mere",
    "ova",
    "ia",
    "wick",
    "dal",
    "ford",
    "ello",
    "una",
    "sted",
    "vik",
    "lund",
    "esta",
    "ora",
    "holm",
]
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
# A shop's own word for a colour family; said of a quarter of the items only.
_HUE_WORDS = {
    "ember": "fiery",
    "honey": "sunny",
    "meadow": "fresh green",
    "lagoon": "sea-coloured",
    "midnight": "deep blue",
    "plum": "purple",
    "rose": "soft pink",
    "slate": "nearly black",
    "cream": "pale",
}


@dataclass(frozen=True)
class Words:
    """Title and description (None where the shop wrote nothing), material, and whether it is natural."""

    title: str | None
    description: str | None
    material: str
    natural: bool


def write_words(category: str, look: Look, rng: np.random.Generator) -> Words:
    """Words for an item. About 3% have no text at all, 8% more no description, and 25% name their colour family."""
    which = int(rng.integers(4))
    material = MATERIALS[category][which]
    name = f"{rng.choice(_ONE)}{rng.choice(_TWO)}"
    title = f"{name} {material} {category}"
    sentences = [str(rng.choice(_USE[category])), str(rng.choice(_CARE))]
    if rng.random() < 0.25:
        sentences.insert(0, f"A {_HUE_WORDS[look.scheme]} piece.")
    luck = rng.random()
    return Words(
        title=None if luck < 0.03 else title,
        description=None if luck < 0.11 else " ".join(sentences),
        material=material,
        natural=which < 2,
    )
