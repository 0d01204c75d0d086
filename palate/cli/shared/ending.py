"""How a command ends that is interrupted: by Ctrl-C, or by SIGTERM, which schedulers and containers send."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType

from palate.runs import RESUMABLE
from palate.runs.manual_stop import AskTwice

INTERRUPTED, TERMINATED = 130, 128 + signal.SIGTERM

_AGAIN = ("encode", "summarise items", "summarise users", "tune", "compare", "demo", "mllm warm-up", "mllm pretrain")

_received = threading.Event()


def command_of(words: Sequence[str]) -> str:
    """The command that a command line names: its first word, or two of them.

    >>> command_of(["train", "data/shop"]), command_of(["mllm", "sft", "data/shop"]), command_of(["--version"])
    ('train', 'mllm sft', '')
    """
    named = [word for word in words[:2] if not word.startswith("-")]
    return " ".join(named if named[:1] in (["mllm"], ["summarise"]) else named[:1])


def end_like_ctrl_c(command: str) -> None:
    """Let SIGTERM do what Ctrl-C does, so that what is half-written is removed and a sentence says how to go on.

    ``serve`` has an end of its own. Of several workers one may wait for the others in a call that no interruption
    reaches, and their launcher ends them by this signal: they die at once, as ever.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if command == "serve" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    process = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a child that was forked
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        _received.set()
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler) and not isinstance(handler, AskTwice):  # an event loop has a handler of its own
            signal.raise_signal(signal.SIGINT)
        else:  # a shell's background job ignores Ctrl-C, and a training asks what a scheduler does not answer
            raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def exit_code_of(error: BaseException) -> object:
    """The code that a command ends with; 130 where the error is one of being interrupted.

    Libraries that are interrupted in the middle of writing, or tidy up after it, may end in an error of their own.
    """
    if isinstance(error, SystemExit):
        return error.code
    one: BaseException | None = error
    while one is not None:
        if isinstance(one, KeyboardInterrupt):
            return INTERRUPTED
        one = one.__cause__ or one.__context__
    return INTERRUPTED if _received.is_set() else None


def last_words(code: object, command: str) -> tuple[int, str] | None:
    """The exit code and the sentence of an interrupted command; None for another end."""
    if code not in (INTERRUPTED, TERMINATED):
        return None
    terminated = code == TERMINATED or _received.is_set()
    what = "Terminated" if terminated else "Interrupted"
    return TERMINATED if terminated else INTERRUPTED, f"{what}. {_how(command)}".rstrip()


def _how(command: str) -> str:
    if command == "serve":
        return ""
    if command in RESUMABLE:
        return "What is finished is kept: the same command with --resume goes on from there."
    if command in _AGAIN:
        return "What is finished is kept: the same command goes on from there."
    return "Nothing is left half-written: the same command starts again."
