"""What the service says of a ranker with neighbours: their part of a score, their lists, and what items share."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from serve_helpers import Live

from palate.bundle import Bundle
from palate.data.catalogue import Catalogue
from palate.data.sequences import Sequences
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sequential import SequentialRanker
from palate.serve.shared_fields import SharedField, SharedFields

HISTORY = ["space-1", "crime-2", "space-3"]


@pytest.fixture(scope="module")
def model(near_bundle: Path) -> SequentialRanker:
    found = Bundle.load(near_bundle).recommender
    assert isinstance(found, SequentialRanker)
    return found


@pytest.fixture(scope="module")
def neighbours(model: SequentialRanker) -> NeighbourScores:
    assert model.neighbours is not None
    return model.neighbours


def test_what_neighbours_add_is_their_part_of_the_score(near: Live, near_bundle: Path) -> None:
    bundle = Bundle.load(near_bundle)
    model = bundle.recommender
    assert isinstance(model, SequentialRanker)
    history = bundle.known(HISTORY)[0]
    with_them = model.score([history])[0]
    model.neighbours = None
    without = model.score([history])[0]
    for name in ("space-5", "love-4"):
        index = bundle.items.index_of(name) or 0
        answer = near.post("/v1/explain", {"history": HISTORY, "item": name}).json
        assert answer["score"] == pytest.approx(float(with_them[index]), abs=1e-5)
        total = sum(one["effect"] for one in answer["neighbours"])
        assert total == pytest.approx(float(with_them[index] - without[index]), abs=1e-5)
        # The modalities are of the product, which neighbours leave alone.
        features = {key: near.service.loaded.find("near").vectors.row(key, index) for key in model.widths}
        from palate.serve.effects import modality_effects

        expected = [one.effect for one in modality_effects(model, Sequences.from_lists([history]), index, features)]
        assert [one["effect"] for one in answer["modalities"]] == pytest.approx(expected, abs=1e-5)


def test_a_neighbour_is_named_with_its_sources_and_what_is_shared(near: Live, neighbours: NeighbourScores) -> None:
    items = near.service.loaded.find("near").items
    answer = near.post("/v1/explain", {"history": [HISTORY[0], "unheard-of", *HISTORY[1:]], "item": "space-5"}).json
    found = answer["neighbours"]
    assert [one["effect"] for one in found] == sorted((one["effect"] for one in found), reverse=True)
    last = found[0]
    assert (last["id"], last["title"], last["lag"], last["position"]) == ("space-3", "space story 3", 1, 3)
    assert last["image"] == "/v1/images/space-3"
    assert {one["source"] for one in last["sources"]} == {"co-occurrence", "text"}
    assert last["effect"] == pytest.approx(sum(one["effect"] for one in last["sources"]))
    for one in last["sources"]:
        place = neighbours.sources.index(one["source"])
        listed, row = neighbours.lists[place], items.index_of("space-3")
        cosine = float(listed.values[row][listed.items[row] == items.index_of("space-5")][0])
        assert one["cosine"] == pytest.approx(cosine)
        assert one["effect"] == pytest.approx(cosine * float(neighbours.weights[place, 0]))
    assert last["shared"] == [{"field": "tags", "values": ["space"]}]  # that both are films says nothing
    assert "crime-2" not in [one["id"] for one in found]
    oldest = next(one for one in found if one["lag"] == 3)
    assert (oldest["id"], oldest["position"]) == ("space-1", 0)


def test_an_item_of_the_history_and_a_newcomer_get_nothing(near: Live) -> None:
    assert near.post("/v1/explain", {"history": HISTORY, "item": "space-1"}).json["neighbours"] == []
    assert near.post("/v1/explain", {"history": [], "item": "space-1"}).json["neighbours"] == []


def test_models_without_neighbours_say_so(live: Live) -> None:
    assert {one["name"]: one["neighbours"] for one in live.get("/v1/models").json["models"]} == {
        "sasrec": None, "popularity": None, "item-knn": None
    }  # fmt: skip
    assert live.post("/v1/explain", {"history": HISTORY, "item": "space-5"}).json["neighbours"] is None


def test_a_models_facts_name_its_neighbours(near: Live) -> None:
    facts = near.get("/v1/models").json["models"][0]
    assert {one["source"]: one["weights"] for one in facts["neighbours"]} == {
        "co-occurrence": [2.0, 1.0, 0.5], "text": [1.5, 0.0, 0.25]
    }  # fmt: skip
    assert all(0 < one["coverage"] <= 1 for one in facts["neighbours"])
    assert facts["features"] == ["co-occurrence", "text"]


def test_items_are_alike_by_the_lists_of_a_source(near: Live, neighbours: NeighbourScores) -> None:
    items = near.service.loaded.find("near").items
    found = near.post("/v1/similar", {"item": "crime-3", "by": "co-occurrence", "k": 4}).json
    row = items.index_of("crime-3")
    assert [one["id"] for one in found["items"]] == [items.ids[item] for item in neighbours.lists[0].items[row, :4]]
    assert [one["score"] for one in found["items"]] == pytest.approx(neighbours.lists[0].values[row, :4].tolist())
    # The lists keep six; features compare with all.
    assert len(near.post("/v1/similar", {"item": "crime-3", "by": "co-occurrence", "k": 10}).json["items"]) <= 6
    assert len(near.post("/v1/similar", {"item": "crime-3", "by": "text", "k": 10}).json["items"]) == 10
    unknown = near.post("/v1/similar", {"item": "crime-3", "by": "co-occurence"})
    assert unknown.status == 422
    assert unknown.error == {
        "code": unknown.error["code"],
        "message": "'near' cannot compare items by co-occurence",
        "remedy": "Did you mean 'co-occurrence'?",
    }


def test_recommendations_follow_the_neighbours(near: Live, near_bundle: Path) -> None:
    found = near.post("/v1/recommend", {"history": HISTORY, "k": 5}).json["items"]
    expected = Bundle.load(near_bundle).recommend(HISTORY, 5)
    assert [one["id"] for one in found] == [item for item, _ in expected]


def test_shared_fields_are_what_both_have_and_most_have_not() -> None:
    long = "a description of many words " * 5
    rows = {
        "item_id": ["a", "b", "c", "d", "e"],
        "title": ["same"] * 5,
        "image": [None] * 5,
        "categories": ["Beauty > Skin > Sun", "Beauty > Skin > Face", "Beauty > Nails", "Beauty", None],
        "tags": [["red", "new", "x"], ["new", "red"], ["new"], ["new"], ["y"]],
        "text": [long, long, "c", "d", "e"],
        "size": [4.0, 4.0, 5.0, None, None],
        "brand": ["N", "E", "N", "E", None],
    }
    shared = SharedFields(Catalogue(pl.DataFrame(rows)))
    assert shared(1, 2) == [
        SharedField(field="categories", values=["Beauty > Skin"]),
        SharedField(field="tags", values=["red"]),
        SharedField(field="size", values=["4"]),
    ]
    assert shared(1, 3) == [SharedField(field="brand", values=["N"])]
    assert shared(4, 5) == []
