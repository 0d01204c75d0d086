"""SIGTERM while requests come in: a process of its own answers whatever was sent to it, and then ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drain_helpers import REQUEST, Stream, read_answer
from serve_helpers import Live

from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.server import Server
from palate.serve.service import Service

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
Start = Callable[..., tuple[subprocess.Popen[str], int]]
ROUNDS = int(os.environ.get("PALATE_DRAIN", "20"))


@pytest.fixture
def start(bundles: dict[str, Path]) -> Iterator[Start]:
    """Starts ``palate serve`` with options, and waits until it answers: the process and its port."""
    running: list[subprocess.Popen[str]] = []

    def begin(*options: object) -> tuple[subprocess.Popen[str], int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        words = [bundles["popularity"], "--port", port, "--log", "warning", *options]
        process = subprocess.Popen(
            [sys.executable, "-m", "palate", "serve", *map(str, words)], stderr=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        running.append(process)
        deadline = time.monotonic() + 120
        while ready(port) != "ok":
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return process, port

    yield begin
    for process in running:
        process.kill()
        process.wait()


def ready(port: int) -> str:
    """What ``/readyz`` says: ok, stopping ...; or nothing, where nobody answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
            return str(json.load(answer)["status"])
    except urllib.error.HTTPError as error:
        return str(json.load(error)["error"]["code"])
    except OSError:
        return ""


def ended(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGTERM, err
    assert "Traceback" not in err


def drain(start: Start, grace: float) -> Counter[str]:
    """One service under a steady stream: SIGTERM, and the stream goes on until the service is said to stop."""
    process, port = start("--grace", grace)
    stream = Stream(port)
    while sum(stream.counts.values()) < 50:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 60
    while (said := ready(port)) == "ok" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said == "stopping"
    before = stream.counts["200"]
    while stream.counts["200"] < before + 20:  # they are still answered: whoever spreads requests has not heard yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    counts = stream.stop()
    ended(process)
    return counts


def test_no_request_of_a_steady_stream_is_lost(start: Start) -> None:
    counts = drain(start, grace=3)
    assert set(counts) == {"200"}, counts


def burst(port: int, number: int) -> list[socket.socket]:
    wires = []
    for _ in range(number):
        wire = socket.create_connection(("127.0.0.1", port), 60)
        wire.sendall(REQUEST)
        wires.append(wire)
    return wires


@pytest.fixture
def live(bundles: dict[str, Path]) -> Iterator[Live]:
    running = Live(lambda: Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig()), patience=30)
    yield running
    running.stop()


def test_what_was_sent_before_the_end_is_answered(live: Live) -> None:
    """Also where nothing is waited for, as after Ctrl-C: whole requests that nobody has read yet are not reset."""
    wires = burst(live.port, 64)
    live.stop()
    assert Counter(read_answer(wire)[0] for wire in wires) == {200: 64}


def test_connections_in_the_queue_of_the_port_are_answered(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """They come while the loop is busy, so that nobody has accepted them when the port is closed."""
    closing, sent = threading.Event(), threading.Event()
    close = Server._close_ports

    async def close_later(server: Server, sockets: list[socket.socket]) -> None:
        closing.set()
        assert sent.wait(60)
        await close(server, sockets)

    monkeypatch.setattr(Server, "_close_ports", close_later)
    live._server.should_exit = True
    assert closing.wait(60)
    wires = burst(live.port, 20)
    sent.set()
    assert Counter(read_answer(wire)[0] for wire in wires) == {200: 20}


def test_a_connection_without_a_request_does_not_hold_up_the_end(live: Live) -> None:
    wires = [socket.create_connection(("127.0.0.1", live.port), 60) for _ in range(3)]
    live.stop()
    assert [wire.recv(1) for wire in wires] == [b""] * 3


def test_signals_end_the_grace_period_and_then_everything(bundles: dict[str, Path]) -> None:
    def server() -> Server:
        return Server(Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(grace=600)))

    terminated, interrupted = server(), server()
    terminated.handle_exit(signal.SIGTERM, None)
    assert (terminated._service.state, terminated.should_exit) == ("stopping", False)
    assert not asyncio.run(terminated.on_tick(1))
    terminated.handle_exit(signal.SIGTERM, None)
    assert (terminated.should_exit, terminated.force_exit) == (True, False)
    interrupted.handle_exit(signal.SIGINT, None)
    assert (interrupted._service.state, interrupted.should_exit, interrupted.force_exit) == ("stopping", True, False)
    interrupted.handle_exit(signal.SIGINT, None)
    assert interrupted.force_exit


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_drains(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Services under a steady stream are ended at random moments; and bursts, sent just before the signal."""
    total: Counter[str] = Counter()
    for _ in range(ROUNDS):
        total += drain(start, grace=1)
        process, port = start("--grace", 0)
        wires = burst(port, 64)
        time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        total += Counter("200" if read_answer(wire)[0] == 200 else "reset" for wire in wires)
        ended(process)
    with capsys.disabled():
        print(f"\n{2 * ROUNDS} services ended by SIGTERM: {dict(total)}")
    assert set(total) == {"200"}
