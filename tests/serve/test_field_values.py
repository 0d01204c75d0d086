"""What /v1/fields says of a catalogue."""

from __future__ import annotations

import polars as pl
import pytest

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from serve_helpers import Live

from palate.data.catalogue import Catalogue
from palate.serve.field_values import summarise_fields


def test_values_by_frequency_and_ranges_of_numbers() -> None:
    count = 40
    frame = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(count)],
            "title": [None] * count,
            "image": [None] * count,
            "colour": ["red"] * 3 + ["blue, dark"] * 4 + [None] * 33,
            "tags": [["new", "cheap"], ["cheap"], []] + [None] * 37,
            "price": [1.5, float("nan"), 20.0, float("inf")] + [None] * 36,
            "plot": [f"A story of {n}." for n in range(count)],
            "sentence": ["word " * 50] * count,
            "unknown": pl.Series([None] * count, dtype=pl.Float64),
            "size": [{"wide": 1}] * count,
        },
        schema_overrides={"title": pl.String, "image": pl.String},
    )
    found = {one.name: one for one in summarise_fields(Catalogue(frame))}
    assert [(one.value, one.items) for one in found["colour"].values] == [("blue, dark", 4), ("red", 3)]
    assert [(one.value, one.items) for one in found["tags"].values] == [("cheap", 2), ("new", 1)]
    assert (found["price"].kind, found["price"].low, found["price"].high) == ("number", 1.5, 20.0)
    assert found["plot"].values == []  # every item has its own
    assert found["sentence"].values == []
    assert (found["unknown"].low, found["unknown"].high) == (None, None)
    assert set(found) == set(frame.columns) - {"item_id", "title", "image"}


def test_every_suggested_value_is_a_condition(live: Live) -> None:
    fields = live.get("/v1/fields").json["fields"]
    assert {one["name"] for one in fields} == set(live.get("/v1/models").json["models"][0]["fields"])
    for one in fields:
        for value in one["values"]:
            only = [f"{one['name']}={value['value']}"]
            answer = live.post("/v1/recommend", {"history": [], "only": only, "k": 5})
            assert answer.status == 200
            assert answer.json["items"]
    assert live.get("/v1/fields?model=nobody").status == 404
