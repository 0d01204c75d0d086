"""Neighbours in a ranker's scores: sums by hand, whatever the path that leads to a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import load_file, save_file

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.rankers.neighbours import FILE, NeighbourScores, newest
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec, SASRecConfig

ITEMS = 12
HISTORIES = [[1, 2, 3], [4, 4, 5], [7], list(range(1, 10)), [2, 9, 2]]


def lists(source: str, seed: int, keep: int = 4) -> NeighbourList:
    """Random neighbours; item 12 has none."""
    random = np.random.default_rng(seed)
    items, values = np.zeros((ITEMS + 1, keep), np.int32), np.zeros((ITEMS + 1, keep), np.float32)
    for item in range(1, ITEMS):
        others = [other for other in range(1, ITEMS + 1) if other != item]
        items[item] = random.choice(others, keep, replace=False)
        values[item] = np.sort(random.uniform(0.1, 1, keep))[::-1]
    return NeighbourList.of(source, items, values)


def ranker(repeat_bias: bool = False) -> SASRec:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SASRec(SASRecConfig(dim=8, max_length=6, positions="first", repeat_bias=repeat_bias), ITEMS, {})
        if model.repeat is not None:
            torch.nn.init.normal_(model.repeat)
    model.popularity = torch.arange(ITEMS + 1).float()
    return model.eval()


@pytest.fixture
def neighbours() -> NeighbourScores:
    return NeighbourScores([lists("words", 1), lists("log", 2)], [[3.0, 1.0, 0.5], [2.0, 0.0, 4.0]])


def by_hand(neighbours: NeighbourScores, history: list[int]) -> npt.NDArray[np.float64]:
    added = np.zeros(ITEMS + 1)
    for one, weights in zip(neighbours.lists, neighbours.weights, strict=True):
        for weight, item in zip(weights, history[::-1], strict=False):
            for other, value in zip(one.items[item], one.values[item], strict=True):
                if other and other not in history:
                    added[other] += weight * value
    return added


@pytest.mark.parametrize("repeat_bias", [False, True])
def test_scores_are_the_rankers_own_and_what_neighbours_add(repeat_bias: bool, neighbours: NeighbourScores) -> None:
    model = ranker(repeat_bias)
    alone = model.score(HISTORIES)
    model.neighbours = neighbours
    both = model.score(HISTORIES)
    for row, history in enumerate(HISTORIES):
        added = (both[row] - alone[row])[1:].double().numpy()
        np.testing.assert_allclose(added, by_hand(neighbours, history)[1:], atol=1e-5)


def test_every_position_of_a_batch_sees_its_own_past_only(neighbours: NeighbourScores) -> None:
    model = ranker(repeat_bias=True)
    model.neighbours = neighbours
    rows = [history[-6:] for history in HISTORIES]
    with torch.no_grad():
        scores = model(PackedBatch.of(Sequences.from_lists(rows), 6)).full()
    prefixes = [row[: end + 1] for row in rows for end in range(len(row))]
    torch.testing.assert_close(scores[:, 1:], model.score(prefixes)[:, 1:], rtol=1e-4, atol=1e-5)


def test_factored_scores_agree_however_they_are_read(neighbours: NeighbourScores) -> None:
    model = ranker(repeat_bias=True)
    model.neighbours = neighbours
    scores = model.queries(Sequences.from_lists(HISTORIES))
    every = torch.arange(ITEMS + 1).expand(len(HISTORIES), -1)
    torch.testing.assert_close(scores.at(every), scores.full())
    torch.testing.assert_close(scores.take(torch.tensor([1, 3])).full(), scores.full()[[1, 3]])


def test_a_newcomer_is_answered_by_popularity(neighbours: NeighbourScores) -> None:
    model = ranker()
    model.neighbours = neighbours
    assert torch.equal(model.score([[]])[0, 1:], torch.arange(1.0, ITEMS + 1))


def test_neighbours_are_saved_with_the_model(neighbours: NeighbourScores, tmp_path: Path) -> None:
    model = ranker()
    model.neighbours = neighbours
    model.save(tmp_path)
    loaded = SASRec.load(tmp_path)
    assert loaded.neighbours is not None
    assert loaded.neighbours.sources == ["words", "log"]
    assert torch.equal(loaded.score(HISTORIES), model.score(HISTORIES))
    assert loaded.describe()["neighbours"]["words"]["weights"] == [3.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("name", "value"),
    [("weights", np.full((2, 3), np.nan, np.float32)), ("weights", np.ones((1, 3), np.float32)),
     ("1.items", np.full((ITEMS + 1, 4), ITEMS + 1, np.int32)), ("0.values", np.ones((3, 4), np.float32))],
)  # fmt: skip
def test_a_damaged_file_is_refused(name: str, value: npt.NDArray[np.float32], tmp_path: Path, neighbours) -> None:
    neighbours.save(tmp_path)
    tensors = load_file(tmp_path / FILE)
    save_file({**tensors, name: value}, tmp_path / FILE, metadata={"0": "words", "1": "log"})
    with pytest.raises(PalateError, match="damaged"):
        NeighbourScores.load(tmp_path, ITEMS)


def test_lists_of_another_catalogue_are_refused(tmp_path: Path, neighbours: NeighbourScores) -> None:
    neighbours.save(tmp_path)
    with pytest.raises(PalateError, match="do not fit 13 items"):
        NeighbourScores.load(tmp_path, 13)


def test_what_neighbours_say_of_an_item_adds_up(neighbours: NeighbourScores) -> None:
    for history in HISTORIES:
        for item in range(1, ITEMS + 1):
            effects = neighbours.effects(history, item)
            assert sum(one.effect for one in effects) == pytest.approx(by_hand(neighbours, history)[item], abs=1e-5)
            assert [one.effect for one in effects] == sorted((one.effect for one in effects), reverse=True)


def test_the_newest_come_first() -> None:
    rows = newest(Sequences.from_lists([[5, 6, 7], [], [3]]), 2)
    assert rows.tolist() == [[7, 6], [0, 0], [3, 0]]
