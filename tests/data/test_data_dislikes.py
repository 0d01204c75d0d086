"""Explicit dislikes: kept apart, never later than training, never of an item that is liked, changing nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from palate.artefact import describe
from palate.cli.prepare import prepare as prepare_command
from palate.data.dataset import Dataset, Part
from palate.data.doctor import Level, examine
from palate.data.folder import DISLIKES
from palate.data.frames import from_frames
from palate.data.prepare import prepare
from palate.data.sequences import Sequences
from palate.errors import PalateError

Row = tuple[str, str, int, int]  # user, item, day, rating
DAY = 86_400
LIKED = {"min_rating": 4, "disliked_at_most": 2}


def made(rows: list[Row], timed: bool = True, **options: Any) -> Dataset:
    frame = pl.DataFrame(rows, schema=["user", "item", "day", "rating"], orient="row")
    frame = frame.with_columns(time=pl.col("day") * DAY)
    return from_frames(frame, timestamp="time" if timed else None, weight="rating", **{**LIKED, **options})


def named(dataset: Dataset) -> dict[str, list[str]]:
    """User -> items disliked, users without any left out."""
    assert dataset.dislikes is not None
    assert len(dataset.dislikes) == dataset.num_users
    rows = zip(dataset.user_ids.to_list(), dataset.dislikes.to_lists(), strict=True)
    return {user: [dataset.catalogue.ids[item] for item in items] for user, items in rows if items}


def left_out(dataset: Dataset) -> dict[str, int]:
    return {why: count for why, count in dataset.manifest["dislikes"]["left_out"].items() if count}


# Ann likes a..d on days 1, 3, 5, 7 (a and b train, c validates, d tests); Bob likes everything, so all items survive.
LIKES: list[Row] = [("ann", item, day, 5) for item, day in zip("abcd", (1, 3, 5, 7), strict=True)]
LIKES += [("bob", item, day, 4) for day, item in enumerate("abcdefg", 1)]


def test_only_what_came_before_the_last_training_interaction_is_kept() -> None:
    dataset = made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1), ("ann", "g", 4, 1)])
    assert named(dataset) == {"ann": ["e", "f"]}  # oldest first; g came after b, the last to train on
    assert dataset.dislike_times is not None
    assert dataset.dislike_times.tolist() == [0, 2 * DAY * 1000]
    assert dataset.manifest["dislikes"] == {
        "at_most": 2,
        "found": 3,
        "left_out": {"outside": 0, "liked": 0, "repeated": 0, "untrained": 0, "too_late": 1},
        "kept": 2,
        "users": 1,
    }


@pytest.mark.parametrize("ties", ["file", "seed"])
def test_at_equal_times_the_order_of_the_source_decides(ties: str) -> None:
    before, after = ("ann", "e", 3, 1), ("ann", "f", 3, 1)  # around ann's b, which is at day 3 too
    dataset = made([before, *LIKES, after], ties=ties)
    assert named(dataset) == {"ann": ["e"]}
    assert left_out(dataset) == {"too_late": 1}


def test_without_times_the_order_of_the_source_decides() -> None:
    rows = [*LIKES[:1], ("ann", "f", 0, 1), *LIKES[1:2], ("ann", "e", 0, 2), *LIKES[2:], ("ann", "g", 0, 2)]
    dataset = made(rows, timed=False)
    assert named(dataset) == {"ann": ["f"]}
    assert left_out(dataset) == {"too_late": 2}
    assert dataset.dislike_times is None


def test_under_global_time_the_last_training_interaction_counts_and_not_the_cut() -> None:
    rows = [*LIKES, ("ann", "e", 2, 1), ("ann", "f", 4, 1), ("bob", "h", 4, 1), ("cat", "h", 6, 5), ("cat", "a", 1, 1)]
    dataset = made(rows, split="global-time", valid_from="1970-01-06", test_from="1970-01-07")  # days 5 and 6
    # Ann's f is before the cut at day 5 but after b (day 3). Bob trains up to day 4 at e, which his h is before in time
    # but after in the file. Cat has no training interaction at all.
    assert named(dataset) == {"ann": ["e"]}
    assert left_out(dataset) == {"untrained": 1, "too_late": 2}


def test_held_out_users_have_none() -> None:
    rows = [(f"u{n}", item, day, 5) for n in range(9) for day, item in enumerate("abc", 1)]
    rows += [(f"u{n}", "d", 0, 1) for n in range(9)] + [("u0", "d", 9, 5)]
    dataset = made(rows, split="user", valid_share=0.2, test_share=0.2)
    train = set(np.flatnonzero(dataset.train_sequences().lengths))
    assert dataset.dislikes is not None
    assert set(np.flatnonzero(dataset.dislikes.lengths)) == train - {dataset.user_index["u0"]}
    assert left_out(dataset)["untrained"] == dataset.num_users - len(train) - (0 not in train)


def test_what_the_user_likes_too_is_no_dislike_in_whatever_part() -> None:
    rows = [("ann", item, 0, 1) for item in "abcde"]  # later liked in train, train, validation and test; e never
    dataset = made([*rows, *LIKES])
    assert named(dataset) == {"ann": ["e"]}
    assert left_out(dataset) == {"liked": 4}


def test_of_several_dislikes_of_an_item_the_first_counts() -> None:
    for options in ({}, {"duplicates": "last"}, {"duplicates": "none"}):
        dataset = made([("ann", "e", 6, 1), *LIKES, ("ann", "e", 2, 2), ("ann", "e", 2, 1)], **options)
        assert named(dataset) == {"ann": ["e"]}
        assert dataset.dislike_times is not None
        assert dataset.dislike_times.tolist() == [2 * DAY * 1000]
        assert left_out(dataset) == {"repeated": 2}


def test_users_and_items_that_the_filters_take_have_none() -> None:
    rows = [("ann", "rare", 0, 1), ("ann", "e", 0, 1), ("cat", "a", 0, 1), ("cat", "b", 1, 5), ("dan", "rare", 1, 5)]
    catalogue = pl.DataFrame({"item_id": [*"abcdefg", "rare", "unborn"]})
    for options in ({"k_core": 2}, {"min_history": 2}, {"k_core": 2, "keep_unseen": True}):
        frame = pl.DataFrame([*LIKES, *rows], schema=["user", "item", "day", "rating"], orient="row")
        options = {**LIKED, "timestamp": "day", "weight": "rating", **options}
        if "k_core" in options:  # e is only liked by bob, so it would go as well
            frame = pl.concat(
                [
                    frame,
                    pl.DataFrame(
                        [("ann", "e", 9, 3), ("bob2", "e", 1, 5), ("bob2", "b", 2, 5)],
                        schema=frame.schema,
                        orient="row",
                    ),
                ]
            )
        dataset = from_frames(frame, catalogue, **options)
        assert named(dataset) == {"ann": ["e"]}
        assert left_out(dataset) == {"outside": 2}


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 12), st.integers(1, 5)), max_size=90)
# Users with a long history, so that every split has something to hold out, and each of them with one sure dislike.
SURE = [(user, 30 + user % 5, 0, 2) for user in range(20, 30)]
LONG = [(user, item, 2 * item + user % 3, 5) for user in range(20, 30) for item in range(9)]
LONG += [(user, item, 12, 5) for user in (5, 6) for item in range(30, 35)]
SPLITS: dict[str, dict[str, Any]] = {
    "leave-last-out": {},
    "leave-last-n": {"last_n": 2},
    "global-time": {"valid_quantile": 0.6, "test_quantile": 0.8},
    "user": {"valid_share": 0.2, "test_share": 0.2},
}


@pytest.mark.parametrize("split", SPLITS)
@settings(max_examples=30, deadline=None)
@given(
    rows=ROWS,
    timed=st.booleans(),
    ties=st.sampled_from(["file", "seed"]),
    duplicates=st.sampled_from(["first", "last", "none"]),
    core=st.integers(0, 2),
)
def test_no_dislike_is_late_or_liked_and_nothing_else_is_missing(
    split: str, rows: list[tuple[int, int, int, int]], timed: bool, ties: str, duplicates: str, core: int
) -> None:
    timed = timed or split == "global-time" or ties == "seed"
    log = [(f"u{user}", f"i{item}", day, rating) for user, item, day, rating in [*SURE, *LONG, *rows]]
    options: dict[str, Any] = {"split": split, **SPLITS[split], "ties": ties, "duplicates": duplicates, "k_core": core}
    dataset = made(log, timed, **options)
    plain = made(log, timed, **options, disliked_at_most=None)
    assert plain.dislikes is None
    for name in ("offsets", "items", "parts", "timestamps", "weights"):
        assert np.array_equal(getattr(dataset, name), getattr(plain, name)), name
    assert replace(dataset, dislikes=None, dislike_times=None).fingerprint == plain.fingerprint != dataset.fingerprint

    expected: dict[str, set[str]] = {}
    places: dict[tuple[str, str, int], list[int]] = {}
    for place, (user, item, day, rating) in enumerate(log):
        if rating >= 4:
            places.setdefault((user, item, day if timed else 0), []).append(place)
    for user, index in dataset.user_index.items():
        start, stop = dataset.offsets[index : index + 2]
        own = {dataset.catalogue.ids[item] for item in dataset.items[start:stop]}
        train = [row for row in range(start, stop) if dataset.parts[row] == Part.TRAIN]
        if not train:
            continue
        item = dataset.catalogue.ids[dataset.items[train[-1]]]
        day = int(dataset.timestamps[train[-1]]) // (DAY * 1000) if dataset.timestamps is not None else 0
        there = places[user, item, day]
        if len(there) > 1 and (ties == "seed" or duplicates == "none"):
            return  # which of several equal rows trains last cannot be seen from outside
        last = (day, there[0 if duplicates == "first" else -1])
        found = {
            item
            for place, (who, item, day, rating) in enumerate(log)
            if who == user
            and rating <= 2
            and item in dataset.catalogue.index
            and item not in own
            and (day if timed else 0, place) < last
        }
        expected |= {user: found} if found else {}
    assert {user: set(items) for user, items in named(dataset).items()} == expected
    assert dataset.dislikes is not None
    assert len(dataset.dislikes.values) == sum(map(len, expected.values())) == dataset.manifest["dislikes"]["kept"]
    record = dataset.manifest["dislikes"]
    assert record["found"] == record["kept"] + sum(record["left_out"].values()) == sum(row[3] <= 2 for row in log)
    assert examine(dataset, look_at_pictures=False)["dislikes"].level is not Level.ERROR


def test_they_are_in_no_sequence_history_target_or_count() -> None:
    dataset = made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1)])
    f, ann = dataset.catalogue.index["f"], dataset.user_index["ann"]
    assert dataset.train_sequences()[ann].tolist() == [dataset.catalogue.index[item] for item in "ab"]
    assert f not in dataset.history_of("ann")
    for split in ("valid", "test"):
        cases = dataset.cases(split)  # type: ignore[arg-type]
        row = cases.users.tolist().index(ann)
        assert f not in cases.histories[row]
        assert f not in cases.targets[row]
    assert dataset.manifest["counts"] == made([*LIKES, ("ann", "f", 2, 2)]).manifest["counts"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_rating": None}, "without --min-rating"),
        ({"min_rating": 2}, "is not below --min-rating 2"),
        ({"min_rating": 1.5}, r"is not below --min-rating 1\.5"),
        ({"disliked_at_most": float("nan")}, "should be a finite number"),
        ({"disliked_at_most": 0.5}, "the lowest of all ratings is 1"),
        ({"k_core": 2}, "keeps none of 2 low ratings .*2 of a user or an item that the filters took"),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(PalateError, match=words):
        made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1)], **options)


def test_a_threshold_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("no log at all")
    with pytest.raises(PalateError, match="without --min-rating"):
        prepare(tmp_path, "movielens", disliked_at_most=2)


def test_a_source_without_ratings_is_refused() -> None:
    frame = pl.DataFrame({"user": ["u"] * 4, "item": ["a", "b", "c", "d"]})
    with pytest.raises(PalateError, match="no ratings for --disliked-at-most"):
        from_frames(frame, **LIKED)


READERS: dict[str, tuple[str, Callable[[Row], str], dict[str, Any]]] = {
    "movielens": ("u.data", lambda row: f"{row[0]}\t{row[1]}\t{row[3]}\t{row[2]}\n", {}),
    "recbole": ("x.inter", lambda row: f"{row[0]}\t{row[1]}\t{row[3]}.0\t{row[2]}\n", {}),
    "amazon": (
        "reviews_X.json",
        lambda row: (
            json.dumps({"reviewerID": row[0], "asin": row[1], "overall": float(row[3]), "unixReviewTime": row[2]})
            + "\n"
        ),
        {},
    ),
    "table": ("log.csv", lambda row: ",".join(map(str, row)) + "\n", {"columns": {"weight": "stars"}}),
}
HEADS = {
    "recbole": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
    "table": "user,item,timestamp,stars\n",
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_with_ratings_gives_them(reader: str, tmp_path: Path) -> None:
    name, line, options = READERS[reader]
    rows = [*LIKES, ("ann", "f", 2, 2), ("ann", "g", 4, 1), ("ann", "e", 1, 3)]
    text = HEADS.get(reader, "") + "".join(line((user, item, 10**9 + day, stars)) for user, item, day, stars in rows)
    (tmp_path / name).write_text(text)
    assert named(prepare(tmp_path, reader, **LIKED, **options)) == {"ann": ["f"]}


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_saved_is_what_is_loaded(timed: bool, tmp_path: Path) -> None:
    dataset = made([*LIKES[:1], ("ann", "f", 2, 2), ("ann", "e", 0, 1), *LIKES[1:]], timed)
    dataset.save(tmp_path / "data")
    assert pl.read_parquet(tmp_path / "data" / DISLIKES).columns == ["user", "item", "timestamp"][: 2 + timed]
    loaded = Dataset.load(tmp_path / "data")
    assert loaded.fingerprint == dataset.fingerprint
    assert named(loaded) == named(dataset)
    assert loaded.dislikes is not None
    assert loaded.dislikes.values.dtype == np.int32
    assert describe(tmp_path / "data")["dislikes"] == 2


def test_a_dataset_without_dislikes_has_the_fingerprint_it_always_had() -> None:
    assert made(LIKES, disliked_at_most=None).fingerprint == "bd327a232e209b8d"


def test_each_part_of_the_dislikes_is_in_the_fingerprint() -> None:
    dataset = made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1)])
    assert dataset.dislikes is not None
    assert dataset.dislike_times is not None
    others = [
        replace(dataset, dislikes=Sequences(dataset.dislikes.values[::-1], dataset.dislikes.offsets)),
        replace(dataset, dislikes=Sequences(dataset.dislikes.values, np.array([0, 1, 2]))),
        replace(dataset, dislike_times=dataset.dislike_times + 1),
        replace(dataset, dislike_times=None),
        replace(dataset, dislikes=None),
    ]
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_a_replaced_dataset_leaves_no_dislikes_behind(tmp_path: Path) -> None:
    old = made([*LIKES, ("ann", "f", 2, 2)])
    old.save(tmp_path / "data")
    new = made([*LIKES, ("ann", "f", 2, 2)], disliked_at_most=None)
    new.save(tmp_path / "data", replace=True)
    assert not (tmp_path / "data" / DISLIKES).exists()
    assert Dataset.load(tmp_path / "data").dislikes is None
    old.save(tmp_path / "data", replace=True)
    Dataset.load(tmp_path / "data").save(tmp_path / "data", replace=True)
    assert named(Dataset.load(tmp_path / "data")) == {"ann": ["f"]}
    replace(old, dislikes=None, dislike_times=None).save(tmp_path / "data", replace=True)
    assert Dataset.load(tmp_path / "data").dislikes is None


def test_a_folder_that_lost_its_dislikes_or_has_anothers_is_damaged(tmp_path: Path) -> None:
    made([*LIKES, ("ann", "f", 2, 2)]).save(tmp_path / "data")
    pl.DataFrame({"user": [0], "item": [99]}).write_parquet(tmp_path / "data" / DISLIKES)
    with pytest.raises(PalateError, match="an item that it does not have"):
        Dataset.load(tmp_path / "data")
    (tmp_path / "data" / DISLIKES).unlink()
    with pytest.raises(PalateError, match="damaged"):
        Dataset.load(tmp_path / "data")


def test_the_doctor_says_how_many_users_have_some() -> None:
    dataset = made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1), ("ann", "g", 4, 1)])
    finding = examine(dataset, look_at_pictures=False)["dislikes"]
    assert (finding.level, finding.count, finding.share) == (Level.OK, 1, 0.5)
    assert "1 of 2 users (50%) has dislikes, 2 in the median. 1 was left out" in finding.message
    checks = examine(replace(dataset, dislikes=None), look_at_pictures=False).findings
    assert "dislikes" not in {finding.check for finding in checks}


@pytest.mark.parametrize("damage", ["late", "liked", "untrained"])
def test_the_doctor_finds_a_dislike_that_leaks(damage: str) -> None:
    dataset = made([*LIKES, ("ann", "f", 2, 2), ("ann", "e", 0, 1)])
    assert dataset.dislikes is not None
    assert dataset.dislike_times is not None
    if damage == "late":
        broken = replace(dataset, dislike_times=dataset.dislike_times + 2 * DAY * 1000)  # e on day 2, f on day 4
    elif damage == "liked":
        values = dataset.dislikes.values.copy()
        values[0] = dataset.catalogue.index["d"]  # ann's test target
        broken = replace(dataset, dislikes=Sequences(values, dataset.dislikes.offsets))
    else:
        ann = dataset.rows_user == dataset.user_index["ann"]
        parts = np.where(ann & (dataset.parts == Part.TRAIN), Part.CONTEXT, dataset.parts).astype(np.uint8)
        broken = replace(dataset, parts=parts)
    finding = examine(broken, look_at_pictures=False)["dislikes"]
    assert (finding.level, finding.count) == (Level.ERROR, 2 if damage == "untrained" else 1)
    assert finding.examples == ["user ann"]


def test_the_command_tells_what_it_kept(tmp_path: Path) -> None:
    rows = [*LIKES, ("ann", "f", 2, 2), ("ann", "g", 4, 1)]
    lines = "".join(f"{user},{item},{10**9 + day},{stars}\n" for user, item, day, stars in rows)
    (tmp_path / "log.csv").write_text(HEADS["table"] + lines)
    app = typer.Typer()
    app.callback()(lambda: None)  # so that `prepare` stays a command of its own
    app.command("prepare")(prepare_command)
    words = ["prepare", str(tmp_path / "log.csv"), "--reader", "table", "--columns", "weight=stars"]
    words += ["--out", str(tmp_path / "out"), "--min-rating", "4", "--disliked-at-most", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "Dislikes (rated at most 2): 1 of 1 user, out of 2 low ratings; left out: 1 after the user's last" in text
    assert named(Dataset.load(tmp_path / "out")) == {"ann": ["f"]}


@pytest.mark.real
def test_movielens_100k_has_true_negatives_for_most_users(real_data: Callable[[str], Path]) -> None:
    dataset = prepare(real_data("ml-100k"), "movielens", ties="seed", **LIKED)
    plain = prepare(real_data("ml-100k"), "movielens", ties="seed", min_rating=4)
    assert np.array_equal(dataset.items, plain.items)
    record = dataset.manifest["dislikes"]
    assert record == {
        "at_most": 2,
        "found": 17_480,
        "left_out": {"outside": 483, "liked": 0, "repeated": 0, "untrained": 0, "too_late": 2_452},
        "kept": 14_545,
        "users": 880,
    }
    assert dataset.dislikes is not None
    assert dataset.dislike_times is not None
    assert dataset.timestamps is not None
    lengths = dataset.dislikes.lengths
    assert np.median(lengths[lengths > 0]) == 8
    train = dataset.parts == Part.TRAIN
    last = np.zeros(dataset.num_users, np.int64)
    np.maximum.at(last, dataset.rows_user[train], dataset.timestamps[train])
    assert (dataset.dislike_times <= np.repeat(last, lengths)).all()
