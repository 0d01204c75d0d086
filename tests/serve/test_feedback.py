"""Feedback over HTTP: answers name their model and request, what was taken is checked and kept, and all is counted."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from serve_helpers import Live
from structlog.testing import capture_logs

from palate.serve.config import ServeConfig
from palate.serve.exposure import Exposure
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service
from palate.serve.telemetry import Telemetry
from palate.serve.traffic import Traffic

HISTORY = ["space-1", "space-2", "what-is-this"]
TRAFFIC = Traffic({"popularity": 0.5, "item-knn": 0.5})


@pytest.fixture
def kept(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Live]:
    specs = [BundleSpec(name, folder) for name, folder in bundles.items()]
    running = Live(lambda: Service(specs, ServeConfig(), traffic=TRAFFIC, feedback=tmp_path))
    yield running
    running.stop()


def _recommend(live: Live, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = live.post("/v1/recommend", {"history": HISTORY, "k": 3, **more}).json
    return found


def test_users_are_split_and_others_get_the_first_model(kept: Live) -> None:
    for number in range(8):
        user = f"u{number}"
        answer = _recommend(kept, user=user)
        assert (answer["model"], answer["variant"]) == (TRAFFIC.model_of(user),) * 2
        named = _recommend(kept, user=user, model="sasrec")
        assert (named["model"], named["variant"]) == ("sasrec", None)
    nobody = _recommend(kept)
    assert (nobody["model"], nobody["variant"]) == ("sasrec", None)
    assert nobody["request_id"] != _recommend(kept)["request_id"]


def test_an_answer_is_called_the_same_in_the_header_and_in_the_log(kept: Live) -> None:
    with capture_logs() as lines:
        own = kept.post("/v1/recommend", {"history": HISTORY})
        traced = [kept.post("/v1/recommend", {"history": HISTORY}, x_request_id="trace-7") for _ in range(2)]
        kept.get("/v1/models", x_request_id="trace-8")
        deadline = time.monotonic() + 30
        while len(lines) < 4 and time.monotonic() < deadline:  # a line is written after its answer
            time.sleep(0.01)
    assert own.headers["x-request-id"] == own.json["request_id"]
    # A client's id may stand on several requests; each answer still has one of its own.
    assert {one.headers["x-request-id"] for one in traced} == {"trace-7"}
    first, second = (one.json["request_id"] for one in traced)
    assert len({own.json["request_id"], first, second, "trace-7"}) == 4
    assert [(line["request"], line.get("answer")) for line in lines] == [
        (own.json["request_id"], None),
        ("trace-7", first),
        ("trace-7", second),
        ("trace-8", None),
    ]


def test_the_rules_on_the_page_count_what_their_names_say(kept: Live) -> None:
    """Click-through is a share of answers, whatever number of items is taken of each; every metric exists."""
    yaml = pytest.importorskip("yaml")
    page = (Path(__file__).resolve().parents[2] / "docs" / "feedback.md").read_text(encoding="utf-8")
    rules = yaml.safe_load(re.search(r"^```yaml\n(.*?)^```", page, re.M | re.S)[1])["groups"][0]["rules"]  # type: ignore[index]
    answers = [_recommend(kept, user="anna") for _ in range(4)]
    taken = {"request_id": answers[0]["request_id"], "items": [item["id"] for item in answers[0]["items"]]}
    assert kept.post("/v1/feedback", taken).json == {"kept": 3}
    assert kept.post("/v1/feedback", {"user": "anna", "items": ["love-2"], "model": answers[0]["model"]}).status == 200
    metrics = kept.get("/metrics").body.decode()
    totals: dict[str, float] = {}
    for name, value in re.findall(r"^(palate_\w+)(?:\{.*\})? (\S+)$", metrics, re.M):
        totals[name] = totals.get(name, 0.0) + float(value)

    def value(record: str) -> float:
        (rule,) = (rule for rule in rules if rule.get("record") == record)
        above, below = re.findall(r"palate_\w+", rule["expr"])
        return totals[above] / totals[below]

    assert value("palate:click_through:1h") == 1 / 4
    assert value("palate:items_taken_per_answer:1h") == 4 / 4
    named = {name for rule in rules for name in re.findall(r"palate_\w+", rule["expr"])}
    assert named - set(re.findall(r"palate_\w+", metrics)) <= {"palate_rules_broken"}  # there with --rules only


def test_what_is_shown_and_taken_is_in_the_files(kept: Live, tmp_path: Path) -> None:
    answer = _recommend(kept, user="anna")
    _recommend(kept, user="anna", record=False)
    shown = [item["id"] for item in answer["items"]]
    taken = {"request_id": answer["request_id"], "items": [shown[1], "love-1"], "kind": "purchase"}
    assert "love-1" not in shown
    assert kept.post("/v1/feedback", taken).json == {"kept": 2}
    searched = {"user": "ben", "items": ["love-2"], "model": "sasrec", "time": int(time.time() * 1000) - 5000}
    assert kept.post("/v1/feedback", searched).json == {"kept": 1}
    metrics = kept.get("/metrics").body.decode()
    kept.stop()
    (path,) = tmp_path.glob("*.parquet")
    rows = pl.read_parquet(path)
    name, request = TRAFFIC.model_of("anna"), answer["request_id"]
    assert rows.drop("time").rows() == [
        *((request, "anna", item, place, name, "shown", None) for place, item in enumerate(shown, 1)),
        (request, "anna", shown[1], 2, name, "taken", "purchase"),
        (request, "anna", "love-1", None, name, "taken", "purchase"),
        (None, "ben", "love-2", None, "sasrec", "taken", "click"),
    ]
    assert rows["time"].is_between(int(time.time() * 1000) - 60_000, int(time.time() * 1000)).all()
    for line in (
        f'palate_answers_total{{model="{name}"}} 1.0',
        f'palate_items_shown_total{{model="{name}"}} 3.0',
        f'palate_items_taken_total{{kind="purchase",model="{name}"}} 2.0',
        f'palate_answers_taken_total{{model="{name}"}} 1.0',
        f'palate_click_through{{model="{name}"}} 1.0',
        f'palate_history_items_total{{known="no",model="{name}"}} 1.0',
        'palate_items_taken_total{kind="click",model="sasrec"} 1.0',
        'palate_feedback_rows_total{event="taken"} 3.0',
    ):
        assert line in metrics
    kept.start()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"items": ["love-1"]}, "neither an answer nor a user"),
        ({"user": "a", "items": ["love-1", "x", "y"]}, "no model knows the items 'x', 'y'"),
        ({"user": "a", "items": []}, "body.items"),
        ({"user": "a", "items": ["love-1"], "kind": "Bought!"}, "body.kind"),
        ({"user": "a", "items": ["love-1"], "time": 1_700_000_000}, "more than 30 days ago"),
        ({"user": "a", "items": ["love-1"], "model": "sasrek"}, "there is no model 'sasrek'"),
        ({"user": "a", "item": "love-1"}, "body.items"),
        ({"user": "a", "items": ["love-1"] * 1001}, "body.items"),
    ],
)
def test_what_cannot_be_is_named_and_not_kept(kept: Live, body: dict[str, Any], message: str) -> None:
    answer = kept.post("/v1/feedback", body)
    assert answer.status == 422
    assert message in answer.error["message"]
    assert "palate_items_taken_total{" not in kept.get("/metrics").body.decode()


@pytest.mark.parametrize(("user", "wrong"), [("7.0", "may mean the whole number"), ("1e+5", "was rounded")])
def test_users_that_prepare_would_refuse_are_refused_at_once(kept: Live, user: str, wrong: str) -> None:
    for path, body in (("/v1/recommend", {"history": HISTORY}), ("/v1/feedback", {"items": ["love-1"]})):
        answer = kept.post(path, {**body, "user": user})
        assert answer.status == 422
        assert answer.error["message"].startswith(f"body.user: the user id '{user}' ")
        assert wrong in answer.error["message"]
        assert answer.error["remedy"]


@pytest.mark.parametrize("user", ["7", "007", "-3", "1.5", "12e4", "v1.0", "7.0 ", "anna"])
def test_users_that_prepare_takes_are_taken(kept: Live, user: str) -> None:
    assert kept.post("/v1/recommend", {"history": HISTORY, "user": user}).status == 200
    assert kept.post("/v1/feedback", {"items": ["love-1"], "user": user}).status == 200


def test_an_answer_belongs_to_its_user(kept: Live) -> None:
    answer = _recommend(kept, user="anna")
    body = {"request_id": answer["request_id"], "user": "ben", "items": [answer["items"][0]["id"]]}
    assert kept.post("/v1/feedback", body).status == 422
    assert kept.post("/v1/feedback", {**body, "request_id": "of-another-process"}).status == 200


def test_without_a_folder_nothing_is_kept(live: Live) -> None:
    refused = live.post("/v1/feedback", {"user": "a", "items": ["love-1"]})
    assert (refused.status, refused.error["code"]) == (404, "not-here")


def test_a_key_is_wanted_for_feedback_too(bundles: dict[str, Path], tmp_path: Path) -> None:
    specs = [BundleSpec("popularity", bundles["popularity"])]
    live = Live(lambda: Service(specs, ServeConfig(), feedback=tmp_path), key="s3cret")
    try:
        body = {"user": "a", "items": ["love-1"]}
        assert live.post("/v1/feedback", body).status == 401
        assert live.post("/v1/feedback", body, authorization="Bearer s3cret").status == 200
    finally:
        live.stop()


def test_popularity_shift_is_zero_for_what_training_looks_like() -> None:
    telemetry = Telemetry()
    counts = np.array([0, *[10] * 20, 0.0])
    exposure = Exposure("best", telemetry, counts)
    assert exposure.shift() == 0
    exposure.answered(5, 4, list(range(1, 21)))
    assert exposure.shift() == pytest.approx(0)
    for _ in range(20):
        exposure.answered(5, 4, [1, 2, 1, 2])
    one = 100 / 120  # of the first tenth among what was shown; less its older part, which counts as much here
    assert exposure.shift() > (one - 0.1) * np.log(one / 0.1)
    exposure.answered(0, 0, [21])
    Exposure("best", telemetry, counts)  # of a bundle that is not taken over in the end
    assert f'palate_popularity_shift{{model="best"}} {exposure.shift()}' in telemetry.text().decode()
    text = telemetry.text().decode()
    assert 'palate_items_shown_new_total{model="best"} 1.0' in text
    assert 'palate_items_shown_by_popularity_total{model="best",tenth="1"} 82.0' in text
    assert 'palate_history_length_bucket{le="0.0",model="best"} 1.0' in text
