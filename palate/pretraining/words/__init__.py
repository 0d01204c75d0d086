"""Word lists of the catalogues that have no pictures: one file per domain, and how they are put together."""

from __future__ import annotations

from palate.pretraining.words.books import BOOKS
from palate.pretraining.words.dishes import DISHES
from palate.pretraining.words.domain import Aspect, Domain
from palate.pretraining.words.films import FILMS
from palate.pretraining.words.games import GAMES
from palate.pretraining.words.songs import SONGS
from palate.pretraining.words.toys import TOYS

DOMAINS: dict[str, Domain] = {one.name: one for one in (FILMS, SONGS, DISHES, BOOKS, TOYS, GAMES)}

__all__ = ["DOMAINS", "Aspect", "Domain"]
