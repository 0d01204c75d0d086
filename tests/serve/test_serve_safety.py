"""Nothing that a stranger sends, or a stranger's catalogue holds, does harm."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from serve_helpers import HOSTILE, Live

from palate.serve.app import create_app
from palate.serve.batching import Overloaded
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service


def test_every_answer_has_the_headers(live: Live) -> None:
    for path in ("/", "/v1/models", "/nothing", "/static/page.css", "/v1/images/space-1"):
        headers = live.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers
        assert headers["x-request-id"]
        assert "server" not in headers


def test_other_origins_are_not_let_in(live: Live) -> None:
    answer = live.ask("OPTIONS", "/v1/recommend", None, {"LocalModelSpec": "https://evil.example"})
    assert answer.status == 405
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fapp.py", "/static/%2e%2e/app.py", "/v1/images/..%2F..%2F..%2Fetc%2Fpasswd",
        "/v1/images/%2Fetc%2Fpasswd", "/v1/images/space-1%00.png", "/v1/items/..%2f..", "/static/page.css%00",
    ],
)  # fmt: skip
def test_paths_lead_nowhere(live: Live, path: str) -> None:
    answer = live.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body


def test_pictures_are_made_small_and_written_anew(live: Live) -> None:
    answer = live.get("/v1/images/space-1?size=100")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    with Image.open(io.BytesIO(answer.body)) as image:
        assert image.size == (128, 73)
    again = live.get("/v1/images/space-1?size=100", if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert live.get("/v1/images/space-0").status == 404  # has none
    assert live.get("/v1/images/space-1?size=0").status == 422


def test_hostile_titles_are_data(hostile: Live) -> None:
    answer = hostile.post("/v1/recommend", {"history": [], "k": 50})
    assert answer.headers["content-type"] == "application/json"
    titles = {one["id"]: one["title"] for one in answer.json["items"]}
    assert {one: titles[one] for one in HOSTILE} == HOSTILE
    for one in answer.json["items"]:
        assert hostile.get(f"/v1/items/{quote(one['id'], safe='')}").json["title"] == one["title"]


def test_what_is_no_picture_is_not_served(hostile: Live, hostile_bundle: Path) -> None:
    """SVG, a polyglot, a file that is gone, a bomb: none is handed on, and the answer names no path."""
    for item in ("h0", "h1", "h3", "h4"):
        answer = hostile.get(f"/v1/images/{item}")
        assert answer.status == 404
        assert str(hostile_bundle.parent) not in answer.body.decode()
    assert hostile.get(f"/v1/images/{quote('a b/c?d#e%2F&f=g', safe='')}").status == 200


def test_bodies_are_bounded_before_they_are_read(live: Live) -> None:
    large = b'{"history": [' + b'"space-1",' * 10_000 + b'"space-1"]}'
    answer = live.post("/v1/recommend", large)
    assert (answer.status, answer.error["code"]) == (413, "too-large")
    assert _raw(live, b"content-length: 99999999999\r\n\r\n").startswith(b"HTTP/1.1 413")
    chunks = b"transfer-encoding: chunked\r\n\r\n" + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 5 + b"0\r\n\r\n"
    assert _raw(live, chunks).startswith(b"HTTP/1.1 413")
    assert _raw(live, b"content-length: abc\r\n\r\n").startswith(b"HTTP/1.1 400")


def _raw(live: Live, rest: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", live.port), 20) as wire:
        wire.sendall(b"POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        with contextlib.suppress(OSError):  # the answer may come before the end of what is sent
            wire.sendall(rest)
        return wire.recv(4096)


def test_a_clients_request_id_is_kept_if_a_log_can_hold_it(live: Live) -> None:
    assert live.get("/healthz", x_request_id="abc-123").headers["x-request-id"] == "abc-123"
    assert live.get("/healthz", x_request_id="a b").headers["x-request-id"] != "a b"


@pytest.fixture
def keyed(bundles: dict[str, Path]) -> Iterator[Live]:
    specs = [BundleSpec("popularity", bundles["popularity"])]
    running = Live(lambda: Service(specs, ServeConfig(allowed_hosts=("127.0.0.1",))), key="s3cret")
    yield running
    running.stop()


def test_a_key_is_wanted_where_there_is_one(keyed: Live) -> None:
    for path in ("/v1/models", "/metrics", "/openapi.json", "/v1/images/space-1"):
        refused = keyed.get(path)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert keyed.get(path, authorization="Bearer wrong").status == 401
        assert keyed.get(path, authorization="Basic s3cret").status == 401
        assert keyed.get(path, authorization="Bearer s3cret").status in (200, 404)
    assert [keyed.get(path).status for path in ("/", "/healthz", "/readyz")] == [200, 200, 200]


def test_other_names_for_this_machine_are_refused(keyed: Live) -> None:
    assert keyed.get("/", host="evil.example").error["code"] == "host"
    assert keyed.get("/", host="127.0.0.1:1234").status == 200
    assert keyed.get("/readyz", host="evil.example").status == 200  # a probe knows an address only


def test_nothing_redirects_to_where_a_client_says(live: Live) -> None:
    assert live.get("/v1/models/", host="evil.example").status == 404


def test_a_misspelt_filter_is_looked_up_once(live: Live) -> None:
    asked = {"history": [], "only": ["title=space storm"]}
    lookups = live.service.loaded.find("sasrec").condition_masks._look_up.cache_info
    before = lookups()
    first, again = live.post("/v1/recommend", asked), live.post("/v1/recommend", asked)
    assert first.status == again.status == 422
    assert first.error == again.error
    assert (lookups().misses - before.misses, lookups().hits - before.hits) == (1, 1)
    refused = live.post("/v1/recommend", {"history": [], "only": ["image=x"]})
    assert refused.status == 422
    assert ".png" not in refused.body.decode()


def test_pictures_outside_of_a_bundle_are_shown_only_where_allowed(bundles: dict[str, Path]) -> None:
    for allowed, status in ((True, 200), (False, 404)):
        service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(outside_pictures=allowed))
        service.start()
        client = TestClient(create_app(service))
        assert client.get("/v1/images/space-1").status_code == status
        assert (client.get("/v1/items/space-1").json()["image"] is not None) == allowed


def test_too_many_lookups_are_sent_away(bundles: dict[str, Path]) -> None:
    service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(max_waiting=2))
    go = threading.Event()

    async def test() -> None:
        waiting = [asyncio.create_task(service.in_thread(go.wait, 30)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await service.in_thread(go.wait, 30)
        go.set()
        assert await asyncio.gather(*waiting) == [True, True]
        assert await service.in_thread(go.is_set)

    asyncio.run(test())


def test_reload_is_for_those_with_the_key(keyed: Live, live: Live) -> None:
    assert keyed.post("/v1/reload", {}).status == 401
    assert keyed.post("/v1/reload", {}, authorization="Bearer s3cret").json == {
        "models": ["popularity"], "changed": [],
    }  # fmt: skip
    assert live.post("/v1/reload", {}).status == 404
