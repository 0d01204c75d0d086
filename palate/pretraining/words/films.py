"""Films, with the year in brackets as film databases write it."""

from __future__ import annotations

from palate.pretraining.words.domain import Aspect, Domain, unchanged
from palate.pretraining.words.names import person
from palate.pretraining.words.times import DECADES, year_in

# fmt: off
_GENRES = (
    "drama", "comedy", "action", "adventure", "thriller", "crime", "romance", "science fiction", "fantasy", "horror",
    "mystery", "war", "western", "noir", "musical", "documentary", "animation", "family", "sports", "history", "heist",
    "disaster", "spy", "martial arts", "road", "courtroom",
)
_COUNTRIES = (
    "France", "Japan", "India", "Italy", "Brazil", "Iran", "Korea", "Mexico", "Sweden", "Poland", "Nigeria", "Spain",
    "Germany", "Argentina", "Britain", "Denmark", "Turkey", "Senegal", "Canada", "Australia",
)
_ADJECTIVES = (
    "Silent", "Last", "Broken", "Distant", "Crimson", "Golden", "Burning", "Forgotten", "Hidden", "Wild", "Cold",
    "Long", "Second", "Secret", "Empty", "Restless", "Perfect", "Falling", "Blind", "Sweet", "Final", "Quiet",
    "Strange", "Electric", "Lost", "Borrowed",
)
_NOUNS = (
    "Harbor", "Garden", "Winter", "Witness", "River", "Promise", "Stranger", "Horizon", "Letter", "Shadow", "Road",
    "Summer", "Mirror", "Kingdom", "Station", "Dancer", "Island", "Storm", "Bridge", "Detective", "Orchard", "Circus",
    "Soldier", "Tower", "Heart", "Night", "Train", "Lighthouse", "Thief", "Daughter", "Engine", "Moon",
)
_PLACES = (
    "Lisbon", "Marrakesh", "Odessa", "Tulsa", "Kyoto", "Havana", "Glasgow", "Nairobi", "Trieste", "Alaska", "Bombay",
    "Elm Street", "Saturn", "Shanghai", "Valparaiso", "Oslo",
)
_NAMES = ("Anna", "Max", "Rosa", "Billy", "Clara", "Ivan", "Lucy", "Omar", "Stella", "Walter", "Nina", "Frankie")
_DOING = ("Chasing", "Saving", "Finding", "Losing", "Leaving", "Waiting for", "Becoming", "Forgetting", "Raising")
# fmt: on
FILMS = Domain(
    name="films",
    aspects={
        "genre": Aspect("{} films", _GENRES, most=3),
        "decade": Aspect("of {}", DECADES, field=False, shown=year_in),
        "director": Aspect("by {}", person, shown=unchanged),
        "country": Aspect("from {}", _COUNTRIES),
    },
    titles=(
        "{adjective} {noun}",
        "The {adjective} {noun}",
        "{adjective} {noun}, The",
        "{noun}, The",
        "{noun} of {place}",
        "The {noun} and the {noun1}",
        "{name}'s {noun}",
        "{doing} {name}",
        "{name} and {name1}",
        "{adjective} {noun} in {place}",
        "{doing} the {noun}",
        "A {noun} for {name}",
        "{place}",
        "{name} in {place}",
    ),
    pools={"adjective": _ADJECTIVES, "noun": _NOUNS, "place": _PLACES, "name": _NAMES, "doing": _DOING},
    ending=" ({decade})",
)
