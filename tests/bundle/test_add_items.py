"""New items without training: recommended to whom they suit, the others' scores untouched, mistakes told by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from bundle_helpers import Words, make_run
from safetensors.numpy import load_file
from worlds import HELD_OUT_FILM, film_catalogue

from palate.bundle import Bundle, add_items, make_bundle
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.encoders import ENCODERS
from palate.rankers.items import ItemEncoder
from palate.rankers.sequential import SequentialRanker
from palate.serve.effects import modality_effects
from palate.serve.vectors import ItemVectors

HISTORIES = [["space-1", "space-2", "space-3"], ["love-1", "love-2"], ["crime-5"], []]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pl.DataFrame(rows).write_csv(path)
    return path


def new_row(**changes: Any) -> dict[str, Any]:
    return {"item_id": HELD_OUT_FILM, "title": "space story 7", "tags": "space|film", "year": 1997, **changes}


def scores(bundle: Bundle) -> torch.Tensor:
    return bundle.recommender.score([bundle.known(history)[0] for history in HISTORIES])


@pytest.fixture
def pictures(films: Path) -> Path:
    return films.parent / "pictures"


def test_the_held_out_item_finds_its_people(text_bundle: Path, tmp_path: Path) -> None:
    """It was in no catalogue and no training; whoever likes space gets it, whoever likes love does not."""
    before = Bundle.load(text_bundle)
    assert before.items.index_of(HELD_OUT_FILM) is None
    made = add_items(text_bundle, write(tmp_path / "new.csv", [new_row()]), tmp_path / "out")
    assert (made.ids, made.coverage, made.notes) == ([HELD_OUT_FILM], {"text": 1}, [])
    after = Bundle.load(tmp_path / "out")
    assert HELD_OUT_FILM in [item for item, _ in after.recommend(["space-1", "space-2", "space-3"], 5)]
    assert HELD_OUT_FILM not in [item for item, _ in after.recommend(["love-1", "love-2", "love-3"], 8)]
    assert after.recommend([HELD_OUT_FILM], 3)[0][0].startswith("space")  # and it may stand in a history
    old, new = scores(before), scores(after)
    assert new.shape[1] == old.shape[1] + 1
    torch.testing.assert_close(new[:, : old.shape[1]], old, atol=1e-6, rtol=0)
    assert new[3, -1] == new[3, 1:].min()  # to a newcomer it is the least popular


@pytest.mark.parametrize("fusion", ["sum", "gate", "concat", "late"])
def test_new_vectors_are_those_of_training_them_cold(fusion: str, films: Path, pictures: Path, tmp_path: Path) -> None:
    """What an item gets that is added is what the model itself makes of an item without training interactions."""
    run = make_run(films, tmp_path / "run", modalities="id,text,image", fusion=fusion, whiten=6, id_dropout=0.2)
    bundle = make_bundle(run, tmp_path / "bundle").folder
    twin = {"item_id": "twin", "title": "crime story 4", "tags": "crime|film", "year": 0, "image": "crime-4.png"}
    bare = {"item_id": "bare", "title": "love story 0", "tags": "love|film", "year": 0, "image": None}
    made = add_items(bundle, write(tmp_path / "new.csv", [twin, bare]), tmp_path / "out", images=pictures)
    assert made.coverage == {"text": 2, "image": 1}
    after = Bundle.load(tmp_path / "out")
    model = after.recommender
    encoder = model.items  # type: ignore[attr-defined]
    assert isinstance(encoder, ItemEncoder)
    kept = {name: load_file(bundle / f"features/{name}.safetensors") for name in ("text", "image")}
    for name, one in kept.items():
        padded = np.concatenate([one["vectors"], np.zeros((2, one["vectors"].shape[1]), np.float32)])
        there = torch.from_numpy(np.concatenate([one["present"], [False, False]]))
        part = encoder.features[name]
        part.present = there  # type: ignore[assignment]
        part.vectors = part.standardise(torch.from_numpy(padded)).masked_fill(~there.unsqueeze(1), 0.0)  # type: ignore
    encoder.warm = torch.zeros_like(encoder.warm)
    cold = encoder()
    for new, old in (("twin", "crime-4"), ("bare", "love-0")):
        place = after.items.index_of(old) or 0
        torch.testing.assert_close(
            model.table()[after.items.index_of(new) or 0],
            cold[place],
            atol=1e-5,
            rtol=1e-4,  # type: ignore[attr-defined]
        )


def test_pictures_features_and_facts_grow(full_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    row = new_row(image=f"{HELD_OUT_FILM}.png")
    add_items(full_bundle, write(tmp_path / "new.csv", [row]), tmp_path / "out", images=pictures)
    before, after = Bundle.load(full_bundle), Bundle.load(tmp_path / "out")
    place = after.items.index_of(HELD_OUT_FILM) or 0
    assert place == len(before.items) + 1
    path = after.picture(place)
    assert path is not None
    assert path.is_relative_to(tmp_path / "out/images")
    old = before.picture(1)
    assert (old is None) == (after.picture(1) is None)
    for name in ("text", "image"):
        grown = load_file(tmp_path / f"out/features/{name}.safetensors")
        assert grown["vectors"].shape[0] == len(after.items) + 1
        assert grown["present"][-1]
    assert after.items.facts(place)["tags"] == ["space", "film"]
    assert after.facts["added"] == 1
    assert "1 added after training" in (tmp_path / "out/README.md").read_text()
    torch.testing.assert_close(scores(after)[:, :-1], scores(before), atol=1e-6, rtol=0)


def test_adding_twice_is_adding_together(text_bundle: Path, tmp_path: Path) -> None:
    rows = [new_row(), new_row(item_id="x", title="love story 9", tags="love")]
    one = add_items(text_bundle, write(tmp_path / "1.csv", rows[:1]), tmp_path / "a").folder
    two = add_items(one, write(tmp_path / "2.csv", rows[1:]), tmp_path / "b").folder
    both = add_items(text_bundle, write(tmp_path / "3.csv", rows), tmp_path / "c").folder
    assert Bundle.load(two).items.ids == Bundle.load(both).items.ids
    torch.testing.assert_close(scores(Bundle.load(two)), scores(Bundle.load(both)), atol=1e-6, rtol=0)
    assert Bundle.load(two).facts["added"] == 2


def test_pictures_named_by_item(full_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    add_items(full_bundle, write(tmp_path / "new.csv", [new_row()]), tmp_path / "out", images=pictures)
    after = Bundle.load(tmp_path / "out")
    assert after.picture(after.items.index_of(HELD_OUT_FILM) or 0) is not None


def test_a_parquet_table_has_lists_of_its_own(text_bundle: Path, tmp_path: Path) -> None:
    film_catalogue().filter(pl.col("item_id") == HELD_OUT_FILM).drop("image").write_parquet(tmp_path / "new.parquet")
    write(tmp_path / "new.csv", [new_row()])
    a = add_items(text_bundle, tmp_path / "new.parquet", tmp_path / "a").folder
    b = add_items(text_bundle, tmp_path / "new.csv", tmp_path / "b").folder
    torch.testing.assert_close(scores(Bundle.load(a)), scores(Bundle.load(b)), atol=0, rtol=0)


def test_a_text_table_may_be_split_by_semicolons(text_bundle: Path, tmp_path: Path) -> None:
    """As `palate prepare` takes them."""
    frame = pl.read_csv(write(tmp_path / "new.csv", [new_row()]), infer_schema=False)
    frame.write_csv(tmp_path / "semicolons.csv", separator=";")
    a = add_items(text_bundle, tmp_path / "new.csv", tmp_path / "a").folder
    b = add_items(text_bundle, tmp_path / "semicolons.csv", tmp_path / "b").folder
    torch.testing.assert_close(scores(Bundle.load(a)), scores(Bundle.load(b)), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([new_row(item_id="space-1")], r"row 2: item 'space-1' is in the bundle already"),
        ([new_row(), new_row()], rf"row 3: item '{HELD_OUT_FILM}' is in row 2 already"),
        ([new_row(), new_row(item_id="  ")], r"row 3 has no item_id"),
        ([new_row(year="soon")], r"row 2: 'soon' in column 'year' is no Int64"),
        ([new_row(title=None, tags=None)], r"nothing of the item that the model reads \(text\)"),
        ([new_row(image="x.png")], r"row 2 names a picture.*--images DIR"),
        ([{"item_id": "new", "title": "x"}], r"lacks the column 'tags', which the model reads"),
        ([{"id": "new"}], r"lacks the columns 'item_id', 'title', 'tags', which"),
    ],
)
def test_mistakes_are_told_by_row(rows: list[dict[str, Any]], told: str, text_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=told):
        add_items(text_bundle, write(tmp_path / "new.csv", rows), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_that_cannot_be_read_are_told_by_row(full_bundle: Path, pictures: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.png").write_bytes((pictures / "love-1.png").read_bytes()[:50])
    (images / "page.png").write_text("<html><script>alert(1)</script>")
    names = ["bad.png", "page.png", "none.png", "../../secret.png", "/etc/passwd"]
    rows = [new_row(item_id=f"n{place}", image=name) for place, name in enumerate(names)]
    with pytest.raises(PalateError) as error:
        add_items(full_bundle, write(tmp_path / "new.csv", rows), tmp_path / "out", images=images)
    for row in range(2, 7):
        assert f"row {row}: " in str(error.value)
    assert "lies outside of" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_rows_are_counted_as_an_editor_does_and_no_name_is_reserved(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text('item_id,title,tags,__row,row\nn1,"one\n\ntwo",a,1,1\n\nspace-1,b,c,2,2\n')
    with pytest.raises(PalateError, match="row 6: item 'space-1' is in the bundle already"):
        add_items(text_bundle, tmp_path / "new.csv", tmp_path / "out")
    (tmp_path / "new.csv").write_text('item_id,title,tags\nn1,"a, b",a\nn2,24" screen,b\n')
    with pytest.raises(PalateError, match=r"new\.csv, row 3: a quote"):
        add_items(text_bundle, tmp_path / "new.csv", tmp_path / "out")


def test_what_is_no_table(text_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("item_id,title,tags\n")
    with pytest.raises(PalateError, match="has no items"):
        add_items(text_bundle, tmp_path / "x.csv", tmp_path / "out")
    (tmp_path / "y.csv").write_text("item_id,title,tags\na,b,c,d,e\n")
    with pytest.raises(PalateError, match="row 2: 5 cells, not 3"):
        add_items(text_bundle, tmp_path / "y.csv", tmp_path / "out")
    (tmp_path / "z.parquet").write_bytes(b"PAR1")
    with pytest.raises(PalateError, match="cannot be read"):
        add_items(text_bundle, tmp_path / "z.parquet", tmp_path / "out")
    with pytest.raises(PalateError, match="is not a file"):
        add_items(text_bundle, tmp_path / "none.csv", tmp_path / "out")
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(PalateError, match="of no kind that can be read"):
        add_items(text_bundle, tmp_path / "x.xlsx", tmp_path / "out")


@pytest.mark.parametrize("model", ["popularity", "item-knn", "sasrec"])
def test_models_without_content_refuse(model: str, films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", model=model, modalities="id")
    bundle = make_bundle(run, tmp_path / "bundle").folder
    with pytest.raises(PalateError, match=f"'{model}' knows items by their ids alone"):
        add_items(bundle, write(tmp_path / "new.csv", [new_row()]), tmp_path / "out")


def test_another_encoder_is_refused(text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Words):
        def __init__(self, options: Any) -> None:
            super().__init__(options)
            self.fingerprint = "another"

    with (
        ENCODERS.registered("words", Other),
        pytest.raises(PalateError, match=r"is not the one that made the text features \(another instead of"),
    ):
        add_items(text_bundle, write(tmp_path / "new.csv", [new_row()]), tmp_path / "out")


def test_vectors_from_elsewhere_cannot_be_made(films: Path, tmp_path: Path) -> None:
    from palate.features.matrix import import_matrix

    dataset = Dataset.load(films)
    ids = dataset.catalogue.ids[1:]
    np.save(tmp_path / "m.npy", np.random.default_rng(0).normal(size=(len(ids), 4)).astype(np.float32))
    (tmp_path / "m.ids.txt").write_text("\n".join(ids))
    import_matrix(dataset, films, "text", tmp_path / "m.npy", store="matrix")
    from palate.features.store import FeatureStore
    from palate.training.fit import train

    store = FeatureStore.load(films / "features/matrix", dataset.catalogue)
    settings = {"ranker": {"dim": 8, "layers": 1}, "trainer": {"epochs": 1, "tensorboard": False}}
    run = train(
        dataset, model="sasrec", modalities=["text"], out=tmp_path / "run", settings=settings,
        features={"text": store}, dataset_path=films,
    )  # fmt: skip
    bundle = make_bundle(run, tmp_path / "bundle").folder
    assert (bundle / "features/text.safetensors").is_file()
    with pytest.raises(PalateError, match="were not made by an encoder"):
        add_items(bundle, write(tmp_path / "new.csv", [new_row()]), tmp_path / "out")


def test_code_of_an_encoder_needs_consent(text_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.bundle.features import encoder_of

    facts = Bundle.load(text_bundle).facts["features"]["text"]
    facts["encoder"]["trust_remote_code"] = True
    monkeypatch.delenv("PALATE_TRUST_REMOTE_CODE", raising=False)
    with pytest.raises(PalateError, match="wants to run code"):
        encoder_of("text", facts)


def test_ids_without_dropout_are_warned_of(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", modalities="id,text")
    bundle = make_bundle(run, tmp_path / "bundle").folder
    made = add_items(bundle, write(tmp_path / "new.csv", [new_row(colour="red")]), tmp_path / "out")
    assert any("id_dropout" in note for note in made.notes)
    assert any("no field 'colour'" in note for note in made.notes)


def test_fields_of_new_items_are_looked_up(films: Path, tmp_path: Path) -> None:
    """A known tag places a new film; an unknown one is as good as none; the codes go on into the larger bundle."""
    run = make_run(films, tmp_path / "run", modalities="id,fields", id_dropout=0.3, fields=["tags", "year"])
    bundle = make_bundle(run, tmp_path / "bundle")
    assert bundle.facts["features"]["fields"]["file"]
    rows = [
        new_row(item_id="twin", tags="crime|film|crime", year=1994),
        new_row(item_id="odd", tags="western", year=1991),
    ]
    made = add_items(bundle.folder, write(tmp_path / "new.csv", rows), tmp_path / "out")
    assert made.coverage == {"fields": 2}
    after = Bundle.load(tmp_path / "out")
    model, old = after.recommender, Bundle.load(bundle.folder)
    assert isinstance(model, SequentialRanker)
    torch.testing.assert_close(scores(after)[:, :-2], scores(old), atol=1e-6, rtol=0)
    kept = load_file(tmp_path / "out/features/fields.safetensors")
    twin, odd = (after.items.index_of(one) or 0 for one in ("twin", "odd"))
    crime = after.items.index_of("crime-4") or 0
    assert kept["vectors"][twin].tolist() == kept["vectors"][crime].tolist()
    assert (kept["vectors"][odd] > 0).sum() == 1  # the year alone
    again = add_items(tmp_path / "out", write(tmp_path / "more.csv", [new_row(item_id="third")]), tmp_path / "again")
    assert again.coverage == {"fields": 1}
    nothing = [new_row(item_id="bare", tags="western", year=None)]
    with pytest.raises(PalateError, match="row 2: there is nothing of the item that the model reads"):
        add_items(bundle.folder, write(tmp_path / "bare.csv", nothing), tmp_path / "x")
    table = pl.DataFrame([new_row()]).drop("year")
    table.write_csv(tmp_path / "short.csv")
    with pytest.raises(PalateError, match="lacks the column 'year', which the model reads"):
        add_items(bundle.folder, tmp_path / "short.csv", tmp_path / "x")


def test_fields_are_explained_and_items_are_not_compared_by_them(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", modalities="id,text,fields", fields=["tags"])
    bundle = Bundle.load(make_bundle(run, tmp_path / "bundle").folder)
    vectors = ItemVectors(bundle, None)
    assert vectors.features == ["text"]
    with pytest.raises(PalateError, match="no vectors to compare items by"):
        vectors.unit("fields")
    model = bundle.recommender
    assert isinstance(model, SequentialRanker)
    history, _ = bundle.known(["space-1", "space-2"])
    item = bundle.items.index_of("space-3") or 0
    effects = modality_effects(
        model, Sequences.from_lists([history]), item, {name: vectors.row(name, item) for name in model.widths}
    )
    assert [one.modality for one in effects] == ["id", "text", "fields"]
    assert all(one.present and one.effect for one in effects)
