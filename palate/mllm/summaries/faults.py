"""Faults of written texts: they repeat themselves, copy the prompt, or name what it did not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from palate.mllm.prompts.items import Items
from palate.mllm.summaries.vocabulary import Titles, Vocabulary
from palate.mllm.summaries.words import folded, longest_shared_run, runs, sentences, singular

_SPAN = 4  # words of a run that should not come again
_REPEATED = 0.2  # share of runs that came before, from which a text repeats itself ...
_TIMES = 3  # ... as it does where one run is there this often
_SENTENCE = 3  # words of a sentence that should not come again
_COPY = 6  # words in a row that make a copy, if they are ...
_OF_ITEMS = 0.5  # ... this share of the text and one item's
_OF_SO_FAR = 0.9  # ... or this share and the preference's so far: what still holds may stay in its words


@dataclass(frozen=True)
class TextFaults:
    """What is wrong with one text.

    Attributes:
        words: of the text.
        repeated: share (0 to 1) of its runs of four words that came before in it.
        most_times: how often the most frequent of these runs is there; 0 below four words.
        same_sentence: whether a sentence of three or more words comes twice.
        copied: longest run of words that the line of one item has as well, as a share (0 to 1) of the text's words.
        kept: the same, of the preference so far.
        unchanged: whether it is the preference so far, word for word.
        quoted: titles of the items it was shown, as far as it names them.
        unseen: titles and values of the catalogue that it names, and neither those items nor the preference so far
            have.
    """

    words: int
    repeated: float
    most_times: int
    same_sentence: bool
    copied: float
    kept: float
    unchanged: bool
    quoted: tuple[str, ...]
    unseen: tuple[str, ...]

    @property
    def repeats(self) -> bool:
        """A sentence comes twice, a run of four words three times, or a fifth of these runs came before."""
        return self.same_sentence or self.most_times >= _TIMES or self.repeated >= _REPEATED

    @property
    def copies(self) -> bool:
        """It quotes a title, is half or more one run of an item's line, nine tenths one run of the preference so far
        (runs of six or more words), or is that preference."""
        of_items = self.copied >= _OF_ITEMS and self.copied * self.words >= _COPY
        of_so_far = self.kept >= _OF_SO_FAR and self.kept * self.words >= _COPY
        return bool(self.quoted) or of_items or of_so_far or self.unchanged

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its faults, of :data:`FAULTS`."""
        has = (self.repeats, self.copies, self.unchanged, bool(self.unseen))
        return tuple(name for name, found in zip(FAULTS, has, strict=True) if found)


# The unchanged ones are among those that copy.
FAULTS = ("repeats", "copies", "unchanged", "unseen")


def repetition(words: Sequence[str]) -> tuple[float, int]:
    """Share of the runs of four words that came before, and how often the most frequent one is there.

    >>> repetition(folded("warm colours and soft lines, warm colours and soft lines"))
    (0.2857142857142857, 2)
    """
    found = Counter(runs(words, _SPAN))
    return (1 - len(found) / found.total(), max(found.values())) if found else (0.0, 0)


def find_faults(
    text: str,
    lines: Sequence[str],
    so_far: str | None,
    titles: Collection[str],
    vocabulary: Vocabulary,
    known: Collection[str],
) -> TextFaults:
    """The faults of a text.

    Args:
        lines: one per item that was shown: its title and text.
        so_far: the preference that the prompt showed; None where there was none.
        titles: those that the text should not quote.
        vocabulary: of the catalogue.
        known: singular words that the text may name, beside those of ``lines`` and ``so_far``.
    """
    words = folded(text)
    before = folded(so_far or "")
    length = max(1, len(words))
    seen = {*known, *singular(so_far or ""), *(word for line in lines for word in singular(line))}
    named = [*vocabulary.titles.in_text(text), *vocabulary.values_in(text)]
    repeated, most_times = repetition(words)
    full = [sentence for sentence in sentences(text) if len(sentence) >= _SENTENCE]
    return TextFaults(
        words=len(words),
        repeated=repeated,
        most_times=most_times,
        same_sentence=len(set(full)) < len(full),
        copied=longest_shared_run(words, [folded(line) for line in lines]) / length,
        kept=longest_shared_run(words, [before]) / length,
        unchanged=bool(words) and words == before,
        quoted=tuple(Titles(titles).in_text(text)),
        unseen=tuple(name for name in dict.fromkeys(named) if not _is_seen(name, seen)),
    )


def _is_seen(name: str, seen: Collection[str]) -> bool:
    """Whether all words of a title or value are among those seen."""
    return all(word in seen for word in singular(name))


class TextCheck:
    """Finds the faults of texts that were written of a catalogue's items.

    Args:
        items: as the prompts show them.
        vocabulary: of the same catalogue.
    """

    def __init__(self, items: Items, vocabulary: Vocabulary) -> None:
        self.items, self.vocabulary = items, vocabulary

    def preference(self, text: str, block: Sequence[int], so_far: str | None) -> TextFaults:
        """Of a preference.

        Args:
            block: indices of the items that its prompt showed.
            so_far: the preference that it showed.
        """
        lines = [self._line(item, self.items.summary(item) or self.items.text(item)) for item in block]
        known = frozenset[str]().union(*(self.vocabulary.words_of(item) for item in block))
        titles = [self.items.title(item) for item in block]
        return find_faults(text, lines, so_far, titles, self.vocabulary, known)

    def item(self, text: str, item: int) -> TextFaults:
        """Of an item summary, which may name the title of its item."""
        line = self._line(item, self.items.text(item))
        return find_faults(text, [line], None, (), self.vocabulary, self.vocabulary.words_of(item))

    def _line(self, item: int, more: str) -> str:
        return f"{self.items.title(item)}: {more}"
