"""Connections of the service: how many there may be, how long each may stay silent, and how each ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from palate.errors import PalateError
from palate.serve.guard import error_body

_MOST = 512
# Files left for bundles that are read again and for pictures; and the fewest connections worth opening a port for.
_FILES, _LEAST = 64, 8
# Connections beyond the limit that may wait for an answer at once: probes get theirs, everybody else a 503.
_SPARE = 16
_HEAD_BYTES = 64 * 1024
# How long a client may leave its answer unread, and how long it must have been silent when the service stops.
_UNREAD_SECONDS, _QUIET_SECONDS = 30.0, 0.5
_REASONS = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


def connection_limit(requested: int | None) -> tuple[int, int]:
    """How many connections fit below this process's limit of open files, and how long the queue before them may be.

    Args:
        requested: the number that somebody chose, or None: 512, or as many as fit.

    Raises:
        PalateError: fewer fit than were requested, or next to none.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return requested or _MOST, 1024
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return requested or _MOST, 1024
    opened = Path("/dev/fd")
    used = len(list(opened.iterdir())) if opened.is_dir() else _FILES
    room = limit - used - _FILES
    most = min(requested or _MOST, room * 3 // 4)  # the queue is accepted at once, before anybody can be turned away
    if most < _LEAST or (requested is not None and most < requested):
        raise PalateError(
            f"{requested or _LEAST} connections do not fit below the limit of {limit} open files",
            "Raise the limit (ulimit -n), or set a lower --max-connections.",
        )
    return most, min(1024, room - most)


class Connections:
    """All connections of a server.

    Where there are ``most``, a new one takes the place of the one that has waited longest without sending a request;
    if all of them are being answered, the new one may only ask for the service's health.

    Args:
        most: connections that may be open.
        head_seconds: time for the first line and the headers of a request.
    """

    def __init__(self, most: int, head_seconds: float) -> None:
        self.most, self.head_seconds = most, head_seconds
        self.stopping = False
        self._open: set[Connection] = set()
        # In the order of their waiting: for a first request, for another one, and beyond the limit.
        self._silent: dict[Connection, None] = {}
        self._keep_alive: dict[Connection, None] = {}
        self._crowded: dict[Connection, None] = {}

    @property
    def protocol(self) -> Callable[..., asyncio.Protocol]:
        """Makes a connection; uvicorn takes it as its ``http``."""
        return partial(Connection, group=self)

    def enter(self, one: Connection) -> None:
        """Take a new connection in, whatever that costs another one."""
        self._open.add(one)
        if len(self._open) > self.most:
            longest = next(chain(self._silent, self._keep_alive), None)
            if longest is None:
                one.crowded = True
                self._crowded[one] = None
                if len(self._crowded) > _SPARE:
                    next(iter(self._crowded)).end()
                return
            longest.end()
        self._silent[one] = None

    def answering(self, one: Connection) -> None:
        """A request has begun to arrive: it is not cut short for anybody."""
        for waiting in (self._silent, self._keep_alive, self._crowded):
            waiting.pop(one, None)

    def answered(self, one: Connection) -> None:
        """The connection stays open for another request."""
        self._keep_alive[one] = None

    def leave(self, one: Connection) -> None:
        self.answering(one)
        self._open.discard(one)

    def drain(self) -> bool:
        """Close what is open but silent; whether any connection is left."""
        for one in [*self._silent, *self._keep_alive, *self._crowded]:
            if one.quiet:
                one.end()
        return bool(self._open)


class Connection(HttpToolsProtocol):
    """One connection, with limits on what uvicorn waits for without one: the head of a request, and a reader."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        group: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.group, self.crowded = group, False
        self._begun, self._head_bytes, self._heard = False, 0, 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._abort_timer: asyncio.TimerHandle | None = None

    @property
    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way: no request that has begun, and no byte for a moment."""
        return self._idle and not self._begun and self.loop.time() - self._heard >= _QUIET_SECONDS

    # -- the head of a request -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        self.group.enter(self)

    def data_received(self, data: bytes) -> None:
        if self._idle and self._head_timer is None:  # the next request, or what a refused body had left to say
            self._await_head()
        self._heard = self.loop.time()
        super().data_received(data)
        if self._begun and self._idle and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                self._refuse(431, "too-large", f"the head is larger than {_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._begun = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self.group.answering(self)
        self.scope["state"]["crowded"] = self.crowded
        super().on_headers_complete()
        if self.crowded or self.group.stopping:
            self.cycle.keep_alive = False

    def _await_head(self) -> None:
        self._heard = self.loop.time()
        self._head_timer = self.loop.call_later(self.group.head_seconds, self._no_head)

    def _no_head(self) -> None:
        if self._begun:
            self._refuse(408, "slow", "the head of the request did not arrive in time")
        else:
            self.end()

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = error_body(code, message)
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nconnection: close\r\ncontent-type: application/json\r\n"
        self.transport.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        self.end()

    # -- the end ---------------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()
        elif self._idle:
            self._heard = self.loop.time()
            self.group.answered(self)

    def timeout_keep_alive_handler(self) -> None:
        self.end()

    def end(self) -> None:
        """Close; what was written is still sent, if the client reads it."""
        self.group.leave(self)
        self.transport.close()
        self._abort_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_later()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._unset_abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.group.leave(self)
        self._unset_abort()
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)

    def _abort_later(self) -> None:
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(_UNREAD_SECONDS, self.transport.abort)

    def _unset_abort(self) -> None:
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
