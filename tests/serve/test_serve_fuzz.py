"""The service against its own OpenAPI page: requests drawn from it, good and bad, and answers held to it."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from serve_helpers import Live

from palate.serve.app import create_app
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.people import find_people
from palate.serve.service import Service

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

FITS = import_module("schemathesis.specs.openapi.checks").positive_data_acceptance
# More of them by hand: PALATE_FUZZ=500 pytest tests/serve/test_serve_fuzz.py
EXAMPLES = int(os.environ.get("PALATE_FUZZ", "15"))
FILMS = {f"{word}-{n}" for word in ("space", "love", "crime") for n in range(8)} - {"space-7"}
KNOWN = st.sampled_from(["space-1", "space-2", "crime-0", "love-7"])


@pytest.fixture(scope="module")
def openapi(bundles: dict[str, Path], films: Path) -> Any:
    service = Service(
        [BundleSpec(name, folder) for name, folder in bundles.items()], ServeConfig(), people=find_people(films, 2)
    )
    service.start()
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service))


QUIETLY = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_as_the_page_says(openapi: Any, mode: str) -> None:
    """No 5xx, and no status, type or body that the page does not name, whether a request fits the page or not.

    A request that fits the page may still be refused: the page does not know the fields of the catalogue.
    """
    asked = 0
    for found in openapi.get_all_operations():
        operation = found.ok()
        try:
            cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

            @QUIETLY
            @given(case=cases)
            def ask(case: Any) -> None:
                nonlocal asked
                asked += 1
                case.call_and_validate(excluded_checks=[FITS])

            ask()
        except Unsatisfiable:  # a route without parameters has no request that breaks its rules
            assert mode == "negative"
    assert asked > 5 * EXAMPLES


@QUIETLY
@given(
    history=st.lists(KNOWN | st.text(min_size=1, max_size=9), max_size=12),
    item=KNOWN,
    model=st.sampled_from(["sasrec", "popularity", "item-knn"]),
    k=st.integers(1, 200),
    diversity=st.just(0.0) | st.floats(0, 1),
    rules=st.fixed_dictionaries(
        {},
        optional={
            "allow": st.lists(KNOWN, max_size=3),
            "deny": st.lists(KNOWN, max_size=3),
            "only": st.lists(st.sampled_from(["tags=space", "year=1995", "tags=nothing"]), max_size=2),
            "exclude_seen": st.booleans(),
        },
    ),
)
def test_known_items_under_any_rules(
    live: Live, history: list[str], item: str, model: str, k: int, diversity: float, rules: dict[str, object]
) -> None:
    """Random requests rarely name an item that exists; these do."""
    asked = {"model": model, "history": history, "k": k, "diversity": diversity, **rules}
    answer = live.post("/v1/recommend", asked)
    assert answer.status in (200, 422), answer.body
    if answer.status == 200:
        ids = [one["id"] for one in answer.json["items"]]
        assert len(set(ids)) == len(ids) <= k
        assert not set(ids) & set(rules.get("deny", []))  # type: ignore[call-overload]
        assert set(ids) <= set(rules["allow"]) if "allow" in rules else True  # type: ignore[call-overload]
        assert rules.get("exclude_seen") is False or not set(ids) & set(history)
        assert set(answer.json["unknown"]) == {one for one in history if one not in FILMS}
    explained = live.post("/v1/explain", {"model": model, "history": history, "item": item})
    assert explained.status == 200, explained.body
    assert 1 <= explained.json["rank"] <= 23
