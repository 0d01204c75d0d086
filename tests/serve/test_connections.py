"""Connections that send nothing, too little or too much: none stays open, and none keeps others out."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from drain_helpers import REQUEST, read_answer
from serve_helpers import Live

from palate.errors import PalateError
from palate.serve.config import ServeConfig
from palate.serve.connections import connection_limit
from palate.serve.engine import Ask, DenseEngine, Found
from palate.serve.loaded_models import BundleSpec
from palate.serve.served import Served
from palate.serve.service import Service

GET = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
Run = Callable[..., Live]


@pytest.fixture
def run(bundles: dict[str, Path]) -> Iterator[Run]:
    """Runs a service with options of :class:`ServeConfig`."""
    running: list[Live] = []

    def start(**options: object) -> Live:
        specs = [BundleSpec("popularity", bundles["popularity"])]
        running.append(Live(lambda: Service(specs, ServeConfig(**options))))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for live in running:
        live.stop()


def connect(live: Live) -> socket.socket:
    return socket.create_connection(("127.0.0.1", live.port), 60)


def everything(wire: socket.socket) -> bytes:
    """What arrives until the service closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := wire.recv(65536):
            data += part
    return data


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"GET /healthz HT", b"HTTP/1.1 408"),
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ", b"HTTP/1.1 408"),
        (b"GET /healthz HTTP/1.1\r\nx-long: " + b"a" * 300_000, b"HTTP/1.1 431"),
    ],
)
@pytest.mark.parametrize("before", [b"", GET], ids=["first", "second"])
def test_a_head_that_never_ends_closes_the_connection(run: Run, before: bytes, sent: bytes, status: bytes) -> None:
    wire = connect(run(head_timeout=0.3))
    if before:
        wire.sendall(before)
        assert read_answer(wire) == (200, False)
    if before and not sent:
        return  # a connection that is kept open between requests has the time of all such
    with contextlib.suppress(OSError):  # it may be closed in the middle
        wire.sendall(sent)
    answer = everything(wire)
    assert answer[:12] == status
    assert not answer or b"connection: close" in answer


def test_a_head_in_time_is_answered_however_many_pieces_it_comes_in(run: Run) -> None:
    wire = connect(run(head_timeout=30))
    for at in range(0, len(REQUEST), 7):
        wire.sendall(REQUEST[at : at + 7])
    assert read_answer(wire) == (200, False)


def test_a_body_that_does_not_arrive_ends_the_connection(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.guard._BODY_SECONDS", 0.2)
    wire = connect(run())
    wire.sendall(REQUEST[:-3])
    answer = everything(wire)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer


def test_silent_connections_make_room(run: Run) -> None:
    """More of them than may be open: the oldest go, and everybody who asks is answered."""
    live = run(max_connections=8, head_timeout=600)
    kept = connect(live)
    kept.sendall(GET)
    assert read_answer(kept) == (200, False)
    silent = [connect(live) for _ in range(30)]
    assert live.get("/healthz").status == 200
    assert live.post("/v1/recommend", {"history": [], "k": 1}).status == 200
    assert {wire.recv(1) for wire in silent[:20]} == {b""}
    assert len(live._server.server_state.connections) <= 9
    kept.sendall(GET)  # it had sent something: those that never did went first
    assert read_answer(kept) == (200, False)


def test_the_health_can_be_asked_for_while_all_connections_are_busy(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    begun, go = threading.Event(), threading.Event()
    find = DenseEngine.find

    def slowly(engine: DenseEngine, asks: Sequence[Ask]) -> list[Found]:
        begun.set()
        assert go.wait(60)
        return find(engine, asks)

    monkeypatch.setattr(DenseEngine, "find", slowly)
    monkeypatch.setattr(Served, "warm_up", lambda served: None)
    live = run(max_connections=8)
    busy = [connect(live) for _ in range(8)]
    for wire in busy:
        wire.sendall(REQUEST)
    assert begun.wait(60)
    waiting = [connect(live) for _ in range(20)]
    assert live.get("/healthz").status == 200
    assert live.get("/readyz").status == 200
    refused = live.get("/v1/models")
    assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "crowded", "1")
    assert refused.headers["connection"] == "close"
    go.set()
    assert [read_answer(wire) for wire in busy] == [(200, False)] * 8
    for wire in waiting:
        wire.close()


def test_a_client_that_never_reads_is_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.serve.connections._UNREAD_SECONDS", 0.2)
    live = run()
    wire = connect(live)
    with contextlib.suppress(OSError):  # it is closed at some point, and may be while this is sent
        for _ in range(3000):
            wire.sendall(b"GET /static/page.js HTTP/1.1\r\nhost: localhost\r\n\r\n")
    deadline = time.monotonic() + 60
    while live._server.server_state.connections:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_connections_fit_below_the_limit_of_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    def limit(files: int) -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (files, files))

    limit(1024 * 1024)
    assert connection_limit(None) == (512, 1024)
    assert connection_limit(5000) == (5000, 1024)
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([path] * 32))
    limit(256)
    most, queue = connection_limit(None)
    assert (most, queue) == (120, 40)
    assert connection_limit(100) == (100, 60)
    with pytest.raises(PalateError, match="200 connections do not fit below the limit of 256 open files"):
        connection_limit(200)
    limit(100)
    with pytest.raises(PalateError, match="limit of 100 open files"):
        connection_limit(None)
    limit(resource.RLIM_INFINITY)
    assert connection_limit(None) == (512, 1024)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_four_hundred_silent_connections_at_256_files(
    bundles: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """A process of its own: its health can be asked for at any moment, and all of them are closed in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "palate", "serve", bundles["popularity"], "--port", port, "--head-timeout", 5]
    process = subprocess.Popen(["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", *map(str, command)])
    try:
        url, deadline = f"http://127.0.0.1:{port}/healthz", time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
                break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        silent = []
        for number in range(400):
            silent.append(socket.create_connection(("127.0.0.1", port), 30))
            if number % 50 == 0:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    assert answer.status == 200
        for wire in silent:
            wire.settimeout(60)
            with contextlib.suppress(ConnectionResetError):
                assert wire.recv(1) == b""
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.kill()
        process.wait()
    with capsys.disabled():
        print(f"\n{len(silent)} silent connections, all closed; the health was asked for {400 // 50 + 1} times")
