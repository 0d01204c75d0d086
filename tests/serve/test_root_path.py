"""The service below a path of a host, as a proxy shows it: page, API and the page of the endpoints."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from palate.errors import PalateError
from palate.serve.app import create_app
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service


class Proxy:
    """Hands on what is asked below ``/shop/palate``, without that part of the path or with it."""

    def __init__(self, app: ASGIApp, cuts: bool) -> None:
        self.app, self.cuts = app, cuts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path != "/shop/palate" and not path.startswith("/shop/palate/"):
            await send({"type": "http.response.start", "status": 502, "headers": []})
            await send({"type": "http.response.body"})
            return
        inside = (path.removeprefix("/shop/palate") or "/") if self.cuts else path
        await self.app({**scope, "path": inside, "raw_path": inside.encode()}, receive, send)


def client(bundles: dict[str, Path], how: str) -> TestClient:
    """A browser before a proxy that cuts the path off or keeps it, or before an application that mounts the service."""
    root = "/shop/palate"
    service = Service(
        [BundleSpec("sasrec", bundles["sasrec"])], ServeConfig(root_path="" if how == "cuts, untold" else root)
    )
    service.start()
    app = create_app(service, key="s3cret")
    if how == "mounted":
        return TestClient(Starlette(routes=[Mount(root, app)]))
    return TestClient(Proxy(app, cuts=how != "keeps"))


@pytest.mark.parametrize("how", ["cuts", "keeps", "mounted", "cuts, untold"])
def test_everything_works_below_a_path(bundles: dict[str, Path], how: str) -> None:
    """Also, but for the links in answers, where nobody has said what the path is."""
    browser, key = client(bundles, how), {"authorization": "Bearer s3cret"}
    for page in ("/shop/palate/", "/shop/palate/docs"):
        answer = browser.get(page)
        assert answer.status_code == 200
        links = re.findall(r'(?:href|src)="([^"#:]+)"', answer.text)
        assert len(links) > 3
        for link in links:
            assert browser.get(urljoin(page, link), headers=key).status_code == 200, link
    assert browser.get("/shop/palate/v1/models").status_code == 401  # the guard sees the same path as the routes do
    assert browser.get("/shop/palate/readyz").status_code == 200
    found = browser.post("/shop/palate/v1/recommend", json={"history": ["space-1"], "k": 3}, headers=key).json()
    api = browser.get("/shop/palate/openapi.json", headers=key).json()
    if how != "cuts, untold":
        images = [one["image"] for one in found["items"]]
        assert [browser.get(one, headers=key).status_code for one in images] == [200] * 3
        assert api["servers"] == [{"url": "/shop/palate"}]
    assert "/v1/recommend" in api["paths"]


@pytest.mark.parametrize("how", ["cuts", "keeps"])
def test_the_page_without_a_slash_at_its_end(bundles: dict[str, Path], how: str) -> None:
    browser = client(bundles, how)
    answer = browser.get("/shop/palate", follow_redirects=False)
    assert answer.status_code == 200
    assert 'href="/shop/palate/static/page.css"' in answer.text


@pytest.mark.parametrize("path", ["palate", "/", "/pa late", "/a//b", "/..", '/"x', "/v1", "/docs/x", "/static"])
def test_what_is_no_root_path(path: str) -> None:
    if path == "/":  # the root itself
        assert ServeConfig.parse({"root_path": path}, "serve").root_path == ""
        return
    with pytest.raises(PalateError, match="is no path to show the service at"):
        ServeConfig.parse({"root_path": path}, "serve")
