"""Books."""

from __future__ import annotations

from palate.pretraining.words.domain import Aspect, Domain, unchanged
from palate.pretraining.words.names import person
from palate.pretraining.words.times import PERIODS, year_in

# fmt: off
_GENRES = (
    "fantasy", "mystery", "poetry", "travel", "biography", "romance", "horror", "adventure", "cookery", "philosophy",
    "satire", "fairy-tale", "detective", "science fiction", "nature", "history", "self-help", "coming-of-age", "war",
    "essay", "spy", "humour", "short-story", "gothic",
)
_SETTINGS = (
    "the desert", "the mountains", "harbour towns", "boarding schools", "space", "the countryside", "big cities",
    "the Arctic", "royal courts", "small villages", "the jungle", "monasteries", "hospitals", "the suburbs",
    "old castles", "the underworld", "theatres", "prisons", "the islands", "universities",
)
_ADJECTIVES = (
    "Invisible", "Patient", "Wandering", "Salt", "Unwritten", "Ancient", "Clockwork", "Drowned", "Paper", "Winter",
    "Faithful", "Narrow", "Borrowed", "Hungry", "Seventh", "Bitter", "Painted", "Gentle",
)
_NOUNS = (
    "Library", "Cartographer", "Sparrow", "Inheritance", "Clockmaker", "Forest", "Atlas", "Widow", "Apprentice",
    "Lantern", "Winter", "Bone", "Alphabet", "Ferry", "Oath", "Bees", "Cathedral", "Salt", "Wolf", "Teacup", "Exile",
    "Pilgrim", "Ledger", "Garden", "Map", "Key",
)
_THINGS = (
    "Silence", "Memory", "Rain", "Glass", "Mercy", "Dust", "Longing", "Stone", "Light", "Ash", "Small Hours", "Tides",
)
_TOPICS = ("Bread", "Walking", "Loss", "Gardens", "Whales", "Money", "Sleep", "Trees", "Friendship", "Weather", "Maps")
# fmt: on
BOOKS = Domain(
    name="books",
    aspects={
        "genre": Aspect("{} books", _GENRES, most=2),
        "setting": Aspect("set in {}", _SETTINGS, shown=unchanged),
        "author": Aspect("by {}", person, shown=unchanged),
        "period": Aspect("from {}", PERIODS, shown=year_in),
    },
    titles=(
        "The {adjective} {noun}",
        "The {noun} of {thing}",
        "{adjective} {thing}",
        "A {noun} of {thing} and {thing1}",
        "The {noun}'s {noun1}",
        "On {topic}",
        "A Short History of {topic}",
        "Notes on {topic} and {topic1}",
        "The {noun} and the {noun1}",
        "What the {noun} Knew",
        "{thing}",
        "{thing}: A Life",
        "The {adjective} {noun}'s Guide to {topic}",
        "Letters to a {adjective} {noun}",
    ),
    pools={"adjective": _ADJECTIVES, "noun": _NOUNS, "thing": _THINGS, "topic": _TOPICS},
)
