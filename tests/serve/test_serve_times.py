"""Times of a history from the log to answers over HTTP: one function everywhere, with times and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from serve_helpers import Live
from worlds import clocked

from palate.bundle import Bundle, make_bundle
from palate.cascade.cascade import Cascade
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.other_catalogue import OtherCatalogue
from palate.rankers.recommend import Recommendations
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service
from palate.training.blend import blend
from palate.training.fit import train

DAY = 86_400_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("clocked") / "data"
    clocked(asked=True).save(folder)
    return Dataset.load(folder)


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = {
        "ranker": {"dim": 16, "dropout": 0.0, "max_length": 14, "time": "query"},
        "trainer": {"epochs": 8, "batch_size": 16, "learning_rate": 0.01, "tensorboard": False, "exclude_seen": False},
    }
    out = tmp_path_factory.mktemp("timed") / "run"
    return train(data, model="hstu", out=out, settings=settings, dataset_path=data.folder)


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.load(make_bundle(run, tmp_path_factory.mktemp("timed-bundle") / "bundle").folder)


@pytest.fixture(scope="module")
def live(bundle: Bundle) -> Iterator[Live]:
    running = Live(lambda: Service([BundleSpec("hstu", bundle.folder)], ServeConfig()))
    yield running
    running.stop()


def test_an_answer_depends_on_times_and_is_the_evaluation_s(data: Dataset, bundle: Bundle, live: Live) -> None:
    rows = data.cases("test").histories
    assert rows.times is not None
    assert rows.asked is not None
    expected = bundle.recommender.score(rows)
    changed = 0
    for row in range(6):
        history = [f"i{item - 1}" for item in rows[row]]
        times = rows.times[rows.offsets[row] : rows.offsets[row + 1]].tolist()
        asked = int(rows.asked[row])
        for moment in (asked, times[-1] + 30 * DAY, times[-1] + 20_000):
            body = {"history": history, "history_times": times, "asked": moment, "k": 12, "exclude_seen": False}
            found = {one["id"]: one["score"] for one in live.post("/v1/recommend", body).json["items"]}
            own = dict(bundle.recommend(history, 12, exclude_seen=False, times=times, asked=moment))
            assert found == pytest.approx(own, abs=1e-4)
            if moment == asked:
                assert [own[f"i{n}"] for n in range(12)] == pytest.approx(expected[row, 1:].tolist(), abs=1e-4)
            top = next(iter(own))
            # One or five further on the ring, by how long ago the newest item was taken.
            step = 5 if moment - times[-1] > DAY else 1
            changed += top == f"i{(rows[row][-1] - 1 + step) % 12}"
    assert changed > 14  # of 18
    assert live.get("/v1/models").json["models"][0]["reads_times"] is True


def test_without_times_it_answers_too(data: Dataset, bundle: Bundle, live: Live) -> None:
    history = ["i3", "i4", "i9"]
    plain = bundle.recommend(history, 5)
    assert [item for item, _ in plain] == [
        one["id"] for one in live.post("/v1/recommend", {"history": history, "k": 5}).json["items"]
    ]
    unknown = live.post("/v1/recommend", {"history": ["no"], "history_times": [5], "k": 5}).json
    assert (unknown["used"], len(unknown["items"])) == (0, 5)
    newcomer = live.post("/v1/recommend", {"history": [], "history_times": [], "asked": 5, "k": 5}).json
    assert [one["id"] for one in newcomer["items"]] == [item for item, _ in bundle.recommend([], 5)]


def test_unknown_items_leave_with_their_times(bundle: Bundle, live: Live) -> None:
    times = [DAY, 2 * DAY, 3 * DAY, 33 * DAY]
    body = {"history": ["i1", "gone", "i2", "i3"], "history_times": times, "k": 5}
    found = [one["id"] for one in live.post("/v1/recommend", body).json["items"]]
    kept = bundle.recommend(["i1", "i2", "i3"], 5, times=[times[0], *times[2:]])
    assert found == [item for item, _ in kept]


def test_a_moment_that_cannot_be_is_refused_for_a_newcomer_too(live: Live) -> None:
    for path, more in (("/v1/recommend", {"k": 5}), ("/v1/explain", {"item": "i8"})):
        reply = live.post(path, {"history": [], "history_times": [], "asked": 10**40, **more})
        assert (reply.status, reply.error["code"]) == (422, "invalid")
        assert "outside of the years 1 to 9999" in reply.error["message"]


def test_an_explanation_is_of_the_same_score(bundle: Bundle, live: Live) -> None:
    body = {"history": ["i1", "i2", "i3"], "history_times": [0, 20_000, 40_000], "asked": 40 * DAY, "item": "i8"}
    answer = live.post("/v1/explain", body).json
    scores = dict(bundle.recommend(body["history"], 12, False, times=body["history_times"], asked=body["asked"]))
    assert answer["score"] == pytest.approx(scores["i8"], abs=1e-4)
    without = dict(bundle.recommend(["i1", "i3"], 12, False, times=[0, 40_000], asked=40 * DAY))
    mean, left = np.mean(list(scores.values())), np.mean(list(without.values()))
    effect = (scores["i8"] - mean) - (without["i8"] - left)
    assert answer["history"][1]["effect"] == pytest.approx(effect, abs=1e-4)


@pytest.mark.parametrize(
    ("times", "asked", "message"),
    [
        ([1], None, "has 2 items and 1 time"),
        ([9, 3], None, "go back from 9 to 3"),
        ([3, 9], 4, "go back from 9 to 4"),
        ([3, 10**30], None, "outside of the years 1 to 9999"),
        (None, 9, "has no times, so how long ago it was before 9 is not known"),
    ],
)
def test_times_that_cannot_be(
    times: list[int] | None, asked: int | None, message: str, bundle: Bundle, live: Live
) -> None:
    reply = live.post("/v1/recommend", {"history": ["i1", "i2"], "history_times": times, "asked": asked})
    assert (reply.status, reply.error["code"]) == (422, "invalid")
    assert message in reply.error["message"]
    with pytest.raises(PalateError, match=message):
        bundle.recommend(["i1", "i2"], times=times, asked=asked)


def test_recommend_reads_the_times_of_the_log(
    data: Dataset, run: Run, palate: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    ready, model = Recommendations(run, exclude_seen=False), load_recommender(run)
    whole = data.sequences
    items, scores = model.recommend(whole, 3, exclude_seen=False)
    histories, unknown = ready.histories_of(data)
    assert unknown == 0
    found = ready.of_indices(histories, 3)
    assert found["score"].to_list() == pytest.approx(scores.ravel().tolist(), abs=1e-5)
    assert whole.times is not None
    mine = slice(whole.offsets[4], whole.offsets[5])
    by_id = ready([[f"i{item - 1}" for item in whole.values[mine]]], 3, [whole.times[mine].tolist()])
    assert by_id["item"].to_list() == [f"i{item - 1}" for item in items[4].tolist()]
    with pytest.raises(PalateError, match="1 histories and times of 2"):
        ready([["i1"]], 3, [[1], [2]])
    code, out, _ = palate("recommend", run.folder, "--user", "u4", "--k", 3, "--keep-seen", "--json")
    assert code == 0
    assert [f'"{item}"' in out for item in by_id["item"]] == [True] * 3
    assert not torch.allclose(scores, model.recommend(replace(whole, times=None), 3, exclude_seen=False)[1])


def test_what_is_made_of_it_reads_times(data: Dataset, run: Run, tmp_path: Path) -> None:
    model = load_recommender(run)
    popular = train(data, model="popularity", out=tmp_path / "popularity", dataset_path=data.folder)
    both = load_recommender(blend([popular, run], out=tmp_path / "blend"))
    cascade = Cascade(load_recommender(popular), model, depth=12, exclude_seen=False)
    elsewhere = OtherCatalogue(model, data.catalogue, data.catalogue)
    rows = data.cases("test").histories
    assert rows.times is not None
    later = replace(rows, asked=rows.times[rows.offsets[1:] - 1] + 300 * DAY)
    for one in (both, cascade, elsewhere):
        assert one.reads_times
        assert not torch.allclose(one.score(rows), one.score(later))
        assert torch.equal(one.score(rows), one.score(rows))
    assert torch.equal(elsewhere.score(later), model.score(later))
    assert not load_recommender(popular).reads_times
