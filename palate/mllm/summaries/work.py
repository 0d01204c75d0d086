"""Writes the missing steps: each once, as soon as the one before it is there; and checks the answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from palate.mllm.backends.base import Backend, ModelRequest, Reply
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.sanitise import sanitise_summary
from palate.mllm.summaries.steps import SummaryStep
from palate.progress import track

Ask = Callable[[SummaryStep, str | None], Chat]
# Called for every reply: the step, its text (None: it failed) and the reply; a text is stored when this returns.
Keep = Callable[[SummaryStep, str | None, Reply], None]
NO_ANSWER = "the backend gave no answer"

# What an answer must not be: empty, an error page, a loop, a leak of the chat template.
_MIN_WORDS = 2
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


@dataclass
class WorkOutcome:
    """The outcome of steps.

    Attributes:
        written: number of new texts.
        left: keys that a limit left for later.
        failed: why there is no text, by key; with the steps that follow a failed one.
    """

    written: int = 0
    left: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)


def missing_steps(chains: Iterable[Sequence[SummaryStep]], texts: Mapping[str, str]) -> list[SummaryStep]:
    """The steps without which the last one of some chain has no text, each once and after the one before it."""
    missing: dict[str, SummaryStep] = {}
    for chain in chains:
        first = len(chain)
        while first and chain[first - 1].key not in texts and chain[first - 1].key not in missing:
            first -= 1
        missing.update((step.key, step) for step in chain[first:])
    return list(missing.values())


def write_steps(
    steps: Sequence[SummaryStep],
    texts: Mapping[str, str],
    ask: Ask,
    keep: Keep,
    backend: Backend,
    *,
    max_new_tokens: int,
    limit: int | None = None,
    description: str | None = None,
    outcome: WorkOutcome | None = None,
) -> WorkOutcome:
    """Have the texts of ``steps`` written.

    Args:
        steps: of :func:`missing_steps`.
        texts: by key; ``keep`` adds to it.
        limit: of steps; a chain's come one after another, so early users are finished first.
        description: of the progress bar; None: no bar.
        outcome: filled as work goes on, for callers that need it even where this raises.

    Raises:
        PalateError: the backend cannot work at all.
    """
    now = steps if limit is None else steps[:limit]
    outcome = outcome or WorkOutcome()
    outcome.left.update(step.key for step in steps[len(now) :])
    open_steps = {step.key: step for step in now}
    following: dict[str, list[SummaryStep]] = {}
    for step in now:
        if step.previous is not None and step.previous in open_steps:
            following.setdefault(step.previous, []).append(step)
    ticks = track(range(len(now) + 1), description, total=len(now)) if description and now else iter(())
    next(ticks, None)

    def request(step: SummaryStep) -> ModelRequest:
        so_far = None if step.previous is None else texts[step.previous]
        return ModelRequest(step.key, ask(step, so_far), max_new_tokens)

    def starts() -> Iterator[ModelRequest]:
        # A copy: what is done leaves open_steps while this is still being read.
        for step in now:
            if step.previous is None or step.previous not in open_at_first:
                yield request(step)

    def done(reply: Reply) -> Iterable[ModelRequest]:
        step = open_steps.pop(reply.key, None)
        if step is None:
            return []
        next(ticks, None)
        text = sanitise_summary(reply.text or "")
        if not text:
            keep(step, None, reply)
            outcome.failed[step.key] = reply.error or "nothing was left of the answer"
            return []
        keep(step, text, reply)
        outcome.written += 1
        return [request(one) for one in following.get(step.key, ())]

    open_at_first = frozenset(open_steps)
    try:
        if now:
            backend.work(starts(), done, check_summary)
    finally:
        close = getattr(ticks, "close", None)
        if close is not None:
            close()
    # In order, so that a failure is passed on along its chain.
    for step in now:
        if step.key in open_steps:
            before = outcome.failed.get(step.previous or "")
            outcome.failed[step.key] = NO_ANSWER if before is None else before
    return outcome


def check_summary(text: str) -> str | None:
    """What makes a text useless as a summary, in a few words; None where nothing does.

    It finds answers of broken servers and lost models, not poor writing.

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
        return "a single word"
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
