"""The service over HTTP: what it answers is what the bundle answers, under every rule of a request."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from serve_helpers import Live

from palate.bundle import Bundle
from palate.data.dataset import Dataset

HISTORY = ["space-1", "space-2", "space-3"]


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Bundle:
    return Bundle.load(bundles["sasrec"])


def test_recommends_what_the_bundle_does(live: Live, bundle: Bundle) -> None:
    answer = live.post("/v1/recommend", {"history": [*HISTORY, "no-such-film"], "k": 5}).json
    expected = bundle.recommend(HISTORY, 5)
    assert [one["id"] for one in answer["items"]] == [item for item, _ in expected]
    assert [one["score"] for one in answer["items"]] == pytest.approx([score for _, score in expected], abs=1e-5)
    assert (answer["unknown"], answer["used"], answer["model"]) == (["no-such-film"], 3, "sasrec")
    first = answer["items"][0]
    assert first["title"] == bundle.items.titles[bundle.items.index_of(first["id"]) or 0]
    assert first["fields"] is None


@pytest.mark.parametrize("model", ["popularity", "item-knn", "sasrec"])
def test_every_model_answers_for_itself(live: Live, bundles: dict[str, Path], model: str) -> None:
    answer = live.post("/v1/recommend", {"model": model, "history": HISTORY, "k": 4}).json
    assert [one["id"] for one in answer["items"]] == [
        item for item, _ in Bundle.load(bundles[model]).recommend(HISTORY, 4)
    ]


def test_a_newcomer_gets_what_is_popular(live: Live, bundle: Bundle) -> None:
    answer = live.post("/v1/recommend", {"history": [], "k": 3}).json
    assert [one["id"] for one in answer["items"]] == [item for item, _ in bundle.recommend([], 3)]


def test_seen_items_come_again_only_where_asked(live: Live) -> None:
    def ids(**more: object) -> set[str]:
        return {one["id"] for one in live.post("/v1/recommend", {"history": HISTORY, "k": 200, **more}).json["items"]}

    assert not ids() & set(HISTORY)
    assert ids(exclude_seen=False) >= set(HISTORY)


def test_allow_deny_and_filters(live: Live) -> None:
    def ids(**more: object) -> list[str]:
        body = {"history": HISTORY, "k": 50, **more}
        return [one["id"] for one in live.post("/v1/recommend", body).json["items"]]

    everything = ids()
    assert ids(deny=[everything[0]]) == everything[1:]
    assert ids(allow=[everything[2], everything[0], "nothing"]) == [everything[0], everything[2]]
    assert ids(only=["tags=crime"]) == [one for one in everything if one.startswith("crime")]
    assert ids(without=["tags=crime"]) == [one for one in everything if not one.startswith("crime")]
    assert ids(only=["tags=crime", "year=1995"]) == ["crime-5"]
    assert ids(allow=[]) == []
    assert "nothing" in live.post("/v1/recommend", {"history": [], "allow": ["nothing"]}).json["unknown"]


def test_fields_come_when_asked_for(live: Live) -> None:
    item = live.post("/v1/recommend", {"history": HISTORY, "k": 1, "fields": True}).json["items"][0]
    assert item["fields"]["tags"][1] == "film"
    assert isinstance(item["fields"]["year"], int)


def test_diversity_keeps_the_best_and_spreads_the_rest(live: Live) -> None:
    def answer(diversity: float) -> list[dict[str, object]]:
        body = {"history": ["space-1"], "k": 6, "diversity": diversity}
        found: list[dict[str, object]] = live.post("/v1/recommend", body).json["items"]
        return found

    def kinds(items: list[dict[str, object]]) -> int:
        return len({str(one["id"]).split("-")[0] for one in items})

    plain, spread = answer(0), answer(0.9)
    everything = live.post("/v1/recommend", {"history": ["space-1"], "k": 100, "diversity": 0.9}).json["items"]
    assert len(everything) == len(live.post("/v1/recommend", {"history": ["space-1"], "k": 100}).json["items"])
    assert spread[0] == plain[0]
    assert kinds(spread) > kinds(plain)
    refused = live.post("/v1/recommend", {"model": "popularity", "history": [], "diversity": 0.5})
    assert refused.status == 422
    assert "no item vectors" in refused.error["message"]


@pytest.mark.parametrize("k", [True, "5", 5.0])
def test_a_number_of_items_is_a_number(live: Live, k: object) -> None:
    for path, body in (("/v1/recommend", {"history": []}), ("/v1/similar", {"item": "crime-3"})):
        refused = live.post(path, {**body, "k": k})
        assert refused.status == 422
        assert "body.k" in refused.error["message"]


def test_similar_items(live: Live) -> None:
    by_text = live.post("/v1/similar", {"item": "crime-3", "k": 5, "by": "text"}).json
    assert all(one["id"].startswith("crime") for one in by_text["items"])
    assert by_text["items"][0]["score"] == pytest.approx(max(one["score"] for one in by_text["items"]))
    for model in ("sasrec", "item-knn"):
        found = live.post("/v1/similar", {"model": model, "item": "crime-3", "k": 5}).json["items"]
        assert "crime-3" not in [one["id"] for one in found]
        assert sum(one["id"].startswith("crime") for one in found) >= 4
    assert live.post("/v1/similar", {"model": "popularity", "item": "crime-3"}).status == 422
    assert live.post("/v1/similar", {"item": "nothing"}).status == 404
    no_picture = live.post("/v1/similar", {"item": "crime-0", "by": "image"})
    assert (no_picture.status, no_picture.error["message"]) == (422, "'crime-0' has no image")


def test_search_finds_words_ids_and_the_popular(live: Live) -> None:
    def titles(query: str) -> list[str]:
        return [one["title"] for one in live.get(f"/v1/items?q={quote(query)}&limit=50").json["items"]]

    assert set(titles("CRIME story")) == {f"crime story {n}" for n in range(8)}
    assert titles("love-4") == ["love story 4"]
    assert titles("nothing like it") == []
    page = live.get("/v1/items?limit=5&offset=20").json
    assert (len(page["items"]), page["total"]) == (3, 23)
    first = live.get("/v1/items?limit=3").json["items"]
    newcomer = live.post("/v1/recommend", {"history": [], "k": 3}).json["items"]
    assert [one["id"] for one in first] == [one["id"] for one in newcomer]


def test_an_item_with_all_that_is_known(live: Live) -> None:
    item = live.get("/v1/items/love-4").json
    assert item == {
        "id": "love-4", "title": "love story 4", "image": "/v1/images/love-4",
        "fields": {"tags": ["love", "film"], "year": 1994},
    }  # fmt: skip
    assert live.get("/v1/items/nothing").error["code"] == "no-item"


def test_models_tell_what_they_are(live: Live) -> None:
    models = live.get("/v1/models").json["models"]
    assert [one["name"] for one in models] == ["sasrec", "popularity", "item-knn"]
    best = models[0]
    assert (best["kind"], best["items"], best["objective"]) == ("sasrec", 23, "cross-entropy")
    assert best["modalities"] == ["id", "text", "image"]
    assert best["features"] == ["image", "text"]
    assert best["fields"] == ["tags", "year"]
    assert [(one["objective"], one["diversifies"], one["compares"]) for one in models] == [
        ("cross-entropy", True, True), (None, False, False), (None, False, True),
    ]  # fmt: skip


def test_users_are_real_and_their_next_item_is_not_in_the_history(live: Live, dataset: Dataset) -> None:
    users = live.get("/v1/users").json["users"]
    assert len(users) == 6
    for user in users:
        mine = [dataset.catalogue.ids[item] for item in dataset.history_of(user["id"])]
        assert [one["id"] for one in [*user["history"], *user["held_out"]]] == mine
        assert user["preference"] == []


def test_an_unknown_model_is_told_with_the_closest(live: Live) -> None:
    answer = live.post("/v1/recommend", {"model": "sasrek", "history": []})
    assert answer.status == 404
    assert "sasrec" in answer.error["remedy"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"history": [], "k": 0}, "body.k"),
        ({"history": [], "k": 201}, "at most 200"),
        ({"history": ["space-1"] * 1001}, "at most 1,000"),
        ({"history": "space-1"}, "body.history"),
        ({"k": 3}, "body.history"),
        ({"history": [], "onyl": ["tags=crime"]}, "body.onyl: there is no such field"),
        ({"history": [], "only": ["tags"]}, "body.only.0"),
        ({"history": [], "only": ["tag=crime"]}, "'tag=crime' is not a condition"),
        ({"history": [], "only": ["tags=crimes"]}, "no item meets 'tags=crimes'"),
        ({"history": [], "diversity": 2}, "body.diversity"),
        (b"{", "the body is not JSON"),
        (b'{"history": ["\\ud800"]}', "body.history"),
        (b"\xff\xfe", "body"),
    ],
)
def test_what_cannot_be_is_named(live: Live, body: object, told: str) -> None:
    answer = live.post("/v1/recommend", body)
    assert answer.status in (400, 422), answer.body
    assert told in answer.error["message"]


def test_an_address_that_does_not_exist_names_the_page_of_those_that_do(live: Live) -> None:
    for answer, status in ((live.post("/recommend", {}), 404), (live.get("/v1/recommend"), 405)):
        assert answer.status == status
        assert answer.error["remedy"] == "/docs lists the endpoints."


def test_a_body_that_is_not_sent_as_json(live: Live) -> None:
    """As `curl -d` sends it."""
    answer = live.post("/v1/recommend", {"history": []}, content_type="application/x-www-form-urlencoded")
    assert (answer.status, answer.error["message"]) == (422, "the body is not sent as JSON")
    assert "content-type: application/json" in answer.error["remedy"]


def test_health_and_metrics(live: Live) -> None:
    assert live.get("/healthz").json == {"status": "ok"}
    assert live.get("/readyz").json == {"status": "ok"}
    live.post("/v1/recommend", {"history": ["what-is-this"]})
    text = live.get("/metrics").body.decode()
    assert 'palate_requests_total{method="POST",route="/v1/recommend",status="200"}' in text
    assert 'palate_unknown_items_total{model="sasrec"}' in text
    assert 'palate_batch_size_count{model="sasrec"}' in text
    assert "palate_models 3.0" in text


def test_the_openapi_page_names_every_route(live: Live) -> None:
    paths = live.get("/openapi.json").json["paths"]
    specs = {"/v1/recommend", "/v1/similar", "/v1/explain", "/v1/items/{item_id}", "/v1/images/{item_id}", "/healthz"}
    assert specs <= set(paths)
    assert live.get("/docs").status == 200
