"""Bundles of rankers with neighbours, and of content-knn: what new items are compared by travels along."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from bundle_helpers import KEEP, make_run
from safetensors.numpy import load_file, save_file
from worlds import HELD_OUT_FILM

from palate.bundle import Bundle, add_items, make_bundle
from palate.bundle.manifest import write_manifest
from palate.bundle.neighbours import lists_of
from palate.errors import PalateError
from palate.features.lexical_store import LexicalStore
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run

HISTORIES = [["space-1", "space-2", "space-3"], ["love-1", "love-2"], ["crime-5", "love-3"], []]


@pytest.fixture(scope="module")
def run(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Ids, hardly trained, with neighbours by words, dense texts and the log."""
    out = tmp_path_factory.mktemp("near") / "run"
    sources = ("lexical", "co-occurrence", "text")
    made = make_run(films, out, modalities="id", neighbours=sources, epochs=1)
    assert made.info["neighbours"]["strength"] > 0
    return made


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(run, tmp_path_factory.mktemp("near") / "bundle").folder


@pytest.fixture(scope="module")
def knn(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("near") / "knn"
    return make_run(films, out, model="content-knn", modalities="id", sources=["lexical", "text"], keep=KEEP)


def new_row(**changes: Any) -> dict[str, Any]:
    return {"item_id": HELD_OUT_FILM, "title": "space story 7", "tags": "space|film", "year": 1997, **changes}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    pl.DataFrame(list(rows)).write_csv(path)
    return path


def scores(model: Bundle | Run) -> torch.Tensor:
    if isinstance(model, Run):
        index = model.catalogue.index
        return load_recommender(model).score([[index[item] for item in history] for history in HISTORIES])
    return model.recommender.score([model.known(history)[0] for history in HISTORIES])


def test_a_bundle_answers_as_its_run_and_holds_what_items_were_compared_by(run: Run, bundle: Path, films: Path) -> None:
    loaded = Bundle.load(bundle)
    torch.testing.assert_close(scores(loaded), scores(run), atol=0, rtol=0)
    assert sorted(loaded.facts["neighbours"]) == ["lexical", "text"]
    assert loaded.facts["neighbours"]["lexical"]["keep"] == KEEP
    store = LexicalStore.load(films / "features/lexical", loaded.items.catalogue)
    kept = load_file(bundle / "neighbours/lexical.safetensors")
    np.testing.assert_array_equal(kept["values"], store.matrix.data)
    assert pl.read_parquet(bundle / "neighbours/lexical.parquet").equals(store.vocabulary)
    assert load_file(bundle / "neighbours/text.safetensors")["vectors"].shape == (len(loaded.items) + 1, 12)
    whitening = np.load(films / "neighbours/text/basis.npy")
    by_text = lists_of(loaded.recommender)[2]
    assert by_text.whitening is not None
    np.testing.assert_array_equal(by_text.whitening.basis, whitening)
    card = (bundle / "README.md").read_text()
    assert "- neighbours by lexical: of 100.0% of the items, weights " in card
    assert "- multimodal" in card.replace('"', "")
    assert "known by their ids alone" not in card


def test_vectors_of_a_modality_are_kept_once(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", neighbours=("text",), epochs=1)
    made = make_bundle(run, tmp_path / "bundle")
    assert made.facts["neighbours"]["text"]["file"] == "features/text.safetensors"
    assert not (tmp_path / "bundle/neighbours").exists()
    add_items(made.folder, write(tmp_path / "new.csv", new_row()), tmp_path / "out")
    grown = load_file(tmp_path / "out/features/text.safetensors")
    assert grown["present"].sum() == len(Bundle.load(made.folder).items) + 1
    old, new = scores(Bundle.load(made.folder)), scores(Bundle.load(tmp_path / "out"))
    torch.testing.assert_close(new[:, :-1], old, atol=1e-6, rtol=0)


def test_a_new_item_is_recommended_by_its_neighbours_alone(bundle: Path, tmp_path: Path) -> None:
    """The ranker knows ids only: what places the new film is that its words are those of films people took."""
    before = Bundle.load(bundle)
    twin = new_row(title="space story 2", year=1992)
    made = add_items(bundle, write(tmp_path / "new.csv", twin), tmp_path / "out")
    assert made.coverage == {"lexical": 1, "text": 1}
    assert any("knows items by their ids alone" in note for note in made.notes)
    assert any("no neighbours by co-occurrence" in note for note in made.notes)
    after = Bundle.load(tmp_path / "out")
    assert HELD_OUT_FILM in [item for item, _ in after.recommend(["space-1", "space-3", "space-2"], 5)]
    assert HELD_OUT_FILM not in [item for item, _ in after.recommend(["love-1", "love-2", "love-3"], 5)]
    assert after.recommend([HELD_OUT_FILM], 1)[0][0].startswith("space")  # and it may stand in a history
    old, new = scores(before), scores(after)
    torch.testing.assert_close(new[:, :-1], old, atol=1e-6, rtol=0)
    model = after.recommender
    assert isinstance(model, SequentialRanker)
    assert model.neighbours is not None
    by_words, by_log, by_text = model.neighbours.lists
    place = after.items.index_of(HELD_OUT_FILM) or 0
    assert not (by_log.items == place).any()
    assert not by_log.items[place].any()
    assert (by_text.items[place] > 0).any()
    near = [after.items.ids[item] for item in by_words.items[place] if item]
    assert near[0] == "space-2"
    for one, other in zip(lists_of(before.recommender), model.neighbours.lists, strict=True):
        for row, grown in zip(one.items, other.items, strict=False):
            assert [item for item in grown if item and item != place] == [item for item in row if item]
    assert load_file(tmp_path / "out/neighbours/text.safetensors")["vectors"].shape[0] == place + 1
    assert "1 added after training" in (tmp_path / "out/README.md").read_text()


def test_adding_twice_is_adding_together(bundle: Path, tmp_path: Path) -> None:
    rows = [new_row(item_id=f"n{n}", title=f"{word} story {n}", tags=word) for n, word in enumerate(["space"] * 3)]
    rows.append(new_row(item_id="x", title="love story 9", tags="love"))
    one = add_items(bundle, write(tmp_path / "1.csv", *rows[:2]), tmp_path / "a").folder
    two = add_items(one, write(tmp_path / "2.csv", *rows[2:]), tmp_path / "b").folder
    both = add_items(bundle, write(tmp_path / "3.csv", *rows), tmp_path / "c").folder
    torch.testing.assert_close(scores(Bundle.load(two)), scores(Bundle.load(both)), atol=1e-6, rtol=0)
    width = len(Bundle.load(one).items) + 1
    torch.testing.assert_close(scores(Bundle.load(two))[:, :width], scores(Bundle.load(one)), atol=1e-6, rtol=0)


def test_the_table_needs_what_the_words_were_made_of(bundle: Path, tmp_path: Path) -> None:
    row = new_row()
    del row["tags"]
    with pytest.raises(PalateError, match="lacks the column 'tags', which the model reads"):
        add_items(bundle, write(tmp_path / "new.csv", row), tmp_path / "out")
    with pytest.raises(
        PalateError, match=r"row 2: there is nothing of the item that the model reads \(lexical, text\)"
    ):
        add_items(bundle, write(tmp_path / "new.csv", new_row(title=None, tags=None)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_features_there_are_no_new_items(run: Run, tmp_path: Path) -> None:
    made = make_bundle(run, tmp_path / "bundle", with_features=False)
    assert made.facts["neighbours"]["lexical"]["file"] is None
    torch.testing.assert_close(scores(Bundle.load(made.folder)), scores(run), atol=0, rtol=0)
    with pytest.raises(PalateError, match=r"without the lexical features.*again with --with-features"):
        add_items(made.folder, write(tmp_path / "new.csv", new_row()), tmp_path / "out")


def test_features_that_are_gone_are_noted_or_refused(run: Run, films: Path, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    info = json.loads((tmp_path / "run/run.json").read_text())
    info["dataset"]["path"] = str(tmp_path)
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    made = make_bundle(tmp_path / "run", tmp_path / "bundle")
    assert [note for note in made.notes if "lexical" in note and "takes no new items" in note]
    with pytest.raises(PalateError, match="the lexical features that its neighbours were compared by are not with"):
        make_bundle(tmp_path / "run", tmp_path / "again", with_features=True)
    assert not (tmp_path / "again").exists()


def test_a_model_file_without_whitening_loads_and_takes_no_new_items(run: Run, tmp_path: Path) -> None:
    shutil.copytree(run.folder, tmp_path / "run")
    path = tmp_path / "run/model/neighbours.safetensors"
    kept = {name: one for name, one in load_file(path).items() if not name.endswith(("centre", "basis"))}
    save_file(kept, path, metadata={"0": "lexical", "1": "co-occurrence", "2": "text"})
    made = make_bundle(tmp_path / "run", tmp_path / "bundle").folder
    torch.testing.assert_close(scores(Bundle.load(made)), scores(run), atol=0, rtol=0)
    with pytest.raises(PalateError, match="does not hold what its text features are whitened by"):
        add_items(made, write(tmp_path / "new.csv", new_row()), tmp_path / "out")


def test_log_alone_has_nothing_to_say_of_new_items(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", modalities="id", neighbours=("co-occurrence",), epochs=1)
    made = make_bundle(run, tmp_path / "bundle")
    assert made.facts["neighbours"] == {}
    with pytest.raises(PalateError, match=r"knows items by their ids alone.* hstu.*--neighbours lexical"):
        add_items(made.folder, write(tmp_path / "new.csv", new_row()), tmp_path / "out")


@pytest.mark.parametrize("change", ["keep", "vocabulary", "file", "options"])
def test_a_damaged_manifest_is_refused(change: str, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bad")
    facts = json.loads((bundle / "bundle.json").read_text())
    told = facts["neighbours"]["lexical"]
    if change == "options":
        told["encoder"]["options"] = None
    else:
        told[change] = {"keep": 0, "vocabulary": "../x.parquet", "file": "/etc/passwd"}[change]
    write_manifest(tmp_path / "bad", facts)
    with pytest.raises(PalateError, match="what it says of the lexical neighbours is not whole"):
        Bundle.load(tmp_path / "bad")


def test_a_damaged_matrix_is_refused_before_anything_is_written(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bad")
    path = tmp_path / "bad/neighbours/lexical.safetensors"
    kept = load_file(path)
    kept["columns"] = kept["columns"] + 10_000
    save_file(kept, path)
    write_manifest(tmp_path / "bad", json.loads((bundle / "bundle.json").read_text()))
    with pytest.raises(PalateError, match=r"lexical.safetensors is damaged"):
        add_items(tmp_path / "bad", write(tmp_path / "new.csv", new_row()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_words_of_another_version_are_refused(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.features.lexical.TOKEN", r"\w")
    with pytest.raises(PalateError, match="makes other terms of words"):
        add_items(bundle, write(tmp_path / "new.csv", new_row()), tmp_path / "out")


def test_neighbours_are_not_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=r"'sasrec' adds neighbours to its scores.*Leave out --onnx"):
        make_bundle(run, tmp_path / "bundle", onnx=True)
    assert not (tmp_path / "bundle").exists()


def test_content_knn_takes_new_items(knn: Run, tmp_path: Path) -> None:
    made = make_bundle(knn, tmp_path / "bundle")
    assert made.facts["neighbours"]["text"]["file"] == "features/text.safetensors"
    before = Bundle.load(made.folder)
    added = add_items(made.folder, write(tmp_path / "new.csv", new_row()), tmp_path / "out")
    assert (added.coverage, added.notes) == ({"lexical": 1, "text": 1}, [])
    after = Bundle.load(tmp_path / "out")
    torch.testing.assert_close(scores(after)[:, :-1], scores(before), atol=0, rtol=0)
    assert HELD_OUT_FILM in [item for item, _ in after.recommend(["space-1", "space-2"], 8)]
    assert after.recommend([HELD_OUT_FILM], 1)[0][0].startswith("space")
    again = add_items(tmp_path / "out", write(tmp_path / "2.csv", new_row(item_id="y")), tmp_path / "again")
    assert len(Bundle.load(again.folder).items) == len(before.items) + 2


def test_content_knn_of_the_log_takes_none(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", model="content-knn", modalities="id", sources=["co-occurrence"])
    made = make_bundle(run, tmp_path / "bundle").folder
    with pytest.raises(PalateError, match=r"compares items by the training log alone"):
        add_items(made, write(tmp_path / "new.csv", new_row()), tmp_path / "out")


def test_a_run_with_neighbours_starts_another(run: Run, films: Path, tmp_path: Path) -> None:
    """The weights of the ranker go over; its neighbours do not: they are fitted anew, or left out."""
    from palate.training.fit import train

    settings: dict[str, dict[str, Any]] = {
        "ranker": {"dim": 16, "max_length": 8, "dropout": 0.1, "layers": 1},
        "trainer": {"epochs": 1, "learning_rate": 1e-9, "tensorboard": False},
    }
    made = train(films, model="sasrec", out=tmp_path / "run", settings=settings, neighbours=(), warm_start=run.folder)
    model, old = load_recommender(made), load_recommender(run)
    assert isinstance(model, SequentialRanker)
    assert isinstance(old, SequentialRanker)
    assert model.neighbours is None
    torch.testing.assert_close(model.table(), old.table(), atol=1e-6, rtol=0)
