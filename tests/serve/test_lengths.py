"""Titles, texts and numbers of a catalogue as answers have them: of a bounded length, and valid JSON."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from bundle_helpers import make_run
from fastapi.testclient import TestClient

from palate.bundle import make_bundle
from palate.data.frames import from_frames
from palate.serve.app import create_app
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service

LONG = "endless " * 100_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A catalogue in which an item has too much of everything."""
    folder = tmp_path_factory.mktemp("lengths")
    ids = [f"i{n}" for n in range(8)]
    items = pl.DataFrame(
        {
            "item_id": ids,
            "title": ["b" * 1000, "c" * 1001, LONG, *ids[3:]],
            "about": [LONG, *ids[1:]],
            "tags": [[LONG] * 2, ["tag"] * 1001, *[["tag"]] * 6],
            "price": [float("nan"), float("inf"), *[1.5] * 6],
        }
    )
    rng = np.random.default_rng(0)
    log = pl.DataFrame(
        [(f"u{user}", str(item)) for user in range(30) for item in rng.choice(ids, 5, replace=False)],
        schema=["user", "item"],
        orient="row",
    )
    from_frames(log, items, name="long").save(folder / "data")
    bundle = make_bundle(make_run(folder / "data", folder / "run", "popularity", "id"), folder / "bundle").folder
    service = Service([BundleSpec("popularity", bundle)], ServeConfig())
    service.start()
    return TestClient(create_app(service))


def test_long_titles_are_cut(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"history": [], "k": 8, "fields": True})
    assert len(answer.content) < 100_000
    titles = {one["id"]: one["title"] for one in answer.json()["items"]}
    assert titles["i0"] == "b" * 1000
    assert titles["i1"] == "c" * 999 + "…"
    assert titles["i2"] == LONG[:999] + "…"


def test_long_fields_are_cut_and_numbers_are_json(client: TestClient) -> None:
    first, second, other = (client.get(f"/v1/items/i{n}").json()["fields"] for n in (0, 1, 3))
    assert first["about"] == LONG[:9999] + "…"
    assert [len(one) for one in first["tags"]] == [10_000] * 2
    assert len(second["tags"]) == 1000
    assert (first["price"], second["price"], other["price"]) == (None, None, 1.5)


def test_search_reads_what_is_shown(client: TestClient) -> None:
    assert client.get("/v1/items", params={"q": "endless"}).json()["total"] == 1
    assert client.get("/v1/items", params={"q": "c" * 200}).json()["total"] == 1
