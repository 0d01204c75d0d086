"""Board games and video games."""

from __future__ import annotations

from palate.pretraining.words.domain import Aspect, Domain, unchanged
from palate.pretraining.words.names import brand

# fmt: off
_GENRES = (
    "strategy", "puzzle", "racing", "card", "role-playing", "party", "quiz", "dice", "simulation", "platform",
    "survival", "farming", "fighting", "word", "memory", "stealth", "tile-laying", "dungeon", "rhythm", "pinball",
)
_THEMES = (
    "pirates", "space travel", "trains", "ancient Egypt", "zombies", "dragons", "cooking", "gardening", "vampires",
    "deep-sea diving", "knights", "bees", "time travel", "detectives", "trade", "football", "archaeology", "robots",
    "ninjas", "birds",
)
_FEATURES = (
    "short rounds", "long campaigns", "hand-drawn art", "open worlds", "level editors", "team play", "solo play",
    "hidden roles", "auctions", "daily challenges", "strong stories", "simple rules",
)
_FIRST = (
    "Iron", "Lost", "Tiny", "Star", "Shadow", "Rise of", "Tales of", "Legends of", "Secrets of", "Masters of", "Mad",
    "Beyond", "Return to", "Little", "Neon", "Escape from",
)
_SECOND = (
    "Harbor", "Empire", "Valley", "Frontier", "Citadel", "Labyrinth", "Caravan", "Reef", "Temple", "Outpost", "Colony",
    "Bazaar", "Summit", "Wastes", "Meadow", "Galaxy", "Manor", "Lagoon", "Foundry", "Observatory",
)
_LAST = ("Deluxe", "Rivals", "Reborn", "Online", "Stories", "Express", "Duel", "Origins", "Arena", "Odyssey", "Quest")
# fmt: on
GAMES = Domain(
    name="games",
    aspects={
        "genre": Aspect("{} games", _GENRES, most=2),
        "theme": Aspect("about {}", _THEMES),
        "feature": Aspect("with {}", _FEATURES, most=2),
        "studio": Aspect("by {}", brand, shown=unchanged),
    },
    titles=(
        "{first} {second}",
        "{second} {last}",
        "{first} {second}: {last}",
        "{second} and {second1}",
        "{second}: {first} {second1}",
        "{first} {second} II",
        "{second} of {second1}",
    ),
    pools={"first": _FIRST, "second": _SECOND, "last": _LAST},
)
