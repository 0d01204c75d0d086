"""What a text may name: the titles of a catalogue, and the values of its short fields."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property

import polars as pl

from palate.data.catalogue import Catalogue
from palate.mllm.summaries.words import Words, runs, singular, spelled

_WORDS_OF_A_VALUE = 3  # at most, in a short field: a brand, a colour, a genre
_SHORT = 0.9  # share of a field's values that are no longer
_SEPARATORS = re.compile(r"[|;,]")
_QUOTED = re.compile(r"(?<!\w)['\"“‘]([^\"“”]{1,160}?)['\"”’](?!\w)")
_IN_BRACKETS_AT_END = re.compile(r"\s*\([^()]*\)\s*$")
_ARTICLE_AT_END = re.compile(r"^(.*), (the|an?)$", re.IGNORECASE)
# Words of questions and answers about any catalogue: as the value of a field they say nothing.
_GENERIC = frozenset(
    singular(
        "a all an and any both for from in item items its like liked likes mixed mood multi new no none not of old one "
        "other others picture preference product products style subject subjects taste text that the their them "
        "they thing things this title to unknown user users various visual with genre genres category colour color"
    )
)


def title_forms(title: str) -> list[str]:
    """A title as texts may spell it.

    >>> title_forms("Matrix, The (1999)")
    ['Matrix, The (1999)', 'Matrix, The', 'The Matrix']
    """
    forms = [title, _IN_BRACKETS_AT_END.sub("", title)]
    if found := _ARTICLE_AT_END.match(forms[-1]):
        forms.append(f"{found[2]} {found[1]}")
    return [form for form in dict.fromkeys(forms) if form]


class Titles:
    """Finds titles in texts.

    A title of three or more words is found whatever its case; one of two words in its own spelling, if both begin with
    a capital or a digit ("Toy Story", not "red lamp"); a single word only in quotation marks, since "Heat" and "It" are
    also words.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        self._whole: dict[Words, str] = {}
        self._spelled: dict[Words, str] = {}
        for title in titles:
            for form in title_forms(title):
                words = spelled(form)
                self._whole.setdefault(tuple(word.casefold() for word in words), title)
                if len(words) == 2 and all(word[0].isupper() or word[0].isdigit() for word in words):
                    self._spelled.setdefault(words, title)
        self._lengths = sorted({len(words) for words in self._whole if len(words) > 2}, reverse=True)

    def in_text(self, text: str) -> list[str]:
        """The titles that a text names, as the catalogue spells them, each once."""
        words = spelled(text)
        lower = [word.casefold() for word in words]
        found = [self._whole.get(run) for length in self._lengths for run in runs(lower, length)]
        found += [self._spelled.get(run) for run in runs(words, 2)]
        quotes = (tuple(word.casefold() for word in spelled(quote)) for quote in _QUOTED.findall(text))
        found += [self._whole.get(quote) for quote in quotes if quote]
        return list(dict.fromkeys(title for title in found if title is not None))


class Vocabulary:
    """Titles and values of a catalogue.

    Values are those of its *short fields*: strings, or lists of them, of which at least 90% have at most three words
    (brand, category, colour, genres; not descriptions). A string is split at ``|``, ``;`` and ``,``. Values without a
    letter, of fewer than three characters, or of nothing but words such as "other", "style" and "new" are left out.

    Args:
        catalogue: with the same items, in the same order, as the prompts show.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._texts = ["", *((text or "") for text in catalogue.texts())]
        self._words: dict[int, frozenset[str]] = {}
        self._all_titles = catalogue.titles[1:]
        values = [value for name in catalogue.text_fields for value in _short(catalogue, name)]
        self._values = {words: value for value in values if (words := _key(value))}
        self._lengths = sorted(set(map(len, self._values)), reverse=True)

    @cached_property
    def titles(self) -> Titles:
        """The titles of all items."""
        return Titles(self._all_titles)

    def words_of(self, item: int) -> frozenset[str]:
        """Singular words of an item's title and of all its text, whether a prompt shows them or not."""
        if item not in self._words:
            self._words[item] = frozenset(singular(self._texts[item]))
        return self._words[item]

    def values_in(self, text: str) -> list[str]:
        """The values that a text names, each once; of values within each other, the longest.

        Words are compared without case and in the singular.
        """
        words, start, found = singular(text), 0, []
        while start < len(words):
            length = next((n for n in self._lengths if words[start : start + n] in self._values), 0)
            if length:
                found.append(self._values[words[start : start + length]])
            start += max(1, length)
        return list(dict.fromkeys(found))


def _short(catalogue: Catalogue, name: str) -> list[str]:
    """The distinct values of a field, in order; none where it is no short field."""
    column = catalogue.frame[name].drop_nulls()
    if column.dtype == pl.String:
        values = [part.strip() for text in column.unique().sort() for part in _SEPARATORS.split(text)]
    else:
        values = column.explode().drop_nulls().unique().sort().to_list()
    values = [value for value in dict.fromkeys(values) if value]
    short = sum(len(spelled(value)) <= _WORDS_OF_A_VALUE for value in values)
    return [v for v in values if len(spelled(v)) <= _WORDS_OF_A_VALUE] if short >= _SHORT * len(values) else []


def _key(value: str) -> Words:
    """The words by which a value is found; none where it says nothing."""
    words = singular(value)
    says = len(value) > 2 and any(sign.isalpha() for sign in value) and not _GENERIC.issuperset(words)
    return words if says else ()
