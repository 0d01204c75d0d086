"""``palate serve`` in a process of its own: it starts, answers, reads bundles again, and ends in order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from palate.errors import PalateError
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec, parse_bundle_specs
from palate.serve.server import bind, run
from palate.serve.service import Service


def _start(*words: object, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "palate", "serve", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP there")
def test_the_whole_life_of_a_service(bundles: dict[str, Path], films: Path) -> None:
    port = _port()
    process = _start(
        bundles["sasrec"], f"pop={bundles['popularity']}", "--users", films, "--num-users", 3, "--port", port
    )
    try:
        _wait(f"http://127.0.0.1:{port}/readyz", process)
        body = json.dumps({"model": "pop", "history": ["space-1"], "k": 2}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/recommend", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["items"]) == 2
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/users", timeout=30) as answer:
            assert len(json.load(answer)["users"]) == 3
        process.send_signal(signal.SIGHUP)
        _until(f"http://127.0.0.1:{port}/metrics", 'palate_reloads_total{outcome="same"} 1.0')
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGTERM, err  # it ends, in order, by the signal it was given
    assert "Traceback" not in err
    assert "sasrec (23 items), pop (23 items)" in out
    lines = [json.loads(line) for line in err.splitlines()]
    told = next(line for line in lines if line.get("path") == "/v1/recommend")
    assert (told["status"], told["method"], told["event"]) == (200, "POST", "request")


def _until(url: str, text: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(url, timeout=30) as answer:
            if text in answer.read().decode():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_address_in_use_is_told(bundles: dict[str, Path]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = _start(bundles["popularity"], "--port", taken.getsockname()[1])
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "cannot listen at" in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


def test_of_two_services_that_took_one_port_at_once_one_ends(bundles: dict[str, Path]) -> None:
    """Linux lets both have it until one of them listens."""
    first = bind("127.0.0.1", 0)
    second = bind("127.0.0.1", first.getsockname()[1])
    service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig())
    service.start()
    with first, second:
        first.listen()
        with pytest.raises(PalateError, match="cannot listen at 127"):
            run(service, second)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "nowhere is not there. Make one with `palate bundle"),
        (["{popularity}", "{popularity}"], "two models are called 'popularity'"),
        (["{popularity}", "--retriever", "{sasrec}"], "every model here ranks the whole catalogue"),
        (["{popularity}", "--blend", "0.5"], "there is none"),
        (["{popularity}", "--index", "annoy"], "--index annoy"),
        (["{popularity}", "--log", "loud"], "there is no log level 'loud'"),
        (["{popularity}", "--api-key-file", "{key}"], "holds no key"),
        (["{popularity}", "--users", "nowhere"], "nowhere"),
        (["{popularity}", "--host", "no.such.host.invalid"], "cannot listen at"),
        (["{popularity}", "--allowed-host", "shop.example:80"], "is not a host's name"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    bundles: dict[str, Path], tmp_path: Path, words: list[str], told: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from palate.cli.app import main

    (tmp_path / "key").write_text("two words\n")
    known = {**{name: str(path) for name, path in bundles.items()}, "key": str(tmp_path / "key")}
    monkeypatch.setattr(sys, "argv", ["palate", "serve", *(word.format(**known) for word in words)])
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_names_and_retrievers(bundles: dict[str, Path]) -> None:
    specs = parse_bundle_specs([f"best={bundles['sasrec']}", str(bundles["popularity"])], None, 20, None)
    assert [(one.name, one.folder, one.retriever) for one in specs] == [
        ("best", bundles["sasrec"], None), ("popularity", bundles["popularity"], None),
    ]  # fmt: skip
    with pytest.raises(PalateError, match="names no bundle"):
        parse_bundle_specs(["best="], None, 20, None)


def test_a_key_of_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.cli.serve import _key, _names

    for wrong in ("", "  ", "two words", "schlüssel"):
        monkeypatch.setenv("PALATE_API_KEY", wrong)
        with pytest.raises(PalateError, match="PALATE_API_KEY holds no key"):
            _key(None)
    monkeypatch.setenv("PALATE_API_KEY", "s3cret\n")
    assert _key(None) == "s3cret"
    monkeypatch.delenv("PALATE_API_KEY")
    assert _key(None) is None
    assert _names("127.0.0.1", ["shop.example"]) == ("localhost", "127.0.0.1", "[::1]", "shop.example")
    assert _names("0.0.0.0", []) == ()


def test_a_log_for_people_has_colours_on_a_terminal_only(capsys: pytest.CaptureFixture[str]) -> None:
    import structlog

    from palate.serve.telemetry import configure_logs

    before = structlog.get_config()
    try:
        configure_logs("info", json=False)
        structlog.get_logger("palate.serve").info("reloaded", model="best")
    finally:
        structlog.configure(**before)
    line = capsys.readouterr().err
    assert "reloaded" in line
    assert "model=best" in line
    assert "\x1b" not in line
