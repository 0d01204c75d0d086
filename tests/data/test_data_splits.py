"""No split may leak: what is known of each is tested on random logs, through the cases that models are judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset, Part
from palate.data.doctor.finding import Level
from palate.data.doctor.splits import split_integrity
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.evaluation.evaluate import cases_of
from palate.serve.people import find_people
from palate.training.fit import train
from palate.training.validation import Validation

# Five users with a long history, so that every split has something to hold out, and anything beside them.
LONG = [(user, step, 4 * step + user % 3) for user in range(20, 25) for step in range(10)]
ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(0, 40)), max_size=100).map(
    lambda rows: [*rows, *LONG]
)
few = settings(max_examples=40, deadline=None)
DAY = 86_400
SPLITS: dict[str, dict[str, Any]] = {
    "leave-last-out": {},
    "leave-last-n": {"last_n": 2},
    "global-time": {"valid_quantile": 0.6, "test_quantile": 0.8},
    "user": {"valid_share": 0.2, "test_share": 0.3},
}


def dataset_of(rows: list[tuple[int, int, int]], split: str, **options: Any) -> Dataset:
    frame = pl.DataFrame(rows, schema=["user", "item", "day"], orient="row").with_columns(time=pl.col("day") * DAY)
    return from_frames(frame, timestamp="time", split=split, **options)


@pytest.mark.parametrize("split", SPLITS)
@few
@given(rows=ROWS)
def test_no_target_is_in_its_history_or_in_its_users_training_rows(
    split: str, rows: list[tuple[int, int, int]]
) -> None:
    dataset = dataset_of(rows, split, **SPLITS[split])
    train = dataset.train_sequences()
    for name in ("valid", "test"):
        cases = dataset.cases(name)  # type: ignore[arg-type]
        for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True):
            assert len(targets)
            assert not set(targets.tolist()) & set(history.tolist())
            assert not set(targets.tolist()) & set(train[int(user)].tolist())


@pytest.mark.parametrize("split", SPLITS)
@few
@given(rows=ROWS)
def test_training_comes_before_validation_before_test_within_a_user(
    split: str, rows: list[tuple[int, int, int]]
) -> None:
    dataset = dataset_of(rows, split, **SPLITS[split])
    order = np.array([0, 1, 2, 0])  # CONTEXT is history, like training rows
    for start, stop in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True):
        parts = order[dataset.parts[start:stop]]
        assert (np.diff(parts) >= 0).all()
        assert dataset.timestamps is not None
        assert (np.diff(dataset.timestamps[start:stop]) >= 0).all()


@pytest.mark.parametrize("split", SPLITS)
@few
@given(rows=ROWS)
def test_histories_and_targets_are_the_users_own_rows_in_order(split: str, rows: list[tuple[int, int, int]]) -> None:
    dataset = dataset_of(rows, split, **SPLITS[split])
    for name in ("valid", "test"):
        cases = dataset.cases(name)  # type: ignore[arg-type]
        for user, history, targets in zip(cases.users, cases.histories, cases.targets, strict=True):
            own = dataset.history_of(dataset.user_ids[int(user)]).tolist()
            both = [*history.tolist(), *targets.tolist()]
            assert own[: len(both)] == both


@few
@given(rows=ROWS)
def test_leave_last_out_holds_out_the_last_two_of_everyone_who_has_three(rows: list[tuple[int, int, int]]) -> None:
    dataset = dataset_of(rows, "leave-last-out")
    for start, stop in zip(dataset.offsets[:-1], dataset.offsets[1:], strict=True):
        parts = dataset.parts[start:stop].tolist()
        enough = len(parts) >= 3
        assert parts == ([Part.TRAIN] * (len(parts) - 2) + [Part.VALID, Part.TEST] if enough else [0] * len(parts))


@few
@given(rows=ROWS, n=st.integers(1, 4))
def test_leave_last_n_gives_every_case_n_targets_and_a_history(rows: list[tuple[int, int, int]], n: int) -> None:
    dataset = dataset_of(rows, "leave-last-n", last_n=n)
    valid, test = dataset.cases("valid"), dataset.cases("test")
    assert valid.users.tolist() == test.users.tolist() == np.flatnonzero(np.diff(dataset.offsets) > 2 * n).tolist()
    assert set(valid.targets.lengths.tolist()) == set(test.targets.lengths.tolist()) == {n}
    assert (valid.histories.lengths >= 1).all()
    assert (test.histories.lengths == valid.histories.lengths + n).all()


@few
@given(rows=ROWS)
def test_global_time_cuts_all_users_at_the_same_moments(rows: list[tuple[int, int, int]]) -> None:
    dataset = dataset_of(rows, "global-time", **SPLITS["global-time"])
    times, parts = dataset.timestamps, dataset.parts
    assert times is not None
    assert times[parts == Part.TRAIN].max() < times[parts == Part.VALID].min()
    assert times[parts == Part.VALID].max() < times[parts == Part.TEST].min()


@few
@given(rows=ROWS, seed=st.integers(0, 3))
def test_held_out_users_are_never_trained_on_and_have_one_target(rows: list[tuple[int, int, int]], seed: int) -> None:
    dataset = dataset_of(rows, "user", **SPLITS["user"], seed=seed)
    train = dataset.train_sequences().lengths
    valid, test = dataset.cases("valid"), dataset.cases("test")
    held = [*valid.users.tolist(), *test.users.tolist()]
    assert len(set(held)) == len(held)
    assert not train[held].any()
    for cases in (valid, test):
        assert set(cases.targets.lengths.tolist()) == {1}
        assert (cases.histories.lengths >= 1).all()
    able = int((np.diff(dataset.offsets) >= 2).sum())
    assert len(valid) == max(1, round(0.2 * able))
    assert len(test) == max(1, round(0.3 * able))


GRID = [(user, 3 * user + step, 10 * step + user) for user in range(10) for step in range(4)]


def test_user_split_is_drawn_by_the_seed() -> None:
    drawn = [tuple(dataset_of(GRID, "user", seed=seed).cases("test").users.tolist()) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_by_default_a_tenth_of_the_users_validates_and_a_tenth_tests() -> None:
    dataset = dataset_of([(user, step, step) for user in range(50) for step in range(3)], "user")
    assert len(dataset.cases("valid")) == len(dataset.cases("test")) == 5


def test_dates_cut_where_they_say() -> None:
    dataset = dataset_of(GRID, "global-time", valid_from="1970-01-21", test_from="1970-01-31T00:00:00+00:00")
    assert dataset.timestamps is not None
    days = dataset.timestamps // (DAY * 1000)
    assert (dataset.parts == np.where(days >= 30, Part.TEST, np.where(days >= 20, Part.VALID, Part.TRAIN))).all()
    assert dataset.manifest["split"] == {
        "name": "global-time",
        "valid_from": "1970-01-21T00:00:00+00:00",
        "test_from": "1970-01-31T00:00:00+00:00",
    }


def test_a_new_user_under_global_time_is_a_case_without_history_and_is_counted() -> None:
    dataset = dataset_of([*GRID, (77, 0, 39)], "global-time", valid_from="1970-01-21", test_from="1970-01-31")
    cases = dataset.cases("test")
    row = cases.users.tolist().index(dataset.user_index["77"])
    assert cases.histories[row].tolist() == []
    assert dataset.manifest["counts"]["test_cases_without_history"] == 1


@pytest.mark.parametrize(
    ("split", "options", "words"),
    [
        ("global-time", {"valid_from": "yesterday"}, "not an ISO date"),
        ("global-time", {"valid_from": "1970-02-01", "test_from": "1970-01-10"}, "is not before"),
        ("global-time", {"valid_from": "1970-01-10", "valid_quantile": 0.5}, "both say"),
        ("global-time", {"valid_from": "1960-01-10"}, "no training row"),
        ("global-time", {"test_from": "2100-01-10"}, "no test target.* The log runs from 1970-01-01T.* to 1970-0"),
        ("global-time", {"last_n": 3}, "does not belong"),
        ("leave-last-out", {"test_from": "1970-01-10"}, "does not belong"),
        ("leave-last-n", {}, "--last-n"),
        ("leave-last-n", {"last_n": 9}, "no validation target"),
        ("leave-last-n", {"last_n": 0}, "last_n"),
        ("user", {"valid_share": 0.5, "test_share": 0.5}, "no user to train on"),
        ("user", {"test_quantile": 0.5}, "does not belong"),
        ("by-moon", {}, "leave-last-out"),
    ],
)
def test_options_that_make_no_split_are_refused(split: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(PalateError, match=words):
        dataset_of(GRID, split, **options)


def test_global_time_is_refused_without_times() -> None:
    frame = pl.DataFrame({"user": [1] * 5, "item": range(5)})
    with pytest.raises(PalateError, match="no times"):
        from_frames(frame, split="global-time")


def test_split_none_trains_on_everything_and_what_needs_targets_says_what_to_do() -> None:
    dataset = dataset_of(LONG, "none")
    assert (dataset.parts == Part.TRAIN).all()
    assert dataset.manifest["split"] == {"name": "none"}
    assert split_integrity(dataset)[0].level is Level.NOTE
    with pytest.raises(PalateError, match=r"holds nothing out \(--split none\).* --refit RUN"):
        Validation(dataset, "NDCG@10", True)
    with pytest.raises(PalateError, match=r"no test targets\. Measure on a dataset"):
        cases_of(dataset, "test")
    with pytest.raises(PalateError, match="no test targets"):
        sample_candidates(dataset, "test")
    with pytest.raises(PalateError, match="--last-n does not belong to --split none"):
        dataset_of(LONG, "none", last_n=2)


def test_people_of_a_dataset_that_holds_nothing_out_are_any_users(tmp_path: Path) -> None:
    dataset_of(LONG, "none").save(tmp_path / "data")
    people = find_people(tmp_path / "data", 3)
    assert [len(one.history) for one in people] == [10, 10, 10]
    assert not any(one.held_out for one in people)


@pytest.mark.parametrize("model", ["popularity", "item-knn", "ease"])
def test_models_that_choose_nothing_train_without_validation(model: str, tmp_path: Path) -> None:
    dataset = dataset_of(LONG, "none")
    dataset.save(tmp_path / "data")
    run = train(dataset, model=model, out=tmp_path / "run", dataset_path=tmp_path / "data")
    assert run.info["finished"]
