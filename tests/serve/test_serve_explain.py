"""Explanations are differences of scores that the bundle itself gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from serve_helpers import Live

from palate.bundle import Bundle
from palate.bundle.append_items import part_vectors
from palate.rankers.sequential import SequentialRanker

HISTORY = ["space-1", "crime-2", "space-3"]


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Bundle:
    return Bundle.load(bundles["sasrec"])


def _row(bundle: Bundle, history: list[str]) -> torch.Tensor:
    return bundle.recommender.score([bundle.known(history)[0]])[0]


def test_each_item_of_the_history_is_left_out_in_turn(live: Live, bundle: Bundle) -> None:
    told = live.post("/v1/explain", {"history": [HISTORY[0], "unheard-of", *HISTORY[1:]], "item": "space-5"}).json
    index = bundle.items.index_of("space-5")
    whole = _row(bundle, HISTORY)
    assert told["score"] == pytest.approx(float(whole[index]), abs=1e-5)
    assert told["unknown"] == ["unheard-of"]
    assert [one["position"] for one in told["history"]] == [0, 2, 3]
    for place, one in enumerate(told["history"]):
        assert one["id"] == HISTORY[place]
        without = _row(bundle, HISTORY[:place] + HISTORY[place + 1 :])
        effect = (whole[index] - whole[1:].mean()) - (without[index] - without[1:].mean())
        assert one["effect"] == pytest.approx(float(effect), abs=1e-4)


def test_the_rank_is_the_place_in_the_list(live: Live) -> None:
    listed = live.post("/v1/recommend", {"history": HISTORY, "k": 200}).json["items"]
    for place in (0, 5, len(listed) - 1):
        told = live.post("/v1/explain", {"history": HISTORY, "item": listed[place]["id"]}).json
        assert told["rank"] == place + 1
        assert told["score"] == pytest.approx(listed[place]["score"], abs=1e-5)


def test_an_items_vector_is_made_of_its_parts(bundle: Bundle, live: Live) -> None:
    """With everything it has, the vector is the one that scores; the effects follow from the vectors without a part."""
    model = bundle.recommender
    assert isinstance(model, SequentialRanker)
    index = bundle.items.index_of("crime-4") or 0
    vectors_of = live.service.loaded.find("sasrec").vectors
    features = {name: vectors_of.row(name, index)[0] for name in model.widths}
    here = {"id": True, "text": True, "image": True}
    vectors = part_vectors(model, index, features, [here, {**here, "image": False}])
    torch.testing.assert_close(vectors[0], model.table()[index], atol=1e-5, rtol=1e-5)
    told = live.post("/v1/explain", {"history": HISTORY, "item": "crime-4"}).json
    query = model.queries(_sequences(bundle, HISTORY)).queries[0]
    image = next(one for one in told["modalities"] if one["modality"] == "image")
    expected = float((vectors[0] - vectors[1]) @ query)
    assert image == {"modality": "image", "present": True, "effect": pytest.approx(expected, abs=1e-4)}
    assert abs(image["effect"]) > 1e-6


def test_what_an_item_lacks_has_no_effect(live: Live) -> None:
    told = live.post("/v1/explain", {"history": HISTORY, "item": "crime-0"}).json
    image = next(one for one in told["modalities"] if one["modality"] == "image")
    assert image == {"modality": "image", "present": False, "effect": 0.0}


def test_models_without_modalities_say_so(live: Live) -> None:
    told = live.post("/v1/explain", {"model": "item-knn", "history": HISTORY, "item": "space-5"}).json
    assert told["modalities"] is None
    assert told["history"][2]["effect"] > 0  # of one kind
    assert live.post("/v1/explain", {"history": [], "item": "space-5"}).json["notes"]


@pytest.mark.parametrize("model", ["sasrec", "item-knn"])
def test_a_history_of_one_is_not_taken_apart(live: Live, model: str) -> None:
    """A newcomer's scores are counts, not logits or cosines: a difference to them would mean nothing."""
    told = live.post("/v1/explain", {"model": model, "history": ["space-1"], "item": "space-5"}).json
    assert told["history"] == []
    assert "newcomer" in told["notes"][0]
    assert len(live.post("/v1/explain", {"history": HISTORY[:2], "item": "space-5"}).json["history"]) == 2


def test_long_histories_are_explained_by_their_newest(live: Live) -> None:
    told = live.post("/v1/explain", {"history": HISTORY * 5, "item": "space-5"}).json
    assert [one["position"] for one in told["history"]] == list(range(7, 15))
    assert "newest 8 of 15" in told["notes"][0]


def _sequences(bundle: Bundle, history: list[str]):  # type: ignore[no-untyped-def]
    from palate.data.sequences import Sequences

    return Sequences.from_lists([bundle.known(history)[0]])
