"""Toys, whose names tell what they are, and some of them by whom and of what."""

from __future__ import annotations

import numpy as np

from palate.pretraining.words.domain import Aspect, Domain, capitals, unchanged
from palate.pretraining.words.names import brand

# Kind as a preference names it -> as the shop writes it.
_KINDS = {
    "kites": "Kite",
    "puzzles": "Puzzle",
    "building blocks": "Building Blocks",
    "dolls": "Doll",
    "toy trains": "Toy Train",
    "toy cars": "Toy Car",
    "spinning tops": "Spinning Top",
    "puppets": "Puppet",
    "drums": "Drum",
    "xylophones": "Xylophone",
    "rocking horses": "Rocking Horse",
    "marble runs": "Marble Run",
    "doll's houses": "Doll's House",
    "teddy bears": "Teddy Bear",
    "yo-yos": "Yo-Yo",
    "toy kitchens": "Toy Kitchen",
    "scooters": "Scooter",
    "bath boats": "Bath Boat",
    "craft kits": "Craft Kit",
    "telescopes": "Telescope",
    "robots": "Robot",
    "rattles": "Rattle",
    "balls": "Ball",
    "magic sets": "Magic Set",
}
# fmt: off
_MATERIALS = (
    "wood", "felt", "cotton", "rubber", "tin", "plastic", "cardboard", "bamboo", "wool", "cork", "steel", "silicone",
    "foam", "paper",
)
_AGES = (
    "babies", "toddlers", "preschoolers", "schoolchildren", "teenagers", "grown-ups", "the whole family",
)
_ADJECTIVES = (
    "Jolly", "Rainbow", "Giant", "Mini", "Classic", "Clever", "Tumbling", "Sunny", "Moonlight", "Deluxe", "Pocket",
    "Wobbly", "Singing", "First", "Super", "Sleepy",
)
_THEMES = (
    "Dragon", "Safari", "Pirate", "Space", "Farmyard", "Ocean", "Dinosaur", "Circus", "Forest", "Castle", "Arctic",
    "Ladybird", "Rocket", "Garden",
)
# fmt: on


def _singular(kind: str, rng: np.random.Generator) -> str:
    return _KINDS[kind]


TOYS = Domain(
    name="toys",
    aspects={
        "category": Aspect("{}", tuple(_KINDS), shown=_singular),
        "material": Aspect("made of {}", _MATERIALS, most=2, shown=capitals),
        "brand": Aspect("by {}", brand, shown=unchanged),
        "age": Aspect("for {}", _AGES),
    },
    titles=(
        "{brand} {adjective} {category}",
        "{brand} {theme} {category}",
        "{adjective} {theme} {category}",
        "{theme} {category}",
        "{theme} {category}, {material}",
        "{adjective} {material} {category}",
        "{adjective} {category} by {brand}",
        "{category} {theme} {adjective}",
    ),
    pools={"adjective": _ADJECTIVES, "theme": _THEMES},
)
