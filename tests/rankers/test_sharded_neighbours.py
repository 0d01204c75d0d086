"""A divided catalogue whose rankers have neighbours, or are blends: what the whole would recommend."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from bundle_helpers import encoded_films, make_run
from exact_ranker import (
    SOURCES,
    Exact,
    compare_recommendations,
    neighbours,
    sasrec,
    with_neighbours,
    with_newcomers,
)
from safetensors.numpy import load_file, save_file
from worlds import FILM_WORDS, HELD_OUT_FILM, random_logs

from palate.bundle import add_items, make_bundle
from palate.bundle.recommend import open_recommendations
from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.engines.local import LOCAL
from palate.errors import PalateError
from palate.rankers.blend import Blend, BlendConfig
from palate.rankers.content_knn import ContentKNN
from palate.rankers.ease import EASE
from palate.rankers.ials import IALS
from palate.rankers.item_knn import ItemKNN
from palate.rankers.neighbours import FILE
from palate.rankers.popularity import Popularity
from palate.recommender import Recommender, Shard
from palate.runs.run import Run
from palate.topk import merged
from palate.training.blend import blend


def near(dataset: Dataset) -> Exact:
    made = with_neighbours(sasrec(dataset))
    assert isinstance(made, Exact)
    return made


def content(dataset: Dataset) -> ContentKNN:
    """Weights that are no exact numbers; the second newest item of a history counts nothing."""
    options = {"sources": SOURCES, "weights": (0.3, 1.7, 1, 0.1), "lag_weights": (0.9, 0, 0.7)}
    counts = torch.from_numpy(dataset.train_counts).float()
    return ContentKNN(neighbours(dataset.num_items).lists, counts, ContentKNN.Config.parse(options, where="test"))


def mixed(dataset: Dataset) -> Blend:
    """Weights and scales that are no exact numbers; one ranker has neighbours, one does not look at histories."""
    parts = [near(dataset), sasrec(dataset), ItemKNN.fit(dataset), Popularity.fit(dataset), content(dataset)]
    kinds = ("exact", "exact", "item-knn", "popularity", "content-knn")
    facts = [{"kind": kind, "weight": 0.3, "scale": 1.7} for kind in kinds]
    return Blend(parts, BlendConfig.parse({"parts": facts}, where="test"))


@pytest.fixture
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ranker of tests, under a name that a blend finds."""
    kinds = {"exact": Exact, "item-knn": ItemKNN, "popularity": Popularity, "content-knn": ContentKNN}
    monkeypatch.setattr("palate.rankers.blend.RANKERS", kinds)


@pytest.mark.usefixtures("_exact")
@pytest.mark.parametrize("make", [near, mixed, content, ItemKNN.fit, EASE.fit, Popularity.fit])
@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_parts_recommend_what_the_whole_would(
    make: Callable[[Dataset], Recommender], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palate.recommender._SCORES", 60 * 7)  # some items at a time
    dataset = random_logs(repeats=True)
    whole = make(dataset)
    whole.save(tmp_path)
    histories = with_newcomers(dataset.cases("test")).histories
    shards = [type(whole).load_shard(tmp_path, Shard(index, count)) for index in range(count)]
    owned = [item for shard in shards if shard.shard is not None for item in shard.shard.items.tolist()]
    assert owned == list(range(1, dataset.num_items + 1))
    compare_recommendations(whole, shards, histories)


def test_factors_of_users_are_those_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.recommender._SCORES", 60 * 7)  # some items at a time
    dataset = random_logs(repeats=True)
    torch.manual_seed(0)
    factors = torch.randn(dataset.num_items + 1, 8)
    factors[0] = 0
    whole = IALS(factors, IALS.Config(factors=8), torch.from_numpy(dataset.train_counts).float())
    whole.save(tmp_path)
    histories = with_newcomers(dataset.cases("test")).histories
    items, scores = whole.recommend(histories, 10)
    parts = [IALS.load_shard(tmp_path, Shard(index, 3)).recommend(histories, 10) for index in range(3)]
    found, their_scores = merged(parts, 10)
    assert torch.allclose(their_scores, scores, rtol=1e-4, atol=1e-6)
    assert (found == items).float().mean() > 0.99
    blocks = whole.item_scorer(histories, 0)
    parts_of_rows = torch.cat([blocks(slice(start, start + 4)) for start in range(0, dataset.num_items + 1, 4)], dim=1)
    assert torch.allclose(parts_of_rows[:, 1:], whole.score(histories)[:, 1:], rtol=1e-4, atol=1e-6)


def test_parts_of_content_knn_leave_the_lists_in_their_file(tmp_path: Path) -> None:
    whole = content(random_logs())
    whole.save(tmp_path)
    shard = ContentKNN.load_shard(tmp_path, Shard(0, 2))
    assert not any(one.items.flags.owndata or one.values.flags.owndata for one in shard.lists)
    stored = load_file(tmp_path / "model.safetensors")
    stored["items.1"][-1] = 10_000
    save_file(stored, tmp_path / "model.safetensors")
    ContentKNN.load_shard(tmp_path, Shard(0, 2))
    with pytest.raises(PalateError, match="a neighbour that is not in the catalogue"):
        ContentKNN.load_shard(tmp_path, Shard(1, 2))


def test_lists_stay_in_their_file_and_each_part_checks_its_own_rows(tmp_path: Path) -> None:
    whole = near(random_logs())
    whole.save(tmp_path)
    shard = Exact.load_shard(tmp_path, Shard(0, 2))
    assert shard.neighbours is not None
    assert shard.neighbours.sources == list(SOURCES)
    for one in shard.neighbours.lists:
        assert not one.items.flags.owndata
        assert not one.values.flags.owndata
    stored = load_file(tmp_path / FILE)
    metadata = {str(number): source for number, source in enumerate(SOURCES)}

    def damaged(name: str, value: Any, at: Any = -1) -> None:
        arrays = {key: one.copy() for key, one in stored.items()}
        arrays[name][at] = value
        save_file(arrays, tmp_path / FILE, metadata=metadata)

    for name, value in (("1.values", np.nan), ("3.items", 10_000), ("0.values", 1)):  # the last row has no neighbours
        damaged(name, value)
        Exact.load_shard(tmp_path, Shard(0, 2))
        with pytest.raises(PalateError, match=rf"{FILE} is damaged"):
            Exact.load_shard(tmp_path, Shard(1, 2))
    damaged("2.items", 3, at=0)  # of the padding
    for index in range(2):
        with pytest.raises(PalateError, match="neighbours of the padding"):
            Exact.load_shard(tmp_path, Shard(index, 2))
    damaged("weights", np.nan)
    with pytest.raises(PalateError, match=rf"{FILE} is damaged"):
        Exact.load_shard(tmp_path, Shard(0, 2))
    save_file({**stored, "0.items": stored["0.items"][:-1]}, tmp_path / FILE, metadata=metadata)
    with pytest.raises(PalateError, match=rf"{FILE} is damaged"):
        Exact.load_shard(tmp_path, Shard(0, 2))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def run(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ids, hardly trained, with neighbours by everything, and what a repeated item is worth."""
    out = tmp_path_factory.mktemp("runs") / "run"
    made = make_run(films, out, modalities="id", neighbours=SOURCES, epochs=1, repeat_bias=True)
    assert made.info["neighbours"]["strength"] > 0
    return made


@pytest.fixture(scope="module")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People who took films that the run knows, that it does not know, or only such: these have no history."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(25):
        known = [f"{FILM_WORDS[place % 3]}-{place % 7}" for place in rng.integers(0, 21, 7)]
        strange = [f"strange-{place}" for place in range(7)]
        mine = {0: strange, 1: [*known[:3], *strange[:2], *known[3:]]}.get(user % 4, known)
        rows += [(f"v{user}", item) for item in mine]
    folder = tmp_path_factory.mktemp("visitors") / "data"
    from_frames(pl.DataFrame(rows, schema=["user", "item"], orient="row"), name="visitors").save(folder)
    return folder


@pytest.fixture(scope="module")
def grown(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run's bundle with a film that nobody has taken."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(run, folder / "bundle")
    new = pl.DataFrame({"item_id": [HELD_OUT_FILM], "title": ["space story 7"], "tags": ["space"], "year": [1997]})
    new.write_csv(folder / "new.csv")
    add_items(folder / "bundle", folder / "new.csv", folder / "grown")
    return folder / "grown"


@pytest.mark.parametrize("shards", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"only": ("year>1991",), "without": ("tags=love",), "deny": ("crime-5",), "fields": ("year",)},
        {"exclude_seen": False},
    ],
)
def test_everyone_gets_the_same_table_from_a_run_and_from_a_bundle(
    options: dict[str, Any], shards: int, run: Run, grown: Path, visitors: Path, tmp_path: Path
) -> None:
    people = Dataset.load(visitors)
    for number, folder in enumerate((run.folder, grown)):
        load = partial(open_recommendations, folder, **options)
        tables = []
        for name, some in (("whole", None), ("parts", shards)):
            out = tmp_path / f"{number}-{name}.parquet"
            load().for_everyone(people, out, 8, engine=LOCAL, load=None if some is None else load, shards=some)
            tables.append(pl.read_parquet(out))
        whole, parts = tables
        histories, unknown = load().histories_of(people)
        assert 0 < (histories.lengths == 0).sum() < people.num_users
        assert unknown > 7 * (histories.lengths == 0).sum()
        assert parts.drop("score").equals(whole.drop("score"))
        assert np.allclose(parts["score"], whole["score"], rtol=1e-5, atol=1e-5)
        assert whole["user"].n_unique() == people.num_users
        assert (HELD_OUT_FILM in whole["item"].to_list()) == (folder == grown)


def test_a_blend_of_runs_gives_everyone_the_same_table(run: Run, films: Path, visitors: Path, tmp_path: Path) -> None:
    others = [make_run(films, tmp_path / kind, model=kind, modalities="id") for kind in ("item-knn", "popularity")]
    made = blend([run, *others], out=tmp_path / "blend", dataset=films)
    load = partial(open_recommendations, made.folder)
    people, tables = Dataset.load(visitors), []
    for some in (None, 3):
        out = tmp_path / f"{some}.parquet"
        load().for_everyone(people, out, 8, engine=LOCAL, load=None if some is None else load, shards=some)
        tables.append(pl.read_parquet(out))
    assert tables[1].drop("score").equals(tables[0].drop("score"))
    assert np.allclose(tables[1]["score"], tables[0]["score"], rtol=1e-5, atol=1e-5)
