"""Parses answers in words: yes or no, or one of several lettered titles."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from string import ascii_uppercase

# A title inside a longer answer counts from this length on, and in its own spelling: "It" and "big" are also words.
_TELLING = 4
_LETTER = re.compile(r"(?<![\w'’])([A-Z])(?![\w'’])")
# "A great film", "I think": words, not letters of the list; "A or B", "A is better": letters.
_WORD = {
    "A": re.compile(r"[ \t]+(?!(?:or|and|is|because|since|would|seems)\b)[a-z]"),
    "I": re.compile(r"[ \t]+(?!(?:or|and|is|because)\b)[a-z]"),
}


class Verdict(StrEnum):
    """Whether an answer can be used."""

    VALID = "valid"
    UNPARSABLE = "unparsable"
    OUT_OF_LIST = "out-of-list"
    AMBIGUOUS = "ambiguous"
    FAILED = "failed"  # there was no answer at all


@dataclass(frozen=True)
class ParsedAnswer:
    """A parsed answer.

    Attributes:
        choice: yes-no: 1 for yes, 0 for no; choose: the place in the list; None unless the verdict is valid.
    """

    verdict: Verdict
    choice: int | None = None


def read_yes_no(text: str | None) -> ParsedAnswer:
    """An answer with one of the words yes and no; with both it is ambiguous, even where a reader might guess.

    >>> read_yes_no("Yes.").choice, read_yes_no("**no**, she would not").choice
    (1, 0)
    >>> read_yes_no("Yes and no").verdict, read_yes_no("Not now").verdict
    (<Verdict.AMBIGUOUS: 'ambiguous'>, <Verdict.UNPARSABLE: 'unparsable'>)
    """
    if text is None:
        return ParsedAnswer(Verdict.FAILED)
    words = {word.lower() for word in re.findall(r"\b(?:yes|no)\b", text, re.I)}
    if len(words) == 1:
        return ParsedAnswer(Verdict.VALID, int("yes" in words))
    return ParsedAnswer(Verdict.AMBIGUOUS if words else Verdict.UNPARSABLE)


def read_choice(text: str | None, titles: Sequence[str], known: Collection[str] = ()) -> ParsedAnswer:
    """An answer that names one of ``titles`` by its letter, by the title, or by both if they agree.

    Two different ones, or a title that occurs twice in the list without a letter, are ambiguous. A letter beyond the
    list, or a title that is ``known`` but not in it, is out of the list.

    >>> titles = ["Heat", "Alien", "Plan B"]
    >>> [read_choice(one, titles).choice for one in ("B", "(c)", "The answer is A.", "Alien", "C. Plan B")]
    [1, 2, 0, 1, 2]
    >>> [str(read_choice(one, titles).verdict) for one in ("A or B", "A. Alien", "F", "A great film")]
    ['ambiguous', 'ambiguous', 'out-of-list', 'unparsable']
    """
    if text is None:
        return ParsedAnswer(Verdict.FAILED)
    bare = _bare(text)
    if len(bare) == 1 and bare.upper() in ascii_uppercase:
        return _in_list({ascii_uppercase.index(bare.upper())}, len(titles))
    named, rest = _titles_in(text, titles)
    letters = set()
    for found in _LETTER.finditer(rest):
        word = _WORD.get(found[1])
        if word is None or not word.match(rest, found.end()):
            letters.add(ascii_uppercase.index(found[1]))
    if not letters and not named:
        outside = {_bare(title) for title in known} - {_bare(title) for title in titles}
        return ParsedAnswer(Verdict.OUT_OF_LIST if bare and bare in outside else Verdict.UNPARSABLE)
    places: set[int] = set(letters)
    for same in named:  # places that share a title: a letter may say which one is meant
        places |= (same & letters) or same
    return _in_list(places, len(titles))


def _in_list(places: set[int], length: int) -> ParsedAnswer:
    if len(places) > 1:
        return ParsedAnswer(Verdict.AMBIGUOUS)
    (place,) = places
    return ParsedAnswer(Verdict.VALID, place) if place < length else ParsedAnswer(Verdict.OUT_OF_LIST)


def _bare(text: str) -> str:
    """Without case, and without what surrounds or separates words.

    >>> _bare(' **"Plan  B"** ')
    'plan b'
    """
    return " ".join(re.sub(r"[^\w'’]+", " ", text.casefold()).split())


def _titles_in(text: str, titles: Sequence[str]) -> tuple[list[set[int]], str]:
    """Places of the titles that occur (those of one title together), and the text without them."""
    by_title: dict[str, set[int]] = {}
    for place, title in enumerate(titles):
        by_title.setdefault(title.strip(), set()).add(place)
    whole = _bare(re.sub(r"^\W*[A-Za-z][.):\]]", "", text))
    alike: set[int] = set()
    for title, places in by_title.items():
        if title and whole and whole == _bare(title):
            alike |= places
    if alike:
        return [alike], _lead(text)
    named = []
    for title in sorted(by_title, key=len, reverse=True):
        pattern = rf"(?<!\w){re.escape(title)}(?!\w)"
        if len(title) >= _TELLING and re.search(pattern, text):
            text = re.sub(pattern, " ", text)
            named.append(by_title[title])
    return named, text


def _lead(text: str) -> str:
    """The letter in front of a title, if there is one.

    >>> _lead("(b) Alien"), _lead("Alien")
    ('B', '')
    """
    found = re.match(r"^\W*([A-Za-z])[.):\]]", text)
    return found[1].upper() if found else ""
