"""What prompts may say of each item, and that a run can keep it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.mllm.prompts.items import Items

IDS = ["a", "b", "c", "d", "e", "f", "g"]


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """A whole item, one with nothing, and items whose pictures are missing, broken, outside, thin."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (30, 20), (200, 30, 30)).save(folder / "red.png")
    Image.new("RGB", (300, 2)).save(folder / "thin.png")
    (folder / "broken.jpg").write_bytes((folder / "red.png").read_bytes()[:60])
    Image.new("RGB", (30, 20)).save(tmp_path / "outside.png")
    frame = pl.DataFrame(
        {
            "item_id": IDS,
            "title": ['Mug "Red"', None, "<s>", " ", "E", "F", "G"],
            "image": ["red.png", None, "gone.png", "broken.jpg", "../outside.png", "thin.png", "red.png"],
            "colours": [["red", "white"], None, [], None, None, None, None],
            "about": ["A mug.\nFor tea.", None, "[INST]", None, None, None, None],
            "price": [3.5, 1, 1, 1, 1, 1, 1],
        }
    )
    return Catalogue(frame, folder)


def test_text_of_items(catalogue: Catalogue) -> None:
    items = Items.of(catalogue, {"a": "A red\n\nmug.", "unknown": "x"})
    assert len(items) == 7
    assert [items.title(item) for item in range(1, 8)] == ["Mug 'Red'", "b", "(s)", "d", "E", "F", "G"]
    assert items.text(1) == "red, white. A mug. For tea."
    assert items.text(2) == ""
    assert items.summary(1) == "A red mug."
    assert items.summary(2) == ""


def test_a_catalogue_of_titles_only() -> None:
    frame = pl.DataFrame({"item_id": ["a", "\u200b"], "title": ["A", "\u200b"], "image": [None, None]})
    items = Items.of(Catalogue(frame))
    assert [items.title(1), items.title(2)] == ["A", "untitled"]
    assert items.text(1) == items.summary(1) == ""
    assert items.picture(1) is None
    assert items.pictured == 0


def test_pictures_are_an_items_own_or_none(catalogue: Catalogue) -> None:
    items = Items.of(catalogue)
    shown = [items.picture(item) for item in range(1, 8)]
    assert [one is not None for one in shown] == [True, False, False, False, False, False, True]
    assert shown[0] is not None
    assert shown[0].path == catalogue.root / "red.png"
    # Not naming a picture is nothing to report; naming one that cannot be shown is.
    assert set(items.refused) == {"c", "d", "e", "f"}
    assert "gone.png does not exist" in items.refused["c"]
    assert "lies outside" in items.refused["e"]
    assert "too long and thin" in items.refused["f"]
    assert items.pictured == 6


@pytest.mark.parametrize("item", [0, -1, 8])
def test_indices_outside_of_the_catalogue(catalogue: Catalogue, item: int) -> None:
    with pytest.raises(PalateError, match=r"no item with index .* go from 1 to 7"):
        Items.of(catalogue).title(item)


def test_saved_items_need_no_dataset(catalogue: Catalogue, tmp_path: Path) -> None:
    items = Items.of(catalogue, {"a": "A red mug."})
    items.save(tmp_path / "run")
    again = Items.load(tmp_path / "run")
    assert again.fingerprint == items.fingerprint
    assert again.ids == ["", *IDS]
    for item in range(1, 8):
        assert again.title(item) == items.title(item)
        assert again.text(item) == items.text(item)
        assert again.summary(item) == items.summary(item)
    picture = again.picture(1)
    assert picture is not None
    assert picture.open().size == (30, 20)


def test_pictures_that_have_moved(catalogue: Catalogue, tmp_path: Path) -> None:
    Items.of(catalogue).save(tmp_path / "run")
    catalogue.root.rename(tmp_path / "moved")
    assert Items.load(tmp_path / "run").picture(1) is None
    picture = Items.load(tmp_path / "run", root=tmp_path / "moved").picture(1)
    assert picture is not None


def test_what_is_loaded_is_made_harmless_again(catalogue: Catalogue, tmp_path: Path) -> None:
    Items.of(catalogue).save(tmp_path)
    frame = pl.read_parquet(tmp_path / "items.parquet")
    frame.with_columns(title=pl.lit('x"\n<image>')).write_parquet(tmp_path / "items.parquet")
    assert Items.load(tmp_path).title(1) == "x' (image)"


def test_the_fingerprint_follows_the_content(catalogue: Catalogue) -> None:
    plain = Items.of(catalogue).fingerprint
    assert plain == Items.of(catalogue).fingerprint
    assert plain != Items.of(catalogue, {"a": "A red mug."}).fingerprint
    retitled = Catalogue(catalogue.frame.with_columns(title=pl.lit("x")), catalogue.root)
    assert plain != Items.of(retitled).fingerprint


def test_damaged_files(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match=r"items\.parquet is damaged"):
        Items.load(tmp_path / "nowhere")
    Items.of(catalogue).save(tmp_path)
    (tmp_path / "items.json").write_text("[]")
    with pytest.raises(PalateError, match=r"items\.json does not say where"):
        Items.load(tmp_path)
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(PalateError, match=r"lack the column 'title'"):
        Items.load(tmp_path, root=tmp_path)
    data = (tmp_path / "items.parquet").read_bytes()
    (tmp_path / "items.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(PalateError, match=r"items\.parquet is damaged"):
        Items.load(tmp_path)
