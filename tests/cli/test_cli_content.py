"""``palate train`` uses the content that is encoded, unless it is done what to read."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_helpers import known_encoder
from cli_helpers import Shell

from palate import SASRec, train
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.encode import encode
from palate.features.lexical import encode_lexical
from palate.features.matrix import import_matrix
from palate.features.store import FeatureStore
from palate.runs.log import Row
from palate.runs.run import Run

SMALL = ("--epochs", 1, "--threads", 1, "--set", "ranker.dim=8", "--set", "trainer.tensorboard=false")


@pytest.fixture(scope="module")
def encoded(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop with words and with texts that were encoded elsewhere."""
    folder = tmp_path_factory.mktemp("encoded") / "data"
    shutil.copytree(shop, folder)
    data = Dataset.load(folder)
    encode_lexical(data, folder)
    np.save(folder.parent / "vectors.npy", np.random.default_rng(0).normal(size=(len(data.catalogue), 6)))
    (folder.parent / "ids.txt").write_text("\n".join(data.catalogue.ids[1:]) + "\n")
    import_matrix(data, folder, "text", folder.parent / "vectors.npy", ids=folder.parent / "ids.txt")
    return folder


def test_what_is_encoded_is_used(palate: Shell, encoded: Path, tmp_path: Path) -> None:
    done = palate("train", encoded, "--model", "sasrec", "--out", tmp_path / "run", *SMALL)
    assert done.code == 0, done.err
    assert "Content: id, text; neighbours by co-occurrence, lexical, text" in done.err
    options = Run.open(tmp_path / "run").info["options"]
    assert options["modalities"] == ["id", "text"]
    assert options["settings"]["ranker"]["whiten"] == 13 // 8  # an eighth of the items, 128 at most
    assert options["settings"]["neighbours"]["sources"] == ["co-occurrence", "lexical", "text"]


def test_python_reads_what_the_command_reads(palate: Shell, encoded: Path, tmp_path: Path) -> None:
    done = palate("train", encoded, "--model", "sasrec", "--out", tmp_path / "command", *SMALL)
    assert done.code == 0, done.err
    settings = {"ranker": {"dim": 8}, "trainer": {"epochs": 1, "tensorboard": False}}
    called = train(Dataset.load(encoded), model="sasrec", out=tmp_path / "call", settings=settings)
    fitted = SASRec(dim=8, epochs=1, settings={"trainer": {"tensorboard": False}}, out=tmp_path / "fit").fit(encoded)
    options = Run.open(tmp_path / "command").info["options"]
    assert called.info["options"] == options
    assert fitted.run_.info["options"] == options


def test_an_estimator_encodes_what_it_is_asked_to_read(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "data")
    model = SASRec(dim=8, epochs=1, modalities=("id",), neighbours=("co-occurrence", "lexical"), out=tmp_path / "fit")
    model.fit(tmp_path / "data")
    assert (tmp_path / "data" / "features" / "lexical" / "store.json").is_file()
    assert model.run_.info["options"]["settings"]["neighbours"]["sources"] == ["co-occurrence", "lexical"]


def test_settings_that_name_sources_stand(encoded: Path, tmp_path: Path) -> None:
    settings = {"neighbours": {"sources": ["lexical"]}, "ranker": {"dim": 8}, "trainer": {"epochs": 1}}
    run = train(Dataset.load(encoded), model="sasrec", out=tmp_path / "run", settings=settings)
    assert run.info["options"]["settings"]["neighbours"]["sources"] == ["lexical"]


def test_what_neighbours_add_is_told_apart_from_the_best_epoch(palate: Shell, encoded: Path, tmp_path: Path) -> None:
    outcome = palate("train", encoded, "--model", "sasrec", "--out", tmp_path / "run", *SMALL)
    assert outcome.code == 0, outcome.err
    info = Run.open(tmp_path / "run").info["neighbours"]
    assert info["before"]["NDCG@10"] < info["after"]["NDCG@10"]
    assert f"on validation: NDCG@10 {info['before']['NDCG@10']:.4f}" in outcome.out
    assert f"With neighbours, fitted on the same users: NDCG@10 {info['after']['NDCG@10']:.4f}" in outcome.out


def test_it_can_be_left_out_and_without_any_ids_are_read(
    palate: Shell, encoded: Path, shop: Path, tmp_path: Path
) -> None:
    out = tmp_path / "named"
    palate("train", encoded, "--model", "gru4rec", "--modalities", "id", "--neighbours", "none", "--out", out, *SMALL)
    palate("train", shop, "--model", "gru4rec", "--out", tmp_path / "bare", *SMALL)
    first, second = (Run.open(tmp_path / name).info["options"] for name in ("named", "bare"))
    assert first == second
    assert first["modalities"] == ["id"]
    assert "neighbours" not in first["settings"]


def test_a_ranker_of_semantic_ids_reads_content_alone(palate: Shell, encoded: Path, shop: Path, tmp_path: Path) -> None:
    settings = ("--set", "ranker.codebook=4")
    done = palate("train", encoded, "--model", "tiger", "--out", tmp_path / "run", *SMALL, *settings)
    assert done.code == 0, done.err
    assert "Semantic ids: " in done.err
    options = Run.open(tmp_path / "run").info["options"]
    assert options["modalities"] == ["text"]
    assert "neighbours" not in options["settings"]
    done = palate("train", shop, "--model", "tiger", "--out", tmp_path / "bare", *SMALL)
    assert done.code == 2
    assert "text is not a feature store" in done.err
    assert "palate encode" in done.err


def test_counted_rankers_read_what_they_read(palate: Shell, encoded: Path, tmp_path: Path) -> None:
    done = palate("train", encoded, "--model", "item-knn", "--out", tmp_path / "run")
    assert done.code == 0, done.err
    assert Run.open(tmp_path / "run").info["options"]["modalities"] == ["id"]


def test_neighbours_that_cannot_be_made_are_refused_before_a_run_is_there(
    palate: Shell, shop: Path, tmp_path: Path
) -> None:
    done = palate("train", shop, "--model", "sasrec", "--neighbours", "lexical", "--out", tmp_path / "run", *SMALL)
    assert done.code == 2
    assert "no features named 'lexical'" in done.err
    assert "--lexical" in done.err
    assert not (tmp_path / "run").exists()


def test_attach_from_the_command_line(palate: Shell, shop: Path, neural: Path, tmp_path: Path) -> None:
    done = palate("attach", neural, "--neighbours", "co-occurrence", "--out", tmp_path / "near", "--threads", 1)
    assert done.code == 0, done.err
    assert "On validation: NDCG@10" in done.out
    again = palate("attach", neural, "--neighbours", "co-occurrence", "--out", tmp_path / "near")
    assert again.code == 2
    assert "holds a run already" in again.err


def test_what_is_encoded_meanwhile_does_not_stop_a_training_from_going_on(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "data")
    settings = {"ranker": {"dim": 8}, "trainer": {"epochs": 2, "tensorboard": False}}

    def interrupt(row: Row) -> None:
        raise KeyboardInterrupt

    call = partial(train, tmp_path / "data", model="sasrec", out=tmp_path / "run", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        call(on_epoch=interrupt)
    encode_lexical(Dataset.load(tmp_path / "data"), tmp_path / "data")
    assert "neighbours" not in call(resume=True).info["options"]["settings"]


def test_an_estimator_brings_features_up_to_date(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shop, tmp_path / "data")
    data = Dataset.load(tmp_path / "data")
    known_encoder()
    monkeypatch.setattr("palate.estimators.encode", partial(encode, encoder="words"))
    model = SASRec(dim=8, epochs=1, modalities=["id", "text"], neighbours=[])
    model.fit(tmp_path / "data")
    titles = ["Another title", *data.catalogue.frame["title"][1:]]
    changed = Catalogue(data.catalogue.frame.with_columns(title=pl.Series(titles)), data.catalogue.root)
    replace(data, catalogue=changed).save(tmp_path / "data", replace=True)
    with pytest.raises(PalateError, match="is stale"):
        train(tmp_path / "data", model="sasrec", out=tmp_path / "run")
    model.fit(tmp_path / "data")
    FeatureStore.load(tmp_path / "data" / "features" / "text", changed)
