"""What becomes of a catalogue's columns: bytes and structs, blank and endless text, HTML."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.data.images import open_image
from palate.data.prepare import prepare
from palate.data.tidy import MAX_TEXT, MAX_TITLE, tidy
from palate.errors import PalateError

IDS = ["a", "b", "c"]
Palate = Callable[..., tuple[int, str, str]]
LOG = pl.DataFrame({"user": ["u"] * 3, "item": IDS})


def items(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"item_id": IDS, "title": ["Cup", "Mug", "Pot"], **columns})


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "column",
    [
        [b"\x00\xff", None, b""],
        [{"x": b"\x00"}, None, {"x": None}],
        [{"x": 1}, None, {"x": 2}],
        [[b"\x00"], None, []],
        [[["a"]], None, []],
        [[{"x": 1}], None, []],
    ],
)
def test_a_column_that_no_step_can_use_is_left_out_by_name(tmp_path: Path, column: list[object]) -> None:
    frame = items(blob=column, colour=["red", "blue", "red"])
    frame.write_parquet(tmp_path / "items.parquet")
    LOG.write_parquet(tmp_path / "log.parquet")
    for data in (
        from_frames(LOG, frame),
        prepare(tmp_path / "log.parquet", "table", catalogue=tmp_path / "items.parquet"),
    ):
        assert data.catalogue.fields == ["colour"]
        assert data.manifest["reader_report"]["columns_left_out"] == f"blob ({frame.schema['blob']})"
        assert len(data.fingerprint) > 8


@pytest.mark.parametrize("column", [[b"\x00", None, None], [["a"], None, None], [{"x": 1}, None, None]])
def test_a_title_that_is_no_text_is_refused(column: list[object]) -> None:
    with pytest.raises(PalateError, match="the catalogue's column 'title' holds"):
        from_frames(LOG, pl.DataFrame({"item_id": IDS, "title": column}))


def test_missing_text_is_missing() -> None:
    frame = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": ["mug", "", " ", None],
            "brand": ["x", "", None, "\n"],
            "tags": [["a", "", "b"], [], [" ", None], None],
        }
    )
    made, report = tidy(frame)
    assert made["title"].to_list() == ["mug", None, None, None]
    assert made["tags"].to_list() == [["a", "b"], None, None, None]
    assert report == {}
    for one in (frame, made):  # data of earlier versions hold what was in the file
        texts = Catalogue(one.with_columns(image=pl.lit(None, pl.String))).texts()
        assert texts == ["mug. x. a, b", None, None, None]


def test_categories_and_arrays_are_text() -> None:
    frame = items(
        colour=pl.Series(["red", "blue", None], dtype=pl.Categorical),
        tags=pl.Series([["a"], ["b"], ["c"]], dtype=pl.Array(pl.String, 1)),
        nothing=[None, None, None],
    )
    made = from_frames(LOG, frame).catalogue
    assert made.texts() == ["Cup. red. a", "Mug. blue. b", "Pot. c"]
    assert made.select("colour=RED").tolist() == [False, True, False, False]


def test_endless_text_is_cut_and_counted() -> None:
    frame = items(about=["é" * (MAX_TEXT + 1), "x", None]).with_columns(
        title=pl.Series(["t" * 5_000_000, "Mug", "Pot"]), tags=pl.Series([["y" * (MAX_TEXT + 5)], ["z"], None])
    )
    data = from_frames(LOG, frame)
    assert [len(one or "") for one in data.catalogue.frame["title"]] == [MAX_TITLE, 3, 3]
    assert [len(one or "") for one in data.catalogue.frame["about"]] == [MAX_TEXT, 1, 0]
    assert data.manifest["reader_report"] == {"titles_cut": 1, "texts_cut": 2}


def test_html_goes_where_that_is_chosen() -> None:
    frame = items(
        about=["<p>Fine &amp; <b>blue</b></p><script>x()</script>", "a < b", "<br>"],
        tags=[["&lt;i&gt;new"], None, None],
    )
    kept, cleaned = from_frames(LOG, frame), from_frames(LOG, frame, clean_text=True)
    assert kept.catalogue.frame["about"].to_list() == frame["about"].to_list()
    assert cleaned.catalogue.frame["about"].to_list() == ["Fine & blue", "a < b", None]
    assert cleaned.catalogue.frame["tags"].to_list() == [["new"], None, None]
    assert cleaned.manifest["reader_report"] == {"texts_cleaned": 3}
    assert (kept.manifest["options"].get("clean_text"), cleaned.manifest["options"]["clean_text"]) == (None, True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("column", ["image", "photo"])
def test_pictures_inside_a_table_are_read(tmp_path: Path, packed: bool, column: str) -> None:
    pictures = [png("red"), b"no picture", png("blue")]
    cells = [{"bytes": one, "path": f"{n}.png"} for n, one in enumerate(pictures)] if packed else pictures
    frame = items(**{column: cells})
    frame.write_parquet(tmp_path / "items.parquet")
    LOG.write_parquet(tmp_path / "log.parquet")
    names = {"image": column}
    for data in (
        from_frames(LOG, frame, item_columns=names),
        prepare(tmp_path / "log.parquet", "table", catalogue=tmp_path / "items.parquet", item_columns=names),
    ):
        assert data.manifest["reader_report"] == {"pictures_unknown": 1}
        assert data.manifest["counts"]["items_with_image"] == 2
        data.save(tmp_path / "data", replace=True)
        assert Dataset.load(tmp_path / "data").manifest["image_root"] == "images"
        moved = (tmp_path / "data").rename(tmp_path / "moved")
        catalogue = Dataset.load(moved).catalogue
        for one in (data.catalogue, catalogue):
            assert open_image(one.image_path(1)).getpixel((0, 0)) == (255, 0, 0)
            assert one.image_path(2) is None
            assert open_image(one.image_path(3)).getpixel((0, 0)) == (0, 0, 255)
        moved.rename(tmp_path / "data")


def test_pictures_in_a_table_and_in_a_folder_are_refused(tmp_path: Path) -> None:
    frame = items(image=[png("red")] * 3)
    frame.write_parquet(tmp_path / "items.parquet")
    LOG.write_parquet(tmp_path / "log.parquet")
    with pytest.raises(PalateError, match="holds pictures itself"):
        prepare(tmp_path / "log.parquet", "table", catalogue=tmp_path / "items.parquet", images=tmp_path)
    with pytest.raises(PalateError, match="holds pictures itself"):
        from_frames(LOG, frame, images=tmp_path)


def test_structs_that_only_name_a_file_are_counted() -> None:
    cells = [{"bytes": None, "path": "a.png"}, None, {"bytes": png("red"), "path": None}]
    frame = items(image=pl.Series(cells, dtype=pl.Struct({"bytes": pl.Binary, "path": pl.String})))
    data = from_frames(LOG, frame)
    assert data.manifest["reader_report"] == {"pictures_without_bytes": 1}
    assert data.manifest["counts"]["items_with_image"] == 1


def test_a_data_set_that_is_replaced_keeps_no_pictures_of_the_old_catalogue(palate: Palate, tmp_path: Path) -> None:
    LOG.write_parquet(tmp_path / "log.parquet")
    words = ("prepare", tmp_path / "log.parquet", "--reader", "table", "--catalogue", tmp_path / "items.parquet")
    for colours in (["red", "red", "red"], ["blue"]):
        pictures = [png(colour) for colour in colours] + [None] * (3 - len(colours))
        items(image=pictures).write_parquet(tmp_path / "items.parquet")
        code, _, errors = palate(*words, "--out", tmp_path / "data", "--overwrite")
        assert (code, "images/" in errors) == (0, False)
        assert len(list((tmp_path / "data" / "images").iterdir())) == len(colours)
    catalogue = Dataset.load(tmp_path / "data").catalogue
    assert open_image(catalogue.image_path(1)).getpixel((0, 0)) == (0, 0, 255)


def test_no_room_for_pictures_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(PalateError, match=r"cannot be unpacked into .* \(No space left on device\).*TMPDIR"):
        from_frames(LOG, items(image=[png("red")] * 3))


@pytest.mark.parametrize("cell", [pl.lit(b"x"), pl.concat_list(pl.lit(b"x")), pl.struct(a=pl.lit(b"x"))])
def test_a_saved_catalogue_with_bytes_is_refused(cell: pl.Expr, tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["a"], "title": ["A"], "image": [None]}, schema_overrides={"image": pl.String})
    frame.with_columns(cell.alias("tags")).write_parquet(tmp_path / "items.parquet")
    with pytest.raises(PalateError, match="'tags' of the catalogue holds bytes"):
        Catalogue.load(tmp_path / "items.parquet")
