"""What an answer must not be: empty, an error page, a loop, a leak of the chat template."""

from __future__ import annotations

import re
from collections import Counter

_MIN_WORDS = 3
_MIN_LETTERS = 0.5  # of all that is neither space nor a mark
# Special tokens of the chat templates in use, written out as text.
_TEMPLATE = re.compile(
    r"<\|[a-z_0-9 ]{2,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(start|end)_of_turn>|<(end_of_utterance|eos|bos|pad|unk)>"
    r"|</?(think|image|image_soft_token)>|<\uff5c[^>]{1,40}\uff5c>|^### ?(instruction|response|user|assistant)\b",
    re.IGNORECASE | re.MULTILINE,
)
_PAGE = re.compile(r"^\s*<(!doctype|html|head|body|\?xml|center|title|h1)\b", re.IGNORECASE)
_JSON = re.compile(r"^\s*(```\w*\s*)?[\[{].*[\]}]\s*(```)?\s*$", re.DOTALL)
_SPAN = 4  # words in a row that may not come again and again ...
_TIMES = 4  # ... this often


def check_summary(text: str) -> str | None:
    """What makes a text useless as a summary, in a few words; None where nothing does.

    It finds what broken servers and lost models say, not poor writing.

    >>> check_summary("Likes warm colours, hand-made mugs and simple shapes.")
    >>> check_summary("<html><body><h1>502 Bad Gateway</h1></body></html>")
    'a web page, not an answer'
    >>> check_summary("a red mug, " * 40)
    'the same words over and over'
    """
    words = re.findall(r"\w+", text.lower())
    if not text.strip():
        return "empty"
    if _PAGE.search(text):
        return "a web page, not an answer"
    if _JSON.match(text):
        return "JSON, not prose"
    if found := _TEMPLATE.search(text):
        return f"holds a piece of a chat template ({found.group().strip()[:40]})"
    visible = [sign for sign in text if not sign.isspace()]
    letters = sum(sign.isalpha() for sign in visible)
    if letters < _MIN_LETTERS * len(visible):
        return "mostly not letters"
    # Chinese, Japanese and Thai write no spaces between words: there, signs count.
    unspaced = sum(sign.isalpha() and ord(sign) >= 0x0E00 for sign in text) > letters / 2
    if unspaced:
        words = [sign for sign in text if sign.isalpha()]
    if len(words) < _MIN_WORDS:
        return "fewer than three words"
    if "\ufffd" in text and text.count("\ufffd") > len(visible) / 20:
        return "broken characters"
    return "the same words over and over" if _loops(words) else None


def _loops(words: list[str]) -> bool:
    """Whether most of a text is one phrase again and again."""
    if len(words) < _SPAN * _TIMES:
        # A short text of one or two words only.
        return len(words) >= 2 * _SPAN and len(set(words)) <= 2
    grams = Counter(tuple(words[start : start + _SPAN]) for start in range(len(words) - _SPAN + 1))
    # A phrase that comes back at least four times, in a text that is made of few different phrases.
    return max(grams.values()) >= _TIMES and len(grams) < 0.5 * (len(words) - _SPAN + 1)
