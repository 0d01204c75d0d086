"""Names of people, bands and brands that do not exist, made of syllables."""

from __future__ import annotations

import numpy as np

# fmt: off
_FIRST = (
    "Ma", "Li", "To", "Ra", "Sel", "Jo", "Ka", "Ire", "Da", "An", "Bo", "Fe", "Hu", "Ni", "Os", "Pe", "Vi", "Yu", "El",
    "Gre", "Sa", "Te", "Lu", "Ama", "Ko", "Ed",
)
_FIRST_END = ("ra", "na", "mas", "lia", "rik", "no", "ko", "mon", "la", "vin", "ris", "da", "ni", "to", "wen", "bel")
_LAST = (
    "Kov", "Bran", "Hol", "Mar", "Tan", "Ver", "Ros", "Lind", "Oka", "Sor", "Del", "Fay", "Gar", "Ibar", "Jan", "Mbe",
    "Nak", "Pell", "Quin", "Sten", "Ulv", "Wex", "Zam", "Cor", "Haj", "Rao",
)
_LAST_END = (
    "alen", "berg", "dez", "ström", "ova", "iani", "eki", "well", "man", "uchi", "etti", "ard", "sen", "ides", "oye",
    "court", "ić", "ley", "aro", "inski",
)
_BRAND = (
    "Tik", "Bru", "Zan", "Lo", "Mip", "Kub", "Fen", "Nor", "Pla", "Wob", "Gri", "Hap", "Jol", "Rum", "Sno", "Vel",
    "Oti", "Dap", "Cli", "Yom",
)
_BRAND_END = ("ko", "ix", "ella", "bo", "ster", "ini", "do", "werk", "la", "ado", "ora", "kin", "zo", "mo", "ette")
_BAND = (
    "Paper", "Velvet", "Electric", "Northern", "Lazy", "Crooked", "Glass", "Copper", "Midnight", "Distant", "Holy",
    "Broken", "Sunday", "Silver", "Plastic", "Hollow", "Golden", "Salt",
)
_BAND_END = (
    "Lanterns", "Foxes", "Parade", "Engines", "Harbours", "Sisters", "Pilots", "Orchard", "Satellites", "Wolves",
    "Avenue", "Choir", "Kites", "Ghosts", "Tigers", "Radio", "Mirrors", "Strangers",
)
# fmt: on


def person(rng: np.random.Generator) -> str:
    """First name and last name."""
    return f"{_of(_FIRST, rng)}{_of(_FIRST_END, rng)} {_of(_LAST, rng)}{_of(_LAST_END, rng)}"


def brand(rng: np.random.Generator) -> str:
    """One word, or two joined by "&"."""
    name = f"{_of(_BRAND, rng)}{_of(_BRAND_END, rng)}"
    return name if rng.random() < 0.8 else f"{name} & {_of(_LAST, rng)}{_of(_LAST_END, rng)}"


def artist(rng: np.random.Generator) -> str:
    """A person, or a band of two words."""
    return person(rng) if rng.random() < 0.6 else f"{_of(_BAND, rng)} {_of(_BAND_END, rng)}"


def _of(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[rng.integers(len(words))]
