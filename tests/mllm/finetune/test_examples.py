"""Positions, negatives and orders of training questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.negatives import draw_negatives
from palate.data.positions import training_positions, validation_positions, validation_users
from palate.data.sample import sample_users
from palate.data.sequences import offsets_of
from palate.errors import PalateError
from palate.mllm.finetune.examples import PromptCases
from palate.negatives import NEGATIVES


def weights_of(dataset: Dataset, strategy: str) -> npt.NDArray[np.float64]:
    weights: npt.NDArray[np.float64] = NEGATIVES[strategy]().of_catalogue(dataset.train_counts)
    return weights


def make(rows: list[list[int]], num_items: int) -> Dataset:
    """Leave-last-out over the given sequences; rows of fewer than three items are all training."""
    parts = [
        [Part.TRAIN] * (len(row) - 2) + [Part.VALID, Part.TEST] if len(row) > 2 else [Part.TRAIN] * len(row)
        for row in rows
    ]
    frame = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(1, num_items + 1)],
            "title": [f"Title {n}" for n in range(1, num_items + 1)],
            "image": pl.Series([None] * num_items, dtype=pl.String),
        }
    )
    return Dataset(
        catalogue=Catalogue(frame),
        user_ids=pl.Series([f"u{n}" for n in range(len(rows))]),
        offsets=offsets_of(np.array([len(row) for row in rows], np.int64)),
        items=np.array([item for row in rows for item in row], np.int32),
        parts=np.array([int(part) for row in parts for part in row], np.uint8),
        timestamps=None,
        weights=None,
        manifest={"name": "toy"},
    )


TOY = [[1, 2, 3, 4, 5, 6], [7, 8, 9], [2, 1, 4, 3, 6], [10]]


def test_positions_are_the_last_ones_and_know_nothing_later() -> None:
    cases = training_positions(make(TOY, 12), None, 2)
    # User 1 trains on one item (the other two are held out) and user 3 on one: neither has a history.
    assert cases.users.tolist() == [0, 0, 2, 2]
    assert cases.histories.to_lists() == [[1, 2], [1, 2, 3], [2], [2, 1]]
    assert cases.targets.to_lists() == [[3], [4], [1], [4]]


def test_positions_of_some_users() -> None:
    cases = training_positions(make(TOY, 12), [2], 10)
    assert cases.users.tolist() == [2, 2]
    assert cases.targets.to_lists() == [[1], [4]]
    assert len(training_positions(make(TOY, 12), [1, 3], 5)) == 0
    with pytest.raises(PalateError, match="cut-offs"):
        training_positions(make(TOY, 12), None, 0)


def test_validation_positions() -> None:
    cases = validation_positions(make(TOY, 12), [0, 3])
    assert cases.users.tolist() == [0]
    assert cases.histories.to_lists() == [[1, 2, 3, 4]]
    assert cases.targets.to_lists() == [[5]]
    assert validation_positions(make(TOY, 12), None).users.tolist() == [0, 1, 2]


def random_dataset(users: int = 60, items: int = 40) -> Dataset:
    rng = np.random.default_rng(3)
    popularity = 1 / np.arange(1, items + 1)
    rows = [(rng.choice(items, 8, replace=False, p=popularity / popularity.sum()) + 1).tolist() for _ in range(users)]
    return make(rows, items)


def test_negatives_are_never_training_items_but_may_be_held_out_ones() -> None:
    dataset = random_dataset()
    cases = training_positions(dataset, None, 3)
    drawn = draw_negatives(dataset, cases, weights=weights_of(dataset, "uniform"), count=20, seed=0)
    train = dataset.train_sequences()
    held = 0
    for user, row in zip(cases.users, drawn, strict=True):
        assert len(set(row.tolist())) == 20
        assert not set(row.tolist()) & set(train[int(user)].tolist())
        held += bool(set(row.tolist()) & set(dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]].tolist()))
    assert drawn.min() >= 1
    assert held > 0  # the future is not known, so it is not avoided


def test_a_draw_belongs_to_its_example() -> None:
    dataset = random_dataset()
    every = training_positions(dataset, None, 3)
    some = training_positions(dataset, [5, 17], 2)
    first = draw_negatives(dataset, every, weights=weights_of(dataset, "popularity"), count=2, seed=1)
    alone = draw_negatives(dataset, some, weights=weights_of(dataset, "popularity"), count=2, seed=1)
    rows = np.flatnonzero(np.isin(every.users, [5, 17]))
    rows = [row for row in rows if len(every.histories[int(row)]) >= 4]  # the last two of six training items
    np.testing.assert_array_equal(first[rows], alone)
    other = draw_negatives(dataset, every, weights=weights_of(dataset, "popularity"), count=2, seed=2)
    assert (other != first).mean() > 0.5


def test_popular_negatives_are_as_popular_as_positives() -> None:
    dataset = random_dataset(users=400, items=60)
    cases = training_positions(dataset, None, 5)
    counts = dataset.train_counts
    positive = counts[cases.targets.values].mean()
    popular = counts[draw_negatives(dataset, cases, weights=weights_of(dataset, "popularity"), count=1, seed=0)].mean()
    uniform = counts[draw_negatives(dataset, cases, weights=weights_of(dataset, "uniform"), count=1, seed=0)].mean()
    assert uniform < popular
    assert abs(popular - positive) < abs(uniform - positive)


def user_split(users: int = 40) -> Dataset:
    """Of every ten users one is held out: what he had is context, and his last item is the target."""
    dataset = random_dataset(users)
    parts = np.full((users, 8), int(Part.TRAIN), np.uint8)
    parts[::10] = [*[int(Part.CONTEXT)] * 7, int(Part.VALID)]
    return replace(dataset, parts=parts.reshape(-1))


def test_judges_are_users_that_can_judge() -> None:
    dataset = user_split()
    assert validation_users(dataset, 100, 0).tolist() == [0, 10, 20, 30]
    for seed in range(5):
        few, more = (set(validation_users(dataset, count, seed).tolist()) for count in (2, 3))
        assert len(few) == 2
        assert few < more < {0, 10, 20, 30}
    assert len({tuple(validation_users(dataset, 2, seed).tolist()) for seed in range(20)}) > 2
    # Summaries are there for users of the sample: no others validate, unless none of them can.
    assert validation_users(dataset, 3, 0, within=[3, 10, 30]).tolist() == [10, 30]
    assert len(validation_users(dataset, 3, 0, within=[1, 2])) == 3


def test_judges_of_leave_last_out_are_the_sample() -> None:
    dataset = random_dataset()
    for count in (1, 7, 60):
        expected = sample_users(dataset, count, 4).tolist()
        assert validation_users(dataset, count, 4).tolist() == expected
        assert validation_users(dataset, count, 4, within=sample_users(dataset, 60, 4)).tolist() == expected


def test_negatives_of_validation_are_not_in_the_history() -> None:
    dataset = user_split()
    cases = validation_positions(dataset, None)
    assert cases.histories.lengths.tolist() == [7] * 4
    drawn = draw_negatives(dataset, cases, weights=weights_of(dataset, "uniform"), count=30, seed=0)
    for user, row in zip(cases.users, drawn, strict=True):
        assert not set(row.tolist()) & set(dataset.items[dataset.offsets[user] : dataset.offsets[user + 1]].tolist())


def test_when_nearly_everything_was_seen() -> None:
    dataset = make([list(range(1, 20))], 20)  # 17 train, so 18, 19 and 20 are left
    cases = training_positions(dataset, None, 2)
    drawn = draw_negatives(dataset, cases, weights=weights_of(dataset, "uniform"), count=3, seed=0)
    assert [sorted(row) for row in drawn.tolist()] == [[18, 19, 20]] * 2
    with pytest.raises(PalateError, match="leaves 3 items for 4 negatives"):
        draw_negatives(dataset, cases, weights=weights_of(dataset, "uniform"), count=4, seed=0)
    with pytest.raises(PalateError, match="leaves 0 items for 1 negatives"):  # the rest have no popularity
        draw_negatives(dataset, cases, weights=weights_of(dataset, "popularity"), count=1, seed=0)


def test_the_answer_stands_in_every_place() -> None:
    dataset = random_dataset(users=400, items=60)
    cases = training_positions(dataset, None, 1)
    questions = PromptCases.draw(dataset, cases, source="uniform", negatives=3, seed=0)
    places = []
    for row in range(len(questions)):
        listed, place = questions.listed(row)
        assert listed[place] == cases.targets[row][0]
        assert sorted(listed) == sorted(questions.candidates[row].tolist())
        places.append(place)
    shares = np.bincount(places, minlength=4) / len(places)
    assert shares.min() > 0.15
