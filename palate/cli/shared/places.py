"""URLs in place of paths: options become paths of this machine before a command sees them.

A command reads copies, and writes to working folders, which are sent when it is done; what it prints names the URLs.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from palate.console import spelt
from palate.errors import PalateError

if TYPE_CHECKING:
    from palate.storage.remote import Sending

# Parameters besides --out that a command writes to, by the command's own name.
_WRITTEN = {
    "encode": {"dataset"},
    "items": {"dataset"},
    "users": {"dataset"},
    "train": {"finish"},
    "track": {"paths"},
    "serve": {"feedback"},
}
# Of a table of all users the parts are sent as they fill: see palate.rankers.remote_table.
_STREAMED = {("recommend", "out")}
# In a text, a URL may stand behind a name or between commas, as in NAME=RUN,RUN. Addresses of servers are left alone.
_IN_TEXT = re.compile(r"(?<![^=,])(?!https?://|data:|ray://|grpc|tcp://)[a-z][a-z0-9+.-]*://[^,\s]+")
_SENDING = "palate.sending"


def let_take_urls(parameter: Any, command: str, is_path: bool) -> None:
    """Let a parameter take URLs, in options and recipes alike.

    Args:
        is_path: whether its values are paths; in other texts URLs may stand.
    """
    name = str(parameter.name)
    if (command, name) in _STREAMED:
        return
    written = is_written(command, name)
    process: Callable[[Any, Any], Any] = parameter.process_value

    def placed(context: Any, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(placed(context, one) for one in value)
        if not isinstance(value, str) or "://" not in value or context.resilient_parsing:
            return value
        if is_path:
            return _placed(context, value, written)
        return _IN_TEXT.sub(lambda found: _placed(context, found[0], written), value)

    parameter.process_value = lambda context, value: process(context, placed(context, value))


def is_written(command: str, parameter: str) -> bool:
    """Whether a command writes to what a parameter names."""
    return parameter in ("out", "publish") or parameter in _WRITTEN.get(command, ())


def _placed(context: Any, place: str, written: bool) -> str:
    from palate.storage.remote import is_url, local

    if not is_url(place):
        return place
    if written:
        return str(_sending(context).open(place))
    known: dict[str, str] = context.meta.setdefault("palate.places", {})  # a recipe's values are looked at twice
    if place not in known:
        known[place] = str(local(place))
    return known[place]


def _sending(context: Any) -> Sending:
    from palate.runs.launch import is_first_worker
    from palate.storage.remote import Sending

    everywhere, here = (int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    if everywhere > max(here, 1) and "LOCAL_WORLD_SIZE" in os.environ:
        raise PalateError(
            "workers of several machines cannot write to a URL together",
            "Give --out on a file system that they share, and copy the run when it is done.",
        )
    if _SENDING not in context.meta:
        context.meta[_SENDING] = Sending(writes=is_first_worker())
    found: Sending = context.meta[_SENDING]
    return found


def and_send(context: Any, work: Callable[[], Any]) -> Any:
    """Do a command's work, and send what it has made to the URLs that it was given."""
    import typer

    if _SENDING not in context.meta:
        return work()
    ended: typer.Exit | None = None
    with context.meta[_SENDING], _exit_at_sigterm():
        try:
            result = work()
        except typer.Exit as end:  # a command that has done its work, and says something by its exit code
            ended = end
    if ended is not None:
        raise ended
    return result


@contextmanager
def _exit_at_sigterm() -> Iterator[None]:
    """Let a signal that would kill this process end it in order while the block runs, so that its files are sent.

    Most commands have their own way of ending (:mod:`palate.cli.shared.ending`); a service raises the signal again when
    it is done. Of several workers one may wait for the others where no signal reaches it.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    main = threading.current_thread() is threading.main_thread()
    if not (alone and main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Shown:
    """A stream in which copies are named by their URLs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(named(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def named(text: str) -> str:
    """A text in which copies are named by their URLs, and URLs have no passwords."""
    if "remote" not in text and "://" not in text:  # most have nothing to translate, and need not wait for the import
        return text
    from palate.storage.remote import given

    return given(text)


@contextmanager
def urls_named() -> Iterator[None]:
    """Print URLs in place of the copies' paths while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Shown(stream) for stream in before)
    try:
        with spelt(named):
            yield
    finally:
        for stream in before:
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before
