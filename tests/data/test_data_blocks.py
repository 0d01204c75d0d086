"""Large logs a block at a time: blocks of any size give the same dataset and findings, and need little memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palate.data import blocks, filters, log
from palate.data.blocks import among, count, count_by_user, repeated, user_blocks, users_of
from palate.data.dataset import Dataset
from palate.data.doctor import examine
from palate.data.filters import Filters
from palate.data.growing import Growing
from palate.data.log import Log
from palate.data.numbering import Numbering
from palate.data.prepare import prepare
from palate.data.sequences import offsets_of

LENGTHS = st.lists(st.integers(0, 6), max_size=12)


@given(LENGTHS, st.integers(1, 9))
def test_blocks_of_users_have_every_row_once_and_whole_users(lengths: list[int], size: int) -> None:
    offsets = offsets_of(np.array(lengths, np.int64))
    rows, owners = [], []
    for users, block in user_blocks(offsets, size):
        assert 0 < block.stop - block.start <= max(size, *lengths[users])
        rows += range(block.start, block.stop)
        owners += users_of(offsets, users).tolist()
    assert rows == list(range(sum(lengths)))
    assert owners == np.repeat(np.arange(len(lengths)), lengths).tolist()


@given(LENGTHS, st.integers(1, 9), st.randoms())
def test_counts_by_blocks_are_those_of_the_whole(lengths: list[int], size: int, random: Any) -> None:
    offsets = offsets_of(np.array(lengths, np.int64))
    mask = np.array([random.random() < 0.5 for _ in range(sum(lengths))], bool)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "ROWS", size)
        expected = np.bincount(owners[mask], minlength=len(lengths))
        assert count_by_user(mask, offsets).tolist() == expected.tolist()
        assert count(owners, len(lengths), mask).tolist() == expected.tolist()


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_repeated_values_and_those_among_few(values: list[int], few: list[int]) -> None:
    assert repeated(np.array(values, np.int64)).tolist() == sorted({one for one in values if values.count(one) > 1})
    found = among(np.array(values, np.int64), np.sort(np.array(few, np.int64)))
    assert found.tolist() == [one in few for one in values]


def test_a_growing_array_takes_the_type_that_holds_all_values() -> None:
    array = Growing()
    for piece in ([1, 2], [3.5], range(200_000)):
        array.extend(np.array(piece))
    assert array.done().dtype == np.float64
    assert array.done().tolist() == [1, 2, 3.5, *range(200_000)]
    assert Growing(np.int32).done().dtype == np.int32


def test_ids_are_numbered_by_first_use_whatever_their_categories_are() -> None:
    numbering, found = Numbering(), list[int]()
    pl.Series(["c", "b", "a"]).cast(numbering.kind)  # their categories come in another order
    for ids in (["a", "b", "a"], ["b"], ["d", "c", "d", "a"]):
        numbers, _ = numbering.numbers(pl.Series(ids).cast(numbering.kind))
        found += numbers.tolist()
    assert numbering.ids().to_list() == ["a", "b", "d", "c"]
    assert found == [0, 1, 0, 1, 2, 3, 2, 0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two files with times of different units, ratings, ties, repeated items and users in both."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "log"
    folder.mkdir()
    for part, scale in enumerate((1, 1000)):
        columns = {
            "user": [f"u{n}" for n in rng.integers(0, 20, 300)],
            "item": [f"i{n}" for n in rng.integers(0, 25, 300)],
            "rating": rng.integers(1, 6, 300),
            "timestamp": (1_500_000_000 + 86_400 * rng.integers(0, 40, 300)) * scale,
        }
        pl.DataFrame(columns).write_csv(folder / f"{part}.csv")
    return folder


OPTIONS: list[dict[str, Any]] = [
    {"k_core": 3, "min_rating": 2},
    {"ties": "seed", "duplicates": "last", "split": "leave-last-n", "last_n": 2},
    {"duplicates": "none", "split": "global-time"},
    {"split": "user", "max_users": 15, "min_rating": 3, "disliked_at_most": 2},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_blocks_of_any_size_make_the_same_dataset_and_findings(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    found = []
    for size in (1 << 20, 50, 7):
        monkeypatch.setattr(blocks, "ROWS", size)
        monkeypatch.setattr(filters, "_PASSES", 600)
        monkeypatch.setattr(log, "_BATCH", size)
        folder = tmp_path / str(size)
        prepare(source, "table", **options).save(folder)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        found.append((files, examine(Dataset.load(folder)).to_dict()))
    assert found[0] == found[1] == found[2]


def peak(work: Callable[[], Any]) -> int:
    """Bytes that the work allocates at most beyond what was there (arrays and Python's objects, not polars')."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


ROWS, EACH = 300_000, 100


def test_filters_need_the_log_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 10_000)
    rng = np.random.default_rng(0)
    made = Log(
        users=rng.integers(0, ROWS // EACH, ROWS).astype(np.uint32),
        items=rng.integers(0, ROWS // EACH, ROWS).astype(np.uint32),
        user_ids=pl.Series([f"u{n}" for n in range(ROWS // EACH)]),
        item_ids=pl.Series([f"i{n}" for n in range(ROWS // EACH)]),
        timestamps=rng.integers(0, 10**12, ROWS),
        weights=np.ones(ROWS, np.float32),
    )
    width = sum(column.itemsize for column in made.columns.values())
    held = [made]
    del made
    used = peak(lambda: filters.apply(held.pop(), Filters(min_rating=1, k_core=5), None, 0))
    assert used < 2.5 * width * ROWS  # the log that is given is not among them


def test_the_doctor_needs_less_than_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "ROWS", 10_000)
    rng = np.random.default_rng(0)
    data = pl.DataFrame(
        {
            "user": np.repeat(np.arange(ROWS // EACH), EACH),
            "item": rng.integers(0, 1000, ROWS),
            "timestamp": 1_500_000_000 + np.arange(ROWS),
        }
    )
    data.write_parquet(tmp_path / "log.parquet")
    made = prepare(tmp_path / "log.parquet", "table", duplicates="none")
    assert peak(lambda: made.fingerprint) < 2 * ROWS
    assert peak(lambda: examine(made)) < 25 * ROWS
    assert "rows_user" not in vars(made)  # 8 bytes per row that would stay
