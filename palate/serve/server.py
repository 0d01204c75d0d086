"""Running the service: one process, one event loop, signals, and an end that lets requests finish."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn

from palate.errors import PalateError
from palate.serve.app import create_app
from palate.serve.service import Service

# Threads take turns holding the interpreter. By default one may keep it for 5 ms, as long as a whole answer may take.
_SWITCH_SECONDS = 5e-4
_LET_FINISH_SECONDS = 20


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
        told = error.strerror or str(error)
        raise PalateError(f"cannot listen at {host}:{port} ({told})", "Give another --host or --port.") from None
    return taken


def run(service: Service, taken: socket.socket, key: str | None = None, watch: float = 0.0) -> None:
    """Serve until told to stop (SIGINT, SIGTERM: requests under way are answered; SIGHUP: bundles are read again).

    Args:
        taken: the address, see :func:`bind`.
        key: what clients must send; None: nothing.
        watch: seconds between looks for changed bundles; 0: never.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(service, key, watch),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LET_FINISH_SECONDS,
        timeout_keep_alive=30,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(_Server(config, service), service, taken))


class _Server(uvicorn.Server):
    """Says that it is stopping from the signal on, so that whoever spreads requests sends no more."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._service.state = "stopping"
        super().handle_exit(sig, frame)


async def _serve(server: uvicorn.Server, service: Service, taken: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[Any]] = set()

    def again() -> None:
        task = loop.create_task(_reload(service))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, again)
    await server.serve(sockets=[taken])


async def _reload(service: Service) -> None:
    try:
        await service.reload()
    except PalateError:  # told in the log; the old models go on
        return
