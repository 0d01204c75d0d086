"""Running the service: one process, one event loop, signals, and an end that lets requests finish."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from types import FrameType
from typing import Any, cast

import uvicorn

from palate.errors import PalateError
from palate.serve.app import create_app
from palate.serve.connections import Connections, connection_limit
from palate.serve.service import Service

# Threads take turns holding the interpreter. By default one may keep it for 5 ms, as long as a whole answer may take.
_SWITCH_SECONDS = 5e-4


def bind(host: str, port: int) -> socket.socket:
    """Take the address, before anything is loaded that would have been loaded in vain.

    Raises:
        PalateError: it is in use, or not ours.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        raise _cannot_listen(host, port, error) from None
    return taken


def _cannot_listen(host: str, port: int, error: OSError) -> PalateError:
    reason = error.strerror or str(error)
    return PalateError(f"cannot listen at {host}:{port} ({reason})", "Give another --host or --port.")


def run(service: Service, taken: socket.socket, key: str | None = None, watch: float = 0.0) -> None:
    """Serve until a signal ends it: SIGTERM after a grace period, SIGINT at once; what has been sent is answered.

    SIGHUP reads the bundles again.

    Args:
        taken: the address, see :func:`bind`.
        key: what clients must send; None: nothing.
        watch: seconds between looks for changed bundles; 0: never.

    Raises:
        PalateError: the limit of open files leaves no room for connections.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    server = Server(service, key, watch)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, service, taken))


class Server(uvicorn.Server):
    """uvicorn's server, with limits on connections and an end that loses no request.

    When SIGTERM comes, a proxy or Kubernetes still sends requests here. From then on ``/readyz`` says ``stopping`` and
    every answer closes its connection, but new connections are accepted for the grace period. Then the port is closed,
    what is in its queue is accepted, and what has been sent is answered. SIGINT, or a second SIGTERM, ends the grace
    period; another SIGINT ends everything.

    Args:
        let_finish: seconds that requests under way have once the port is closed.
    """

    def __init__(self, service: Service, key: str | None = None, watch: float = 0.0, let_finish: float = 20.0) -> None:
        most, backlog = connection_limit(service.config.max_connections)
        self._group = Connections(most, service.config.head_timeout)
        super().__init__(
            uvicorn.Config(
                create_app(service, key, watch),
                http=cast(Any, self._group.protocol),  # called as the class would be
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=backlog,
                timeout_graceful_shutdown=1,  # after those above
                timeout_keep_alive=30,
            )
        )
        self._service, self._let_finish = service, let_finish
        self._close_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        first = self._close_at is None and not self.should_exit
        self._service.state, self._group.stopping = "stopping", True
        if first and sig == signal.SIGTERM:
            self._close_at = time.monotonic() + self._service.config.grace
            self._captured_signals.append(sig)  # with which the process ends
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        over = self._close_at is not None and time.monotonic() >= self._close_at
        return await super().on_tick(counter) or over

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.state, self._group.stopping = "stopping", True
        await self._close_ports(sockets or [])
        until = time.monotonic() + self._let_finish
        while self._group.drain() and time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.05)
        await super().shutdown()

    async def _close_ports(self, sockets: list[socket.socket]) -> None:
        """Accept nobody any more, but for those who are in the queue of a port: its end would reset them."""
        loop, config = asyncio.get_running_loop(), self.config
        again = [sock.dup() for sock in sockets]
        for server in self.servers:
            server.close()
        queued: list[socket.socket] = []
        for sock in again:
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # the queue is empty
                while True:
                    queued.append(sock.accept()[0])
            sock.close()
        for sock in queued:
            await loop.connect_accepted_socket(
                lambda: self._group.protocol(
                    config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=loop
                ),
                sock,
            )


async def _serve(server: uvicorn.Server, service: Service, taken: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[Any]] = set()

    def again() -> None:
        task = loop.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, again)
    try:
        taken.listen(server.config.backlog)
    except OSError as error:  # bound by two at once, and the other was first
        host, port = taken.getsockname()[:2]
        raise _cannot_listen(host, port, error) from None
    await server.serve(sockets=[taken])


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except PalateError:  # it is in the log; the old models go on
        return
