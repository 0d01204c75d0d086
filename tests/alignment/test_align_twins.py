"""Negatives that look at content: near twins of what was taken are left out, or nothing else is rejected."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from palate.alignment.align import align
from palate.alignment.config import AlignConfig
from palate.alignment.pairs import PairBatch, PairDrawer
from palate.alignment.prefixes import Prefixes
from palate.alignment.twins import Twins, make_twins, twin_origin
from palate.cli.recipe_words import RecipeWords
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.lexical import encode_lexical
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import neighbour_list
from palate.negatives.config import NegativesConfig
from palate.objectives import Batch
from palate.rankers.packing import PackedBatch
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.training.batches import TrainingSequences
from palate.training.fit import train

SETTINGS: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 6},
    "trainer": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "device": "cpu"},
}
ITEMS = 30


def designs(item: int) -> int:
    """Items come in three sizes of ten designs; sizes of one lie ten places apart on the ring."""
    return (item - 1) % 10


@pytest.fixture(scope="module")
def folder(ring: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset whose titles name the design; the last item has no twin."""
    data = ring(items=ITEMS, longest=18)
    titles = ["lonely" if item == ITEMS else 3 * "abcdefghij"[designs(item)] for item in range(1, ITEMS + 1)]
    frame = data.catalogue.frame.with_columns(title=pl.Series(titles))
    path = tmp_path_factory.mktemp("twins") / "data"
    data = replace(data, catalogue=Catalogue(frame))
    data.save(path)
    encode_lexical(data, path, fields=["title"])
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> Dataset:
    return Dataset.load(folder)


@pytest.fixture(scope="module")
def base(data: Dataset, folder: Path) -> Run:
    return train(data, model="sasrec", out=folder.parent / "base", settings=SETTINGS, dataset_path=folder)


def twins_of(item: int) -> set[int]:
    if item == ITEMS:
        return set()
    return {other for other in range(1, ITEMS) if other != item and designs(other) == designs(item)}


def drawn_pairs(data: Dataset, base: Run, **negatives: Any) -> list[PairBatch]:
    config = NegativesConfig(**negatives)
    windows = TrainingSequences(data.train_sequences(), 6, 16, 0, fixed=True)
    counts = torch.from_numpy(data.train_counts).float()
    twins = make_twins(config, data, None)
    drawer = PairDrawer(AlignConfig(), config, Prefixes(windows.sequences), counts, twins=twins)
    model = load_recommender(base)
    assert isinstance(model, SequentialRanker)
    classes, generator = torch.nonzero(counts).squeeze(1), torch.Generator().manual_seed(0)
    made = []
    for step in windows.batches(1):
        batch = Batch(torch.from_numpy(step.targets), classes, counts, None, generator)
        drawn = drawer.draw(model, PackedBatch.of(step.inputs, 6), batch, step.places)
        assert drawn is not None
        made.append(drawn)
    return made


def rows_of(drawn: PairBatch, data: Dataset) -> list[tuple[int, list[int], set[int]]]:
    """Each row's chosen item, its history up to the place, and its valid negatives."""
    log = data.train_sequences()
    rows = []
    for place, items, valid in zip(drawn.row_places, drawn.items.tolist(), drawn.rejected.valid.tolist(), strict=True):
        start = int(log.offsets[np.searchsorted(log.offsets, place, side="right") - 1])
        negatives = {item for item, there in zip(items[1:], valid, strict=True) if there}
        rows.append((items[0], log.values[start : place + 1].tolist(), negatives))
    return rows


@pytest.mark.parametrize("strategy", ["uniform", "popularity", "in-batch", "hard", "top-k", "mixed"])
@pytest.mark.parametrize("history", [0, 2])
def test_twins_are_left_out_or_are_all_that_is_rejected(strategy: str, history: int, data: Dataset, base: Run) -> None:
    shared = {"strategy": strategy, "num_negatives": 6, "twin_source": "lexical", "twin_cosine": 0.5}
    shared |= {"twin_history": history}
    untouched = False
    for drawn in drawn_pairs(data, base, twins="out", **shared):
        for chosen, taken, negatives in rows_of(drawn, data):
            untouched |= bool(negatives)
            for anchor in [chosen, *(taken[-history:] if history else [])]:
                assert not negatives & twins_of(anchor)
    assert untouched
    rejected, without = 0, 0
    for drawn in drawn_pairs(data, base, twins="only", **shared):
        for chosen, taken, negatives in rows_of(drawn, data):
            near = set().union(*(twins_of(anchor) for anchor in [chosen, *(taken[-history:] if history else [])]))
            allowed = near - {chosen, *taken}
            assert negatives <= allowed
            if strategy in ("uniform", "hard", "top-k"):
                assert bool(negatives) == bool(allowed)
            rejected, without = rejected + len(negatives), without + (not allowed)
    assert rejected
    if not history:
        assert without


def test_a_pool_without_twins_is_as_large_as_before(data: Dataset, base: Run) -> None:
    for drawn in drawn_pairs(data, base, pool_k=5, twins="out", twin_source="lexical", twin_cosine=0.5):
        pool, valid = drawn.rejected.pool, drawn.rejected.pool_valid
        assert pool is not None
        assert valid is not None
        assert pool.shape[1] == 5
        assert valid.all()


def test_twins_are_symmetric_and_above_the_cosine() -> None:
    items = np.array([[0, 0], [2, 3], [1, 0], [4, 0], [0, 0]], np.int32)
    values = np.array([[0, 0], [0.9, 0.6], [0.9, 0], [0.7, 0], [0, 0]], np.float32)
    made = Twins.of(NeighbourList.of("look", items, values), 0.65)
    assert made.near.sequences.to_lists() == [[], [2], [1], [4], [3]]
    assert made.facts["per_item"] == 1
    assert made.facts["without"] == 0
    rows, twins = made.of_rows(np.array([5, 7, 7]), np.array([1, 4, 3]))
    assert list(zip(rows.tolist(), twins.tolist(), strict=True)) == [(5, 2), (7, 3), (7, 4)]
    with pytest.raises(PalateError, match=r"no item has a neighbour by look with a cosine of 0\.95 or more"):
        Twins.of(NeighbourList.of("look", items, values), 0.95)


def test_the_newest_items_of_a_place(data: Dataset) -> None:
    log = data.train_sequences()
    places = np.array([log.offsets[3], log.offsets[3] + 2])
    rows, items = Prefixes(log).newest(places, 2)
    assert rows.tolist() == [0, 1, 1]
    assert items.tolist() == [log[3][0], log[3][1], log[3][2]]


def test_an_alignment_counts_its_twins_and_resumes_with_the_same_ones_only(
    data: Dataset, base: Run, folder: Path, tmp_path: Path
) -> None:
    def settings(**negatives: Any) -> dict[str, dict[str, Any]]:
        return {"negatives": {"pool_k": 5, **negatives}, "align": {"watch_every": 1}, "trainer": {"epochs": 1}}

    out = {"twins": "out", "twin_source": "lexical", "twin_cosine": 0.5}
    run = align(base, out=tmp_path / "out", settings=settings(**out))
    facts = run.info["alignment"]["twins"]
    fingerprint = neighbour_list(data, "lexical", dataset_path=folder).fingerprint
    assert facts["list"] == fingerprint
    assert 1.7 < facts["per_item"] < 2
    assert run.info["options"]["alignment"]["twins"]["source"] == "lexical"
    assert len(run.info["options"]["alignment"]["twins"]["store"]) == 16
    row = _last_row(run)
    assert 0 < row["pool_twins"] <= row["twins"] < 2
    assert 0 < row["rows_without_twins"] < 1
    assert 0 <= row["rejected_later"] <= 1

    plain = align(base, out=tmp_path / "any", settings=settings())
    assert "twins" not in plain.info["options"]["alignment"]
    assert not {key for key in plain.info["options"]["alignment"]["negatives"] if key.startswith("twin")}
    assert "twins" not in _last_row(plain)
    with pytest.raises(PalateError, match="was started with"):
        align(base, out=tmp_path / "out", settings=settings(**{**out, "twins": "only"}), resume=True)
    again = align(base, out=tmp_path / "out", settings=settings(**out), resume=True)
    assert again.info == run.info


def _last_row(run: Run) -> dict[str, Any]:
    row: dict[str, Any] = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])
    return row


def test_nonsense_is_refused_before_any_work(ring: Callable[..., Dataset], base: Run, tmp_path: Path) -> None:
    def refused(message: str, **negatives: Any) -> None:
        with pytest.raises(PalateError, match=message):
            align(base, out=tmp_path / "no", settings={"negatives": negatives})
        assert not (tmp_path / "no").exists()

    refused("twins is 'out' without a twin_source", twins="out")
    refused("twin_source does nothing without twins", twin_source="lexical")
    refused("twin_cosine does nothing without twins", twin_cosine=0.3)
    refused(r"has no features named 'lexicl'. Did you mean 'lexical'", twins="out", twin_source="lexicl")
    refused(r"has no features named 'text'. .*encode .*--text", twins="only", twin_source="text")
    refused("twin_cosine", twins="only", twin_source="lexical", twin_cosine=0)
    bare = ring(items=ITEMS, longest=18)
    with pytest.raises(PalateError, match="by text need a feature store, and the dataset has no folder"):
        align(
            train(bare, model="sasrec", out=tmp_path / "bare", settings=SETTINGS),
            out=tmp_path / "no",
            dataset=bare,
            settings={"negatives": {"twins": "out", "twin_source": "text"}},
        )


def test_a_comparison_knows_what_twins_are_made_of(data: Dataset, folder: Path) -> None:
    read = RecipeWords(folder, data)
    near = {"name": "top-k", "twins": "out", "twin_source": "lexical"}
    given = read("align", {"objective": "dpo", "negatives": near, "pool-k": 5}, "arm")
    assert given.words.count("--set") == 2
    made_from = twin_origin(NegativesConfig(twins="out", twin_source="lexical"), data, folder)
    assert given.decides["twins"] == made_from["twins"]
    plain = read("align", {"objective": "dpo", "negatives": "top-k", "pool-k": 5}, "arm")
    assert "twins" not in plain.decides
    assert "twins" not in plain.decides["negatives"]
    with pytest.raises(PalateError, match=r"arm: .* has no features named 'lexicl'"):
        read("align", {"objective": "dpo", "negatives": {**near, "twin_source": "lexicl"}, "pool-k": 5}, "arm")
