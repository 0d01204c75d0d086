"""Words of a text, and runs of them, for comparing texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Words = tuple[str, ...]

# Thai, Japanese and Chinese write no spaces between words: there, each sign is one.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?;。！？]+(?:\s+|$)")
_POSSESSIVE = re.compile(r"['’]s?$")


def spelled(text: str) -> Words:
    """The words of a text as it spells them.

    >>> spelled("Film-Noir, the user's favourite")
    ('Film', 'Noir', 'the', "user's", 'favourite')
    """
    return tuple(_WORD.findall(text))


def folded(text: str) -> Words:
    """The words of a text without case."""
    return spelled(text.casefold())


def singular(text: str) -> Words:
    """The words of a text without case, possessives and the plurals of English, so that "mugs" is "mug".

    >>> singular("Dresses, glass boxes and the Children's stories")
    ('dress', 'glass', 'box', 'and', 'the', 'children', 'story')
    """
    return tuple(_singular(_POSSESSIVE.sub("", word)) for word in folded(text))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def sentences(text: str) -> list[Words]:
    """The words of each sentence, without case; one that was cut off at the end is one too."""
    return [words for part in _SENTENCE_END.split(text) if (words := folded(part))]


def runs(words: Sequence[str], length: int) -> list[Words]:
    """Every run of ``length`` words, in order (n-grams)."""
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]


def longest_shared_run(words: Sequence[str], others: Iterable[Sequence[str]]) -> int:
    """Length in words of the longest run of ``words`` that one of ``others`` has as well.

    >>> longest_shared_run(folded("likes a red paper lamp"), [folded("Red paper lamp, small"), folded("a red")])
    3
    """
    other_words = list(others)

    def is_shared(length: int) -> bool:
        there = {run for other in other_words for run in runs(other, length)}
        return any(run in there for run in runs(words, length))

    shared, too_long = 0, len(words) + 1
    while too_long - shared > 1:  # a shared run holds shared runs of every smaller length
        length = (shared + too_long) // 2
        shared, too_long = (length, too_long) if is_shared(length) else (shared, length)
    return shared
