"""content-knn against a plain loop, from the data set to the bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from worlds import random_logs

from palate.bundle.add import add_items
from palate.bundle.load import Bundle
from palate.bundle.make import make_bundle
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.lexical import encode_lexical
from palate.features.neighbours import neighbour_list
from palate.rankers.blend import Blend, BlendConfig
from palate.rankers.content_knn import ContentKNN, ContentKNNConfig
from palate.rankers.ease import EASE
from palate.rankers.registry import load_recommender
from palate.recommender import as_sequences
from palate.runs.run import Run
from palate.serve.similar_items import comparing, similar_by_neighbours
from palate.training.fit import train

ITEMS = 30


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Thirty items of a few words; item 30 has none, and items without a word in common are no neighbours."""
    made = random_logs(users=50, items=ITEMS, repeats=True)
    rng = np.random.default_rng(3)
    titles: list[str | None] = [" ".join(rng.choice(["red", "blue", "silk", "wool", "sock"], 2)) for _ in range(ITEMS)]
    titles[ITEMS - 1] = None
    frame = made.catalogue.frame.with_columns(title=pl.Series(titles, dtype=pl.String))
    dataclasses.replace(made, catalogue=Catalogue(frame)).save(tmp_path / "data")
    encode_lexical(made := Dataset.load(tmp_path / "data"), tmp_path / "data")
    return made


def test_scores_add_up_the_neighbours_of_the_newest_items(dataset: Dataset) -> None:
    model = ContentKNN.fit(
        dataset,
        ContentKNNConfig(sources="lexical,co-occurrence", weights="1,0.5", keep=7),  # type: ignore[arg-type]
    )
    words = neighbour_list(dataset, "lexical", keep=7).matrix().toarray()
    log = neighbour_list(dataset, "co-occurrence", keep=7).matrix().toarray()
    both = words + 0.5 * log
    lags = [1, 0.8, 0.6, 0.4, 0.3]
    history = [9, 1, 2, 3, 4, 3, 5]  # the first two are too old to count
    expected = sum(weight * both[item] for weight, item in zip(lags, reversed(history), strict=False))
    np.testing.assert_allclose(model.score([history])[0, 1:], expected[1:], rtol=1e-5)
    short = lags[0] * both[2] + lags[1] * both[1]
    np.testing.assert_allclose(model.score([[1, 2]])[0, 1:], short[1:], rtol=1e-5)


def test_nobody_and_nothing_known_is_answered_by_popularity(dataset: Dataset) -> None:
    model = ContentKNN.fit(dataset)
    scores = model.score([[], [ITEMS], [1]])
    assert scores[0, 1:].tolist() == dataset.train_counts[1:].tolist()
    assert scores[1, 1:].argsort(stable=True).equal(scores[0, 1:].argsort(stable=True))
    assert scores[1, 1:].max() < 1e-6
    assert scores[2, 1:].max() < 1.01
    assert model.item_scorer([[], [ITEMS], [1]], 0)(slice(1, None)).equal(scores[:, 1:])


def test_in_a_blend_another_ranker_decides_where_nothing_is_alike(dataset: Dataset) -> None:
    knn, other = ContentKNN.fit(dataset), EASE.fit(dataset)
    parts = [{"kind": "content-knn", "weight": 0.9, "scale": 0.01}, {"kind": "ease", "weight": 0.1, "scale": 1.0}]
    blend = Blend([knn, other], BlendConfig.model_validate({"parts": parts}))
    assert not (torch.from_numpy(knn.alike_to(as_sequences([[ITEMS]])).toarray()) > 0).any()
    torch.testing.assert_close(blend.score([[ITEMS]])[0, 1:], other.score([[ITEMS]])[0, 1:] * 0.1, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lags": 2}, (1.0, 0.8)),
        ({"lags": 7}, (1.0, 0.8, 0.6, 0.4, 0.3, 0.225, 0.16875)),
        ({"lags": 3, "half_life": 1}, (1.0, 0.5, 0.25)),
        ({"lag_weights": "1,0.5"}, (1.0, 0.5)),
    ],
)
def test_weights_by_age(options: dict[str, object], expected: tuple[float, ...]) -> None:
    assert ContentKNNConfig.parse(options, where="--set").by_lag == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sources": "lexical,lexical"}, "each once"),
        ({"sources": ""}, "each once"),
        ({"weights": "1,2"}, "as many sources"),
        ({"sources": "lexical", "weights": "-1"}, "not below 0"),
        ({"lag_weights": "1", "half_life": 2}, "without half_life"),
        ({"lags": 0}, "lags"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(PalateError, match=problem):
        ContentKNNConfig.parse(options, where="--set")


def test_a_run_records_the_features_and_can_be_served(dataset: Dataset, tmp_path: Path) -> None:
    folder = dataset.folder
    assert folder is not None
    run = train(
        dataclasses.replace(dataset, folder=None), model="content-knn", out=tmp_path / "run", dataset_path=folder
    )
    assert list(run.info["features"]) == ["lexical"]
    assert run.info["describe"]["sources"]["lexical"]["coverage"] == pytest.approx(29 / 30, abs=1e-6)
    model = load_recommender(Run.open(tmp_path / "run"))
    assert isinstance(model, ContentKNN)
    assert model.config.sources == ("lexical",)
    bundle = make_bundle(run, tmp_path / "bundle").folder
    loaded = Bundle.load(bundle).recommender
    assert torch.equal(loaded.score([[1, 2], []]), model.score([[1, 2], []]))
    assert comparing(loaded) is loaded
    items, values = similar_by_neighbours(loaded, 1, 3)
    made = neighbour_list(dataset, "lexical")
    assert (items, values) == (made.items[1, :3].tolist(), pytest.approx(made.values[1, :3].tolist()))
    assert similar_by_neighbours(loaded, ITEMS, 3) == ([], [])
    (tmp_path / "new.csv").write_text("item_id,title\nnew,red silk\n")
    add_items(bundle, tmp_path / "new.csv", tmp_path / "more")
    more = Bundle.load(tmp_path / "more").recommender
    assert torch.equal(more.score([[1, 2], []])[:, :-1], loaded.score([[1, 2], []]))
    assert more.score([[ITEMS + 1]])[0, 1:].max() > 0  # the new item has neighbours


def test_what_is_missing_or_stale_is_refused_before_the_run_is_made(dataset: Dataset, tmp_path: Path) -> None:
    options = {"ranker": {"sources": "lexical,image"}}
    with pytest.raises(PalateError, match=r"no features named 'image'"):
        train(dataset, model="content-knn", out=tmp_path / "run", settings=options, dataset_path=dataset.folder)
    stale = Catalogue(dataset.catalogue.frame.with_columns(title=pl.lit("red silk")))
    with pytest.raises(PalateError, match="is stale"):
        train(dataclasses.replace(dataset, catalogue=stale), model="content-knn", out=tmp_path / "run")
    with pytest.raises(PalateError, match=r"has none.*--lexical"):
        train(dataclasses.replace(dataset, folder=None), model="content-knn", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert ContentKNN.fit(  # the log alone needs no folder
        dataclasses.replace(dataset, folder=None),
        ContentKNNConfig(sources="co-occurrence"),  # type: ignore[arg-type]
    ).score([[1]]).shape == (1, ITEMS + 1)


@pytest.mark.parametrize("value", [10**6, -1])
def test_a_tampered_file_is_refused(dataset: Dataset, tmp_path: Path, value: int) -> None:
    ContentKNN.fit(dataset).save(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["items.0"][2, 0] = value
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(PalateError, match="holds no neighbours of 30 items"):
        ContentKNN.load(tmp_path)
