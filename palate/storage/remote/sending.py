"""Outputs of one command or call: opened before it works, sent while it does and when it is done."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from palate.errors import PalateError
from palate.storage.remote.outputs import Output
from palate.storage.remote.places import local
from palate.storage.remote.urls import checked_url, is_url

# Seconds between looks for finished files of a command that is still at work, such as checkpoints.
EVERY = "PALATE_REMOTE_EVERY"
_EVERY = 300.0
_P = ParamSpec("_P")
_R = TypeVar("_R")


class Sending:
    """Working folders of URLs. A context manager: what was made in them is sent while the block runs and at its end.

    Files that are finished are sent every five minutes (``PALATE_REMOTE_EVERY`` in seconds; 0: only at the end), so
    that another machine can resume. After an error nothing is sent; after an interruption what is finished is.

    Args:
        writes: whether this process is the one that sends; of several workers, the first.
    """

    def __init__(self, writes: bool = True) -> None:
        self._writes = writes
        self._outputs: dict[str, Output] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self, url: str) -> Path:
        """The working folder (or file) of a URL, with what is there."""
        url = checked_url(url)
        if url not in self._outputs:
            output = Output(url)
            output.open()
            self._outputs[url] = output
        return self._outputs[url].place

    def __enter__(self) -> Self:
        every = _seconds()
        if self._outputs and self._writes and every:
            self._thread = threading.Thread(target=self._keep_sending, args=(every,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self._writes or not (error is None or isinstance(error, KeyboardInterrupt | SystemExit)):
            return
        for output in self._outputs.values():
            try:
                output.send()
            except PalateError as problem:
                if error is not None:
                    _warn(problem.message)
                    continue
                remedy = (problem.remedy or "").rstrip(".")
                kept = output.place.as_uri()  # a path would be shown by the URL that it was not sent to
                raise PalateError(problem.message, f"{remedy}. What was made is kept in {kept}.") from None

    def _keep_sending(self, every: float) -> None:
        while not self._ended.wait(every):
            for output in self._outputs.values():
                try:
                    output.send()
                except (PalateError, OSError) as problem:
                    _warn(f"{getattr(problem, 'message', problem)}. It will be tried again.")


def takes_urls(*outputs: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """A function whose arguments may be URLs, also those that it takes as ``**options``: it sees paths.

    Args:
        outputs: names of the arguments that it writes to; the others are read.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            bound = signature.bind(*args, **kwargs)
            sending = Sending()

            def placed(name: str, value: Any) -> Any:
                if name in outputs:
                    return sending.open(value) if is_url(value) else value
                if isinstance(value, list | tuple):
                    return type(value)(placed(name, one) for one in value)
                return local(value) if isinstance(value, str) and is_url(value) else value

            for name, value in bound.arguments.items():
                options = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
                bound.arguments[name] = (
                    {key: placed(key, one) for key, one in value.items()} if options else placed(name, value)
                )
            with sending:
                return function(*bound.args, **bound.kwargs)

        return call

    return decorate


def _seconds() -> float:
    text = os.environ.get(EVERY, "")
    try:
        seconds = float(text) if text else _EVERY
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise PalateError(f"{EVERY} is '{text}', which is no number of seconds", "Write one such as 300, or 0.")
    return seconds


def _warn(text: str) -> None:
    print(f"Warning: {text.rstrip('.')}.", file=sys.stderr, flush=True)
