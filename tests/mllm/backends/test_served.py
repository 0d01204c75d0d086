"""A language model in the service: it re-ranks what a fast model proposes, and explains itself in log-odds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_helpers import encoded_films, make_run

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
from fastapi.testclient import TestClient

from palate.bundle import Bundle, make_bundle
from palate.cascade.cascade import Cascade
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.zero_shot import zero_shot
from palate.serve.app import create_app
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import parse_bundle_specs
from palate.serve.service import Service

HISTORY = ["space-1", "space-2"]


@pytest.fixture(scope="module")
def bundles(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("served-mllm")
    data = encoded_films(folder)
    settings = {"model": {"name": str(tiny("llama"))}, "prompt": {"history_items": 3}}
    slow = zero_shot(Dataset.load(data), out=folder / "slow", settings=settings, dataset_path=data, device="cpu")
    fast = make_run(data, folder / "fast", "item-knn", "id")
    return {
        name: str(make_bundle(run, folder / "bundles" / name).folder) for name, run in (("slow", slow), ("fast", fast))
    }


@pytest.fixture(scope="module")
def client(bundles: dict[str, str]) -> TestClient:
    service = Service(parse_bundle_specs([bundles["slow"]], bundles["fast"], 5, None), ServeConfig())
    service.start()
    return TestClient(create_app(service))


def test_it_answers_as_the_cascade_does(client: TestClient, bundles: dict[str, str]) -> None:
    slow, fast = Bundle.load(bundles["slow"]), Bundle.load(bundles["fast"])
    known = slow.known(HISTORY)[0]
    items, scores = Cascade(fast.recommender, slow.recommender, depth=5).recommend([known], 7)
    answer = client.post("/v1/recommend", json={"model": "slow", "history": HISTORY, "k": 7}).json()
    assert [one["id"] for one in answer["items"]] == [slow.items.ids[item] for item in items[0].tolist()]
    assert [one["score"] for one in answer["items"]] == pytest.approx(scores[0].tolist(), abs=1e-4)
    denied = answer["items"][0]["id"]
    again = client.post("/v1/recommend", json={"model": "slow", "history": HISTORY, "k": 7, "deny": [denied]}).json()
    assert denied not in [one["id"] for one in again["items"]]


def test_both_are_offered_and_the_cascade_says_who_proposes(client: TestClient) -> None:
    models = client.get("/v1/models").json()["models"]
    assert [(one["name"], one["kind"], one["retriever"]) for one in models] == [
        ("slow", "mllm", "fast"), ("fast", "item-knn", None),
    ]  # fmt: skip


def test_effects_are_differences_of_log_odds(client: TestClient, bundles: dict[str, str]) -> None:
    import torch

    slow = Bundle.load(bundles["slow"])
    known = slow.known(HISTORY)[0]
    item = slow.items.index_of("crime-3") or 0
    explanation = client.post("/v1/explain", json={"model": "slow", "history": HISTORY, "item": "crime-3"}).json()
    scores = slow.recommender.score([known, known[1:], known[:1]], torch.full((3, 1), item))[:, 0].tolist()
    assert explanation["score"] == pytest.approx(scores[0], abs=1e-4)
    effects = [one["effect"] for one in explanation["history"]]
    assert effects == pytest.approx([scores[0] - scores[1], scores[0] - scores[2]], abs=1e-4)
    assert (explanation["rank"], explanation["modalities"]) == (None, None)


def test_a_language_model_alone_is_refused(bundles: dict[str, str]) -> None:
    with pytest.raises(PalateError, match="cannot afford the whole catalogue"):
        parse_bundle_specs([bundles["slow"]], None, 20, None)
    with pytest.raises(PalateError, match="cannot afford"):
        parse_bundle_specs([bundles["fast"], bundles["slow"]], bundles["slow"], 20, None)
