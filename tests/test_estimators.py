"""Estimators: a frame in, recommendations out, by the same runs as the commands."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from worlds import film_catalogue

from palate import EASE, GRU4Rec, ItemKNN, PalateError, Popularity, Recommendations, SASRec
from palate.data.dataset import Dataset
from palate.evaluation.evaluate import evaluate
from palate.rankers.registry import load_recommender

TINY = {"dim": 8, "layers": 1, "epochs": 1, "settings": {"trainer": {"tensorboard": False}}}


@pytest.fixture(scope="module")
def purchases() -> pl.DataFrame:
    """20 people walk round 8 films, each from another start."""
    films = film_catalogue(with_held_out=False)["item_id"].to_list()[:8]
    rows = [(f"u{user}", films[(user + step) % len(films)], step) for user in range(20) for step in range(5)]
    return pl.DataFrame(rows, schema=["customer", "sku", "day"], orient="row")


COLUMNS: dict[str, Any] = {"user": "customer", "item": "sku", "k_core": 0}


@pytest.mark.parametrize("estimator", [SASRec(**TINY), GRU4Rec(**TINY), ItemKNN(), EASE(), Popularity()], ids=repr)
def test_a_frame_in_and_a_frame_out(estimator: Any, purchases: pl.DataFrame) -> None:
    model = estimator.fit(purchases, **COLUMNS)
    assert model is estimator
    found = model.recommend(["u3", "u1"], k=2)
    assert found.columns == ["user", "rank", "item", "title", "score"]
    assert found["user"].to_list() == ["u3", "u3", "u1", "u1"]
    own = set(purchases.filter(pl.col("customer") == "u3")["sku"])
    assert not own & set(found.filter(pl.col("user") == "u3")["item"])
    assert model.recommend(k=1)["user"].n_unique() == 20
    assert len(model.recommend_for([purchases["sku"].to_list()[:2]], k=3)) == 3


def test_a_fit_that_is_refused_leaves_the_one_before(purchases: pl.DataFrame) -> None:
    model = ItemKNN().fit(purchases, **COLUMNS)
    before = model.recommend(["u3"])
    with pytest.raises(PalateError, match="no column 'nobody'"):
        model.fit(purchases, user="nobody", item="sku", k_core=0)
    assert model.recommend(["u3"]).equals(before)


def test_what_it_makes_is_what_the_commands_read(purchases: pl.DataFrame, tmp_path: Path) -> None:
    model = ItemKNN(out=tmp_path / "knn").fit(purchases, **COLUMNS)
    assert Dataset.load(tmp_path / "knn" / "dataset").fingerprint == model.dataset_.fingerprint
    by_command = Recommendations(tmp_path / "knn" / "run")([[]], 2)
    assert len(by_command) == 2
    result = evaluate(load_recommender(model.run_), model.dataset_, ks=[5])
    assert 0 <= result.summary()["ndcg@5"] <= 1
    again = ItemKNN().fit(tmp_path / "knn" / "dataset")
    assert again.recommend(["u0"]).equals(model.recommend(["u0"]))


@pytest.mark.parametrize("kind", ["pandas", "pyarrow", "datasets"])
def test_frames_of_other_libraries(kind: str, purchases: pl.DataFrame) -> None:
    if kind == "pandas":
        pytest.importorskip("pandas")
        frame: Any = purchases.to_pandas()
    elif kind == "pyarrow":
        frame = purchases.to_arrow()
        assert isinstance(frame, pa.Table)
    else:
        frame = pytest.importorskip("datasets").Dataset.from_polars(purchases)
    expected = Popularity().fit(purchases, **COLUMNS)
    assert Popularity().fit(frame, **COLUMNS).dataset_.fingerprint == expected.dataset_.fingerprint


def test_parameters_are_those_of_scikit_learn() -> None:
    model = SASRec(dim=16, seed=3)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert repr(copy) == "SASRec(dim=16, seed=3)"
    assert copy.set_params(dim=8).dim == 8
    with pytest.raises(PalateError, match="no parameter 'dims'") as error:
        copy.set_params(dims=8)
    assert "dim" in str(error.value.remedy)


def test_mistakes(purchases: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="is not fitted"):
        SASRec().recommend(["u1"])
    with pytest.raises(PalateError, match="Give a frame of polars or pandas"):
        Popularity().fit([("u", "i")])
    model = Popularity(out=tmp_path / "p").fit(purchases, **COLUMNS)
    with pytest.raises(PalateError, match="no user 'nobody'"):
        model.recommend(["nobody"])
    with pytest.raises(PalateError, match="user= is of frames"):
        Popularity().fit(tmp_path / "p" / "dataset", user="customer")
    with pytest.raises(PalateError, match="dims"):
        SASRec(settings={"ranker": {"dims": 3}}).fit(tmp_path / "p" / "dataset")


def test_a_text_is_no_list(purchases: pl.DataFrame) -> None:
    model = Popularity().fit(purchases, **COLUMNS)
    item = purchases["sku"][0]
    for option in ("only", "without", "allow", "deny"):
        with pytest.raises(PalateError, match=f"{option} is the text"):
            model.recommend(["u1"], **{option: item})
    with pytest.raises(PalateError, match="users is the text 'u1'"):
        model.recommend("u1")
    with pytest.raises(PalateError, match="a history is the text"):
        model.recommend_for([item])
    with pytest.raises(PalateError, match="modalities is the text 'id'"):
        SASRec(modalities="id", **TINY).fit(purchases, **COLUMNS)
    with pytest.raises(PalateError, match=r"no option 'dney'\. Did you mean 'deny'"):
        model.recommend(["u1"], dney=[item])


def test_ids_that_the_catalogue_does_not_have_are_reported(
    purchases: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Popularity().fit(purchases, **COLUMNS)
    best = model.recommend(["u1"], k=1)["item"][0]
    found = model.recommend(["u1"], k=8, deny=[best, "nowhere"])
    assert best not in found["item"].to_list()
    assert "1 item of allow or deny" in capsys.readouterr().err


def test_a_model_in_a_temporary_folder_is_not_pickled(purchases: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="temporary folder"):
        pickle.dumps(Popularity().fit(purchases, **COLUMNS))
    kept = Popularity(out=tmp_path / "kept").fit(purchases, **COLUMNS)
    again = copy.deepcopy(kept)  # by the same state
    assert again.recommend(["u1"], k=2).equals(kept.recommend(["u1"], k=2))
    assert repr(copy.deepcopy(SASRec(dim=8))) == "SASRec(dim=8)"


def test_a_run_whose_temporary_folder_has_gone_says_so(purchases: pl.DataFrame) -> None:
    run = Popularity().fit(purchases, **COLUMNS).run_
    gc.collect()
    for opened in (load_recommender, Recommendations):
        with pytest.raises(PalateError, match=r"the run .* is not there any more\. .*goes with the estimator.*out="):
            opened(run)


def test_a_finished_run_without_its_model_says_so(purchases: pl.DataFrame, tmp_path: Path) -> None:
    run = Popularity(out=tmp_path / "kept").fit(purchases, **COLUMNS).run_
    shutil.rmtree(run.model_folder)
    with pytest.raises(PalateError, match=r"run has lost its model\. Copy the run whole"):
        load_recommender(run)


@pytest.mark.parametrize("seed", [-1, 1.5, 2**65, True, "7"])
def test_a_seed_that_generators_refuse_is_one_clear_error(purchases: pl.DataFrame, seed: Any) -> None:
    with pytest.raises(PalateError, match=r"the seed is .*whole number from 0 to"):
        SASRec(seed=seed, **TINY).fit(purchases, **COLUMNS)
