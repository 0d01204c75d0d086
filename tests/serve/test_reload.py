"""A new bundle takes the place of an old one: no request is lost, and a broken one changes nothing."""

from __future__ import annotations

import asyncio
import gc
import shutil
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from remote_helpers import Guarded, machine
from serve_helpers import Live
from structlog.testing import capture_logs

from palate.errors import PalateError
from palate.serve.config import ServeConfig
from palate.serve.engine import Ask, DenseEngine, Found
from palate.serve.loaded_models import BundleSpec
from palate.serve.served import Served
from palate.serve.service import Service
from palate.storage.remote import local


@pytest.fixture
def place(bundles: dict[str, Path], tmp_path: Path) -> Path:
    shutil.copytree(bundles["popularity"], tmp_path / "best")
    return tmp_path / "best"


def _put(bundle: Path, place: Path) -> None:
    """As a deployment would: the new one is laid beside, then takes the name."""
    shutil.copytree(bundle, place.parent / "next")
    place.rename(place.parent / "last")
    (place.parent / "next").rename(place)
    shutil.rmtree(place.parent / "last")


def _reload(live: Live, service: Service) -> list[str]:
    loop = live.loop
    return asyncio.run_coroutine_threadsafe(service.reload(), loop).result(60)


def test_requests_never_fail_while_a_bundle_is_replaced(place: Path, bundles: dict[str, Path]) -> None:
    live = Live(lambda: Service([BundleSpec("best", place)], ServeConfig()))
    seen: list[tuple[int, str]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answer = live.post("/v1/recommend", {"history": ["space-1"], "k": 3})
                seen.append((answer.status, answer.json.get("version", "")))
            except OSError as error:  # a lost connection is a lost request
                seen.append((0, repr(error)))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    try:
        for client in clients:
            client.start()
        before = live.get("/v1/models").json["models"][0]
        _put(bundles["item-knn"], place)
        assert _reload(live, live.service) == ["best"]
        after = live.get("/v1/models").json["models"][0]
        assert (before["kind"], after["kind"]) == ("popularity", "item-knn")
        marker = len(seen)
        while len(seen) < marker + 20:
            over.wait(0.01)
    finally:
        over.set()
        for client in clients:
            client.join()
        live.stop()
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {before["version"], after["version"]}


def test_a_broken_bundle_leaves_the_old_one_answering(place: Path) -> None:
    live = Live(lambda: Service([BundleSpec("best", place)], ServeConfig()))
    try:
        before = live.get("/v1/models").json
        path = place / "bundle.json"
        path.write_text(path.read_text().replace('"popularity"', '"item-knn"'))
        with pytest.raises(PalateError, match="not served"):
            _reload(live, live.service)
        assert live.get("/v1/models").json == before
        assert live.post("/v1/recommend", {"history": []}).status == 200
        assert 'palate_reloads_total{outcome="failed"} 1.0' in live.get("/metrics").body.decode()
    finally:
        live.stop()


def test_models_that_did_not_change_are_kept(place: Path, bundles: dict[str, Path]) -> None:
    specs = [BundleSpec("sasrec", bundles["sasrec"]), BundleSpec("best", place)]
    live = Live(lambda: Service(specs, ServeConfig()))
    try:
        kept = live.service.loaded.find("sasrec")
        _put(bundles["item-knn"], place)
        assert _reload(live, live.service) == ["best"]
        assert live.service.loaded.find("sasrec") is kept
        assert _reload(live, live.service) == []
    finally:
        live.stop()


def test_the_watch_sees_a_new_bundle_and_tries_a_broken_one_once(
    place: Path, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.serve.service._PAUSE_SECONDS", 3600.0)
    service = Service([BundleSpec("best", place)], ServeConfig())
    service.start()

    async def until(metric: str) -> None:
        async with asyncio.timeout(60):
            while metric not in service.telemetry.text().decode():
                await asyncio.sleep(0.01)

    async def test() -> None:
        watching = asyncio.create_task(service.watch(0.01))
        _put(bundles["item-knn"], place)
        await until('palate_reloads_total{outcome="changed"} 1.0')
        assert service.loaded.find("best").facts.kind == "item-knn"
        (place / "bundle.json").write_text('{"kind": "palate bundle", "format": 1}')
        await until('palate_reloads_total{outcome="failed"} 1.0')
        await asyncio.sleep(0.2)  # twenty looks, and the pause after a failure is an hour here
        assert 'palate_reloads_total{outcome="failed"} 1.0' in service.telemetry.text().decode()
        _put(bundles["popularity"], place)
        await until('palate_reloads_total{outcome="changed"} 2.0')
        watching.cancel()

    asyncio.run(test())
    assert service.loaded.find("best").facts.kind == "popularity"


def test_the_watch_says_once_that_bundles_are_gone(place: Path) -> None:
    service = Service([BundleSpec("best", place)], ServeConfig())
    service.start()

    async def until(event: str, lines: list[Any]) -> None:
        async with asyncio.timeout(60):
            while not any(line["event"].startswith(event) for line in lines):
                await asyncio.sleep(0.01)

    async def test(lines: list[Any]) -> None:
        watching = asyncio.create_task(service.watch(0.01))
        aside = place.rename(place.with_name("aside"))
        await until("bundles not found", lines)
        await asyncio.sleep(0.2)  # twenty looks
        aside.rename(place)
        await until("bundles found again", lines)
        watching.cancel()

    with capture_logs() as lines:
        asyncio.run(test(lines))
    lost, found = lines
    assert (lost["log_level"], found["log_level"]) == ("warning", "info")
    assert str(place) in lost["error"]


def test_the_watch_sees_a_new_bundle_at_a_url_with_a_password(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.register_implementation("guarded", Guarded, clobber=True)
    machine(monkeypatch, tmp_path / "cache")
    store = MemoryFileSystem()
    store.put(f"{bundles['popularity']}/", "/bucket/best", recursive=True)
    try:
        service = Service([BundleSpec("best", local("guarded://ann:secret@bucket/best"))], ServeConfig())
        service.start()

        async def test() -> None:
            watching = asyncio.create_task(service.watch(0.01))
            store.rm("/bucket/best", recursive=True)
            store.put(f"{bundles['item-knn']}/", "/bucket/best", recursive=True)
            async with asyncio.timeout(60):
                while service.loaded.find("best").facts.kind != "item-knn":
                    await asyncio.sleep(0.01)
            watching.cancel()

        asyncio.run(test())
    finally:
        store.store.clear()
        store.pseudo_dirs[:] = [""]


def test_nothing_answers_before_the_models_are_there(bundles: dict[str, Path]) -> None:
    from fastapi.testclient import TestClient

    from palate.serve.app import create_app

    service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig())
    client = TestClient(create_app(service))
    for path in ("/readyz", "/v1/models"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "loading")
        assert answer.headers["retry-after"] == "1"
    assert client.get("/healthz").json() == {"status": "loading"}
    service.start()
    assert client.get("/readyz").status_code == 200


def test_an_old_model_is_forgotten(place: Path, bundles: dict[str, Path]) -> None:
    service = Service([BundleSpec("best", place)], ServeConfig())
    service.start()
    old = weakref.ref(service.loaded.find("best"))
    _put(bundles["item-knn"], place)
    gc.disable()  # nothing may hold on to it in a circle
    try:
        asyncio.run(service.reload())
        assert service.loaded.find("best").facts.kind == "item-knn"
        deadline = time.monotonic() + 30
        while old() is not None and time.monotonic() < deadline:  # the loader's thread lets go a moment later
            time.sleep(0.01)
        assert old() is None
    finally:
        gc.enable()


def test_what_is_served_stays_what_was_loaded(bundles: dict[str, Path], tmp_path: Path) -> None:
    """A link is turned to a bundle without features, and nobody has said so: the old one still explains itself."""
    (tmp_path / "live").symlink_to(bundles["sasrec"])
    live = Live(lambda: Service([BundleSpec("best", tmp_path / "live")], ServeConfig()))
    try:
        asked = {"history": ["space-1", "space-2"], "item": "crime-3"}
        before = live.post("/v1/explain", asked).json
        (tmp_path / "live").unlink()
        (tmp_path / "live").symlink_to(bundles["popularity"])
        assert live.post("/v1/explain", asked).json == before
        assert live.post("/v1/similar", {"item": "crime-3", "by": "text"}).status == 200
        assert live.get("/v1/images/space-1").status == 200
    finally:
        live.stop()


def test_the_same_bundle_in_another_place_is_read_from_there(bundles: dict[str, Path], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(bundles["sasrec"], first)
    (tmp_path / "live").symlink_to(first)
    live = Live(lambda: Service([BundleSpec("best", tmp_path / "live")], ServeConfig()))
    try:
        first.rename(second)
        (tmp_path / "live").unlink()
        (tmp_path / "live").symlink_to(second)
        assert live.get("/v1/images/space-1").status == 404
        _reload(live, live.service)
        assert live.get("/v1/images/space-1").status == 200
    finally:
        live.stop()


def test_a_picture_of_another_bundle_is_not_shown(bundles: dict[str, Path], tmp_path: Path) -> None:
    place = tmp_path / "best"
    shutil.copytree(bundles["sasrec"], place)
    live = Live(lambda: Service([BundleSpec("best", place)], ServeConfig()))
    try:
        assert live.get("/v1/images/space-1").status == 200
        for picture in (place / "images").rglob("*.*"):
            picture.write_bytes(picture.read_bytes() + b" ")
        assert live.get("/v1/images/space-1").status == 404
    finally:
        live.stop()


def test_requests_under_way_are_answered_before_the_end(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    find = DenseEngine.find

    def slowly(engine: DenseEngine, asks: Sequence[Ask]) -> list[Found]:
        begun.set()
        assert go.wait(30)
        return find(engine, asks)

    monkeypatch.setattr(DenseEngine, "find", slowly)
    monkeypatch.setattr(Served, "warm_up", lambda served: None)
    live = Live(lambda: Service([BundleSpec("best", place)], ServeConfig()), patience=30)
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(live.post("/v1/recommend", {"history": []}).status))
    client.start()
    assert begun.wait(30)
    stopping = threading.Thread(target=live.stop)
    stopping.start()
    go.set()
    stopping.join(60)
    client.join(60)
    assert answers == [200]
