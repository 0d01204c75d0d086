"""``prepare --append``: indices stay, and the interactions are those of preparing all logs at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from palate.data.append import append
from palate.data.dataset import Dataset, Part
from palate.data.folder import LOG, check_replaceable
from palate.data.frames import from_frames
from palate.data.prepare import prepare
from palate.errors import PalateError

Run = Callable[..., tuple[int, str, str]]
DAY = 86_400_000
COLUMNS = {"user": "uid", "item": "sku", "timestamp": "ts", "weight": "stars"}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"duplicates": "last", "split": "leave-last-n", "last_n": 1},
    {"k_core": 3},
    {"min_rating": 3, "disliked_at_most": 2, "k_core": 2},
    {"k_core": 2, "min_history": 4, "split": "none"},
    {"duplicates": "none", "keep_unseen": True, "missing_items": "drop"},
]


def write_log(path: Path, rows: list[tuple[str, str, int, int]]) -> Path:
    pl.DataFrame(rows, schema=["uid", "sku", "ts", "stars"], orient="row").write_csv(path)
    return path


def rows_of(seed: int, count: int, days: range, users: int = 14, items: int = 12) -> list[tuple[str, str, int, int]]:
    """Times without ties, in a mixed order; later logs know users and items that earlier ones do not."""
    rng = np.random.default_rng(seed)
    times = rng.permutation(len(days) * 1000)[:count]
    return [
        (
            f"u{rng.integers(users)}",
            f"i{int(rng.integers(items)):02}",
            1_700_000_000_000 + days.start * DAY + int(t) * 60_000,
            int(rng.integers(1, 6)),
        )
        for t in times
    ]


def write_items(path: Path, items: int, **columns: Any) -> Path:
    ids = [f"i{item:02}" for item in range(items)]
    pl.DataFrame({"item_id": ids, "title": [f"Mug {item}" for item in ids], **columns}).write_csv(path)
    return path


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A first log, a later one with new users and items, and both as one."""
    first, later = rows_of(1, 90, range(3), users=10, items=9), rows_of(2, 60, range(3, 5))
    logs = [write_log(tmp_path / name, rows) for name, rows in [("a.csv", first), ("b.csv", later)]]
    write_items(tmp_path / "first_items.csv", 9)
    write_items(tmp_path / "items.csv", 13)
    return logs[0], logs[1], write_log(tmp_path / "all.csv", first + later)


def start(log: Path, tmp_path: Path, **options: Any) -> Dataset:
    catalogue = tmp_path / "first_items.csv"
    made = prepare(log, "table", columns=COLUMNS, catalogue=catalogue, keep_log=True, **options)
    made.save(tmp_path / "before")
    return Dataset.load(tmp_path / "before")


def interactions(dataset: Dataset) -> list[tuple[Any, ...]]:
    """By ids, in user order, with what each is for."""
    assert dataset.timestamps is not None
    return sorted(
        (str(dataset.user_ids[int(user)]), time, dataset.catalogue.ids[item], int(part))
        for user, item, time, part in zip(
            dataset.rows_user, dataset.items, dataset.timestamps.tolist(), dataset.parts, strict=True
        )
    )


def dislikes(dataset: Dataset) -> dict[str, list[str]] | None:
    if dataset.dislikes is None:
        return None
    ids = dataset.catalogue.ids
    rows = zip(dataset.user_ids, dataset.dislikes.to_lists(), strict=True)
    return {user: [ids[item] for item in items] for user, items in rows if items}


@pytest.mark.parametrize("options", OPTIONS)
def test_a_log_in_two_halves_gives_what_it_gives_at_once(
    halves: tuple[Path, Path, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    first, later, whole = halves
    before = start(first, tmp_path, **options)
    after = append(later, tmp_path / "before", catalogue=tmp_path / "items.csv")
    at_once = prepare(whole, "table", columns=COLUMNS, catalogue=tmp_path / "items.csv", **options)
    assert interactions(after) == interactions(at_once)
    assert dislikes(after) == dislikes(at_once)
    texts = [dict(zip(one.catalogue.ids[1:], one.catalogue.texts(), strict=True)) for one in (after, at_once)]
    assert texts[0] == texts[1]
    assert after.catalogue.ids[: before.num_items + 1] == before.catalogue.ids
    assert after.user_ids[: before.num_users].to_list() == before.user_ids.to_list()
    assert after.manifest["counts"] == at_once.manifest["counts"]
    assert after.manifest["filters"] == at_once.manifest["filters"]


def test_the_manifest_names_the_parent_and_all_that_was_appended(
    halves: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, later, _ = halves
    before = start(first, tmp_path)
    append(later, before).save(tmp_path / "second")
    second = Dataset.load(tmp_path / "second")
    third = append(write_log(tmp_path / "c.csv", rows_of(3, 20, range(5, 6))), second)
    assert third.manifest["parent"] == {
        "fingerprint": second.fingerprint,
        "path": str(tmp_path / "second"),
        "rows": len(second),
        "users": second.num_users,
        "items": second.num_items,
    }
    appended = third.manifest["appended"]
    assert [one["name"] for one in appended] == ["b.csv", "c.csv"]
    assert appended[0]["new_users"] == second.num_users - before.num_users > 0
    assert appended[0]["new_items"] == second.num_items - before.num_items > 0
    assert third.manifest["source"] == before.manifest["source"]
    assert third.manifest["reader_options"]["columns"] == COLUMNS


def test_rows_that_are_there_are_left_out_and_earlier_ones_are_put_in_order(tmp_path: Path) -> None:
    log = rows_of(1, 60, range(3))
    write_items(tmp_path / "first_items.csv", 12)
    before = start(write_log(tmp_path / "a.csv", log), tmp_path, duplicates="none")
    again = append(tmp_path / "a.csv", before)
    assert again.fingerprint == before.fingerprint
    user, item, time, stars = log[0]
    early = [(user, "i99", min(row[2] for row in log) - 5, stars), (user, item, time + 1, stars), log[5]]
    after = append(write_log(tmp_path / "b.csv", early), before)
    facts = after.manifest["appended"][-1]
    assert (facts["read"], facts["already_there"], facts["earlier"]) == (3, 1, 2)
    assert len(after) == len(before) + 2
    assert after.catalogue.ids[after.history_of(user)[0]] == "i99"


def test_an_item_enters_once_it_reaches_the_core_with_what_was_left_out_before(tmp_path: Path) -> None:
    base = [(f"u{user}", f"i{item:02}", DAY * 10**4 + user * 10 + item, 5) for user in range(3) for item in range(3)]
    rare = [("u0", "i07", DAY * 10**4 + 50, 5), ("u1", "i07", DAY * 10**4 + 51, 5)]
    write_items(tmp_path / "first_items.csv", 9)
    before = start(write_log(tmp_path / "a.csv", base + rare), tmp_path, k_core=3)
    assert before.catalogue.ids == ["", "i00", "i01", "i02"]
    after = append(write_log(tmp_path / "b.csv", [("u2", "i07", DAY * 10**4 + 90, 5)]), before)
    assert after.catalogue.ids == ["", "i00", "i01", "i02", "i07"]
    assert after.train_counts[4] + (after.parts[after.items == 4] != Part.TRAIN).sum() == 3
    assert after.catalogue.titles[4] == "Mug i07"  # from the catalogue of the first night


def test_items_that_a_filter_would_now_drop_stay_in_the_catalogue(tmp_path: Path) -> None:
    """Nothing that is appended can do it; a log that was cut by hand shows that indices hold all the same."""
    write_items(tmp_path / "first_items.csv", 12)
    before = start(write_log(tmp_path / "a.csv", rows_of(1, 60, range(3))), tmp_path, k_core=2)
    rows = tmp_path / "before" / LOG / "interactions.parquet"
    pl.read_parquet(rows).filter(pl.col("item") != 0).write_parquet(rows)
    after = append(write_log(tmp_path / "b.csv", rows_of(2, 60, range(3, 4))[:1]), tmp_path / "before")
    assert after.catalogue.ids[: before.num_items + 1] == before.catalogue.ids
    assert after.user_ids[: before.num_users].to_list() == before.user_ids.to_list()


def test_a_dataset_without_its_log_is_refused(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, later, _ = halves
    prepare(first, "table", columns=COLUMNS).save(tmp_path / "data")
    with pytest.raises(PalateError, match=r"has kept no log.*--keep-log"):
        append(later, tmp_path / "data")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k_core": 3}, "--k-core 3: the dataset 'a' was prepared with 2"),
        ({"reader": "hm"}, "--reader hm: the dataset 'a' was prepared with table"),
        ({"seed": 4}, "--seed 4: the dataset 'a' was prepared with 0"),
        ({"keep_unseen": True}, "--keep-unseen it: the dataset 'a' was prepared with none"),
        ({"min_rating": 3.0}, "--min-rating 3.0: the dataset 'a' was prepared with none"),
        ({"columns": {"user": "who"}}, "--columns user=who: the dataset 'a' was prepared with user=uid,item=sku"),
    ],
)
def test_options_that_contradict_are_refused(
    halves: tuple[Path, Path, Path], tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    first, later, _ = halves
    start(first, tmp_path, k_core=2)
    with pytest.raises(PalateError, match=words):
        append(later, tmp_path / "before", **options)


def test_the_split_may_be_another_one_and_equal_options_may_be_said_again(
    halves: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, later, _ = halves
    before = start(first, tmp_path, k_core=2, split="leave-last-n", last_n=2)
    after = append(later, before, k_core=2, reader="table", columns=COLUMNS, name="night")
    assert (after.manifest["split"], after.name) == ({"name": "leave-last-n", "last_n": 2}, "night")
    assert append(later, before, last_n=1).manifest["split"] == {"name": "leave-last-n", "last_n": 1}
    assert append(later, before, split="none").manifest["split"] == {"name": "none"}


def test_a_log_without_the_columns_of_the_first_is_refused(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    pl.DataFrame({"user": ["a", "b", "a", "a"], "item": ["x", "x", "y", "z"]}).write_csv(tmp_path / "plain.csv")
    prepare(tmp_path / "plain.csv", "table", keep_log=True).save(tmp_path / "plain")
    timed = pl.DataFrame({"user": ["a"], "item": ["x"], "timestamp": [1_700_000_000]})
    timed.write_csv(tmp_path / "timed.csv")
    with pytest.raises(PalateError, match=r"timed.csv has times, and the dataset that is appended to has none"):
        append(tmp_path / "timed.csv", tmp_path / "plain")
    with pytest.raises(PalateError, match="--keep-log with --max-users"):
        prepare(halves[0], "table", columns=COLUMNS, keep_log=True, max_users=2)


def test_a_damaged_log_is_one_clear_error(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, later, _ = halves
    start(first, tmp_path)
    path = tmp_path / "before" / LOG / "interactions.parquet"
    pl.read_parquet(path).with_columns(pl.col("user") + 1000).write_parquet(path)
    with pytest.raises(PalateError, match=r"kept is damaged .its files do not fit together"):
        append(later, tmp_path / "before")
    path.write_bytes(b"PAR1")
    with pytest.raises(PalateError, match="kept is damaged"):
        append(later, tmp_path / "before")
    with pytest.raises(PalateError, match="kept is damaged"):
        Dataset.load(tmp_path / "before").save(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_rows_in_another_order_are_refused(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """As a tool leaves them that writes the file again, by time: users would get each other's items."""
    first, _, _ = halves
    prepare(first, "table", columns=COLUMNS).save(tmp_path / "data")
    path = tmp_path / "data/interactions.parquet"
    pl.read_parquet(path).sort("timestamp").write_parquet(path)
    with pytest.raises(PalateError, match="users are out of order"):
        Dataset.load(tmp_path / "data")


def test_a_catalogue_updates_texts_and_an_empty_cell_changes_nothing(
    halves: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, later, _ = halves
    write_items(tmp_path / "first_items.csv", 9, price=list(range(9)), size=["S", "38"] + ["L"] * 7)
    made = prepare(first, "table", columns=COLUMNS, catalogue=tmp_path / "first_items.csv", keep_log=True)
    made.save(tmp_path / "before")
    (tmp_path / "tonight.csv").write_text("item_id,title,price,size,colour\ni01,,9.5,40,red\ni10,New mug,3,42,\n")
    after = append(later, tmp_path / "before", catalogue=tmp_path / "tonight.csv")
    rows = {row["item_id"]: row for row in after.catalogue.frame.iter_rows(named=True)}
    expected = {"title": "Mug i01", "price": 9.5, "size": "40", "colour": "red"}
    assert {key: rows["i01"][key] for key in expected} == expected
    assert (rows["i10"]["title"], rows["i10"]["size"], rows["i02"]["colour"]) == ("New mug", "42", None)
    assert after.manifest["appended"][-1]["changed_items"] == 1
    (tmp_path / "tonight.csv").write_text("item_id,price\ni01,cheap\n")
    with pytest.raises(PalateError, match=r"'price' holds the text 'cheap', and numbers .* --item-columns price="):
        append(later, tmp_path / "before", catalogue=tmp_path / "tonight.csv")


def paint(path: Path, shade: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(path)
    return path


def shade(dataset: Dataset, item: str) -> int | None:
    path = dataset.catalogue.image_path(dataset.catalogue.index[item])
    return None if path is None else Image.open(path).convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]


def test_pictures_of_one_folder_stay_there_and_those_of_two_are_put_together(
    halves: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, later, _ = halves
    for item in range(3):
        paint(tmp_path / f"shots/i{item:02}.png", item)
    made = prepare(first, "table", columns=COLUMNS, images=tmp_path / "shots", keep_log=True)
    made.save(tmp_path / "before")
    paint(tmp_path / "shots/i10.png", 10)
    same = append(later, tmp_path / "before")
    assert same.catalogue.root == tmp_path / "shots"
    assert [shade(same, item) for item in ("i01", "i10", "i04")] == [1, 10, None]
    paint(tmp_path / "more/i10.png", 110)
    paint(tmp_path / "more/i01.png", 101)
    paint(tmp_path / "more/i02.png", 2)
    append(later, tmp_path / "before", images=tmp_path / "more").save(tmp_path / "after")
    shutil.rmtree(tmp_path / "more")
    shutil.rmtree(tmp_path / "before")
    both = Dataset.load(tmp_path / "after")
    assert [shade(both, item) for item in ("i00", "i01", "i02", "i10")] == [0, 101, 2, 110]
    assert both.catalogue.frame["image"][both.catalogue.index["i02"] - 1] == "i02.png"  # the same picture, not moved


def test_pictures_inside_tables_do_not_need_the_datasets_before(
    halves: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    first, later, _ = halves

    def table(name: str, items: list[int]) -> Path:
        pictures = [paint(tmp_path / f"one/{name}{item}.png", item).read_bytes() for item in items]
        frame = pl.DataFrame({"item_id": [f"i{item:02}" for item in items], "image": pictures})
        frame.write_parquet(tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    made = prepare(first, "table", columns=COLUMNS, catalogue=table("a", [0, 1, 20]), keep_log=True)
    made.save(tmp_path / "before")
    append(later, tmp_path / "before", catalogue=table("b", [9, 10])).save(tmp_path / "after")
    shutil.rmtree(tmp_path / "before")
    more = [("u0", "i20", 1_800_000_000_000, 5)]
    append(write_log(tmp_path / "c.csv", more), tmp_path / "after").save(tmp_path / "third")
    shutil.rmtree(tmp_path / "after")
    third = Dataset.load(tmp_path / "third")
    assert [shade(third, item) for item in ("i00", "i01", "i09", "i10", "i20")] == [0, 1, 9, 10, 20]


def test_a_dataset_of_frames_takes_files(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, later, whole = halves
    options: dict[str, Any] = {"user": "uid", "item": "sku", "timestamp": "ts", "weight": "stars"}
    before = from_frames(pl.read_csv(first), keep_log=True, **options)
    with pytest.raises(PalateError, match=r"was made of frames.*--reader table"):
        append(later, before)
    after = append(later, before, reader="table", columns=COLUMNS)
    assert interactions(after) == interactions(from_frames(pl.read_csv(whole), **options))


def test_the_command_appends_also_in_place(halves: tuple[Path, Path, Path], tmp_path: Path, palate: Run) -> None:
    first, later, _ = halves
    start(first, tmp_path, k_core=2)
    data = tmp_path / "before"
    (data / "features").mkdir()
    code, _, err = palate("prepare", str(later), "--out", str(tmp_path / "x"))
    assert code == 2
    assert "--reader" in err
    code, out, _ = palate("prepare", str(later), "--append", str(data), "--out", str(tmp_path / "after"))
    assert code == 0
    assert "Appended b.csv: 60 rows" in out
    code, out, _ = palate("prepare", str(later), "--append", str(data), "--out", str(data), "--overwrite", "--json")
    assert code == 0
    after, in_place = Dataset.load(tmp_path / "after"), Dataset.load(data)
    assert in_place.fingerprint == after.fingerprint == json.loads(out)["fingerprint"]
    assert (data / "features").is_dir()
    check_replaceable(data)
    code, out, _ = palate("prepare", str(later), "--append", str(data), "--out", str(tmp_path / "again"))
    assert code == 0
    assert "60 were there already" in " ".join(out.split())


def test_feedback_is_read_anew_each_night(halves: tuple[Path, Path, Path], tmp_path: Path) -> None:
    first, later, whole = halves
    options: dict[str, Any] = {"columns": {**COLUMNS, "weight": ""}, "feedback_kinds": ("cart",)}
    time = 1_700_000_000_000 + DAY
    rows = [("r1", "u1", "i02", 1, "shown"), ("r1", "u1", "i03", 2, "shown"), ("r1", "u1", "i50", 3, "taken")]
    names = ["request", "user", "item", "position", "event"]
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        time=pl.lit(time), kind=pl.when(pl.col("event") == "taken").then(pl.lit("cart"))
    )
    (tmp_path / "feedback").mkdir()
    frame.write_parquet(tmp_path / "feedback/2023-11-15T000000-1.parquet")
    before = prepare(first, "table", keep_log=True, feedback=tmp_path / "feedback", **options)
    before.save(tmp_path / "before")
    with pytest.raises(PalateError, match=r"prepared with --feedback.*Name the folder"):
        append(later, tmp_path / "before")
    after = append(later, tmp_path / "before", feedback=tmp_path / "feedback")
    at_once = prepare(whole, "table", feedback=tmp_path / "feedback", **options)
    assert interactions(after) == interactions(at_once)
    assert "i50" in after.catalogue.index
    assert after.catalogue.ids[: before.num_items + 1] == before.catalogue.ids
    assert after.manifest["feedback"] == at_once.manifest["feedback"]
