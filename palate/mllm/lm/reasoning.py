"""A reasoning model's thoughts in its text: where they begin and end, and the answer that follows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from palate.errors import PalateError
from palate.mllm.lm.families import thought_marks


def answer_text(text: str, opened: bool = False) -> str | None:
    """The answer alone, stripped: without the thought before it; None where a thought was cut off.

    Args:
        opened: whether the prompt ends within a thought, so that the text begins in it.

    >>> answer_text("<think>The user likes red.</think> Warm colours. ")
    'Warm colours.'
    >>> answer_text("The user likes red.</think> Warm colours.")
    'Warm colours.'
    >>> answer_text("<think>The user likes"), answer_text("The user likes", opened=True)
    (None, None)
    """
    answer = text.strip()
    while True:
        for start, close in thought_marks():
            begun, end = answer.startswith(start), answer.find(close)
            if begun and end < 0:
                return None
            # A mark in the middle of an answer is none of a thought before it.
            if end >= 0 and (begun or opened or start not in answer[:end]):
                answer, opened = answer[end + len(close) :].strip(), False
                break
        else:
            return None if opened else answer


def thought_cut_off() -> PalateError:
    """The error of an answer that is only a thought without an end."""
    return PalateError(
        "the model's thought was cut off before an answer",
        "Allow more with --max-new-tokens, or switch thinking off, for most models with --chat-template-kwargs "
        """'{"enable_thinking": false}'.""",
    )


def open_thought(text: str) -> tuple[str, str] | None:
    """The marks of the thought that ``text`` ends in, if it ends in one.

    >>> open_thought("<|assistant|><think>\\n"), open_thought("<|assistant|><think></think>")
    (('<think>', '</think>'), None)
    """
    for start, close in thought_marks():
        place = text.rfind(start)
        if place >= 0 and close not in text[place:] and not re.search(r"\S", text[place + len(start) :]):
            return start, close
    return None


class Thoughts:
    """Removes thoughts from the tokens that a model writes.

    Some tokenizers leave the marks out of the text as special tokens, and a thought would pass for the answer.

    Args:
        opened: whether prompts end within a thought.
    """

    def __init__(self, tokenizer: Any, opened: bool) -> None:
        self.tokenizer, self.opened = tokenizer, opened
        special = set(tokenizer.all_special_ids)
        marks = [[tokenizer(mark, add_special_tokens=False)["input_ids"] for mark in pair] for pair in thought_marks()]
        self._hidden = [pair for pair in marks if all(special & set(ids) for ids in pair)]

    def answer(self, ids: Sequence[int]) -> str | None:
        """The answer in the tokens ``ids``; None where a thought was cut off."""
        rest, opened = list(ids), self.opened
        for start, close in self._hidden:
            place = _last(rest, close)
            if place is not None:
                rest, opened = rest[place + len(close) :], False
            if _last(rest, start) is not None:
                return None
        return answer_text(self.tokenizer.decode(rest, skip_special_tokens=True), opened)


def _last(ids: Sequence[int], part: Sequence[int]) -> int | None:
    """Where ``part`` occurs last.

    >>> _last([1, 2, 3, 2, 3], [2, 3]), _last([1], [2])
    (3, None)
    """
    places = range(len(ids) - len(part), -1, -1)
    return next((place for place in places if list(ids[place : place + len(part)]) == list(part)), None)
