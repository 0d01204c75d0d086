"""Songs."""

from __future__ import annotations

from palate.pretraining.words.domain import Aspect, Domain, unchanged
from palate.pretraining.words.names import artist
from palate.pretraining.words.times import DECADES, year_in

# fmt: off
_GENRES = (
    "folk", "jazz", "pop", "rock", "soul", "disco", "reggae", "country", "punk", "metal", "techno", "house", "hip-hop",
    "gospel", "bossa nova", "ambient", "swing", "funk", "grunge", "flamenco", "indie", "synth-pop", "ska", "opera",
    "afrobeat",
)
_MOODS = (
    "longing", "joy", "calm", "anger", "hope", "nostalgia", "tenderness", "wonder", "defiance", "grief", "mischief",
    "desire", "pride", "loneliness", "gratitude", "dread",
)
_ADJECTIVES = (
    "Blue", "Lonely", "Slow", "Bright", "Midnight", "Crazy", "Tender", "Heavy", "Neon", "Old", "Summer", "Paper",
    "Holy", "Velvet", "Dirty", "Easy", "Little", "Faded",
)
_NOUNS = (
    "Train", "Rain", "Heart", "Highway", "Moon", "Letter", "Fire", "River", "Telephone", "Shoes", "Radio", "Angel",
    "Window", "Ocean", "Coffee", "Sunday", "Kiss", "Ghost", "Diamond", "Street", "Morning", "Whiskey", "Balloon",
)
_PHRASES = (
    "Don't Call Me", "Take Me Back to", "Dancing with", "Walking Past", "Dreaming of", "Goodbye to", "Waiting on",
    "Ain't No", "Drive Me to", "Sing for", "Nothing but", "Falling into",
)
_NAMES = ("Maria", "Johnny", "Elena", "Ruby", "Jolie", "Sam", "Delilah", "Marcus", "Lola", "Suzanne")
# fmt: on
SONGS = Domain(
    name="songs",
    aspects={
        "genre": Aspect("{} songs", _GENRES, most=2),
        "mood": Aspect("full of {}", _MOODS),
        "artist": Aspect("by {}", artist, shown=unchanged),
        "decade": Aspect("from {}", DECADES, shown=year_in),
    },
    titles=(
        "{adjective} {noun}",
        "{phrase} the {noun}",
        "{phrase} {name}",
        "{name}",
        "{noun} and {noun1}",
        "{adjective} {adjective1} {noun}",
        "My {adjective} {noun}",
        "{name}'s {noun}",
        "{noun} in the {noun1}",
        "{adjective} {name}",
    ),
    pools={"adjective": _ADJECTIVES, "noun": _NOUNS, "phrase": _PHRASES, "name": _NAMES},
)
