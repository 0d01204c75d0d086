"""What every Recommender must satisfy. A new one is one line in FACTORIES."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
import torch
from feature_helpers import random_store
from worlds import ring_with_cold_items

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.data.sequences import NO_TIME, Sequences
from palate.errors import PalateError
from palate.evaluation.ranking import rank_targets
from palate.features.lexical import encode_lexical
from palate.rankers.registry import RANKERS
from palate.recommender import Recommender

USERS, ITEMS, COLD = 40, 25, 2


def fitted(name: str, **options: object) -> Callable[[Dataset], Recommender]:
    """A ranker with ``fit`` of its own."""

    def make(dataset: Dataset) -> Recommender:
        kind = RANKERS[name]
        recommender: Recommender = kind.fit(dataset, kind.Config(**options))
        return recommender

    return make


def neural(name: str, **options: object) -> Callable[[Dataset], Recommender]:
    """A neural ranker of ids with its first, random weights: the contract asks for no quality."""

    def make(dataset: Dataset) -> Recommender:
        kind = RANKERS[name]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = kind(kind.Config(dim=8, **options), dataset.num_items, {})
        warm = torch.from_numpy(dataset.train_counts > 0)
        warm[0] = True
        model.set_features({}, warm)
        recommender: Recommender = model.eval()
        return recommender

    return make


def timed(**options: object) -> Callable[[Dataset], Recommender]:
    """The ranker that reads times, with something at every weight: those that times go through begin with zero."""

    def make(dataset: Dataset) -> Recommender:
        model = neural("hstu", **options)(dataset)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(1)
            for name, parameter in model.named_parameters():
                if "times" in name or "calendar" in name:
                    parameter.normal_()
        return model

    return make


def blended(*names: str) -> Callable[[Dataset], Recommender]:
    """Several rankers of this table with weights set by hand."""

    def make(dataset: Dataset) -> Recommender:
        kind = RANKERS["blend"]
        parts = [FACTORIES[name](dataset) for name in names]
        config = [{"kind": part.name, "weight": 1.0 + row, "scale": 0.5 + row} for row, part in enumerate(parts)]
        recommender: Recommender = kind(parts, kind.Config(parts=config))
        return recommender

    return make


def content(**options: object) -> Callable[[Dataset], Recommender]:
    """content-knn over words that are made up for the items, in a folder of its own."""

    def make(dataset: Dataset) -> Recommender:
        kind = RANKERS["content-knn"]
        rng = np.random.default_rng(1)
        words = [" ".join(rng.choice(["red", "blue", "silk", "wool", "sock"], 2)) for _ in range(ITEMS)]
        catalogue = Catalogue(dataset.catalogue.frame.with_columns(title=pl.Series(words)))
        with TemporaryDirectory() as folder:
            shop = replace(dataset, catalogue=catalogue, folder=Path(folder))
            encode_lexical(shop, folder)
            recommender: Recommender = kind.fit(shop, kind.Config(**options))
        return recommender

    return make


def generative(**options: object) -> Callable[[Dataset], Recommender]:
    """tiger with its first, random weights and the codes of random vectors."""

    def make(dataset: Dataset) -> Recommender:
        kind = RANKERS["tiger"]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = kind(kind.Config(dim=8, heads=2, layers=1, codebook=8, **options), ITEMS, {"text": 6})
        model.set_features({"text": random_store(ITEMS, 6)}, torch.ones(ITEMS + 1, dtype=torch.bool))
        recommender: Recommender = model.eval()
        return recommender

    return make


FACTORIES: dict[str, Callable[[Dataset], Recommender]] = {
    "popularity": fitted("popularity"),
    "popularity, recent": fitted("popularity", half_life_days=0.001),
    "item-knn": fitted("item-knn", neighbours=7),
    "item-knn, orderless": fitted("item-knn", history_half_life=0.0),
    "ease": fitted("ease"),
    "ials": fitted("ials", factors=4, iterations=3),
    "content-knn": content(),
    "content-knn, with the log": content(sources="lexical,co-occurrence", weights="1,0.5", half_life=2),
    "gru4rec": neural("gru4rec"),
    "sasrec": neural("sasrec"),
    "bert4rec": neural("bert4rec"),
    "tiger": generative(),
    "sasrec, experts": neural("sasrec", ffn="moe"),
    "sasrec, two experts active": neural("sasrec", ffn="moe", experts=3, active=2),
    "hstu": timed(),
    "hstu, from the moment of asking": timed(time="query", calendar=("hour", "weekday")),
    "hstu, without times": neural("hstu", time="none"),
    "blend": blended("popularity", "item-knn", "sasrec", "gru4rec"),
    "blend, with times": blended("sasrec", "hstu"),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return ring_with_cold_items(0, USERS, ITEMS, COLD)


@pytest.fixture(scope="module", params=list(FACTORIES))
def model(request, dataset) -> Recommender:
    return FACTORIES[request.param](dataset)


@pytest.fixture
def histories(dataset) -> Sequences:
    return dataset.cases("test").histories


def test_every_builtin_ranker_is_under_contract():
    # The multimodal LLM scores given candidates only: tests/mllm/test_mllm_recommender.py holds it to what it promises.
    assert set(RANKERS) - {"mllm"} <= {name.split(",")[0] for name in FACTORIES}


def test_scores_have_the_promised_shape(model, histories):
    scores = model.score(histories)
    assert scores.dtype == torch.float32
    assert scores.shape == (len(histories), ITEMS + 1)
    assert torch.isneginf(scores[:, 0]).all()
    assert not torch.isnan(scores).any()
    assert not scores.requires_grad


def test_candidates_agree_with_the_whole_catalogue(model, histories):
    candidates = torch.randint(1, ITEMS + 1, (len(histories), 9), generator=torch.Generator().manual_seed(0))
    some = model.score(histories, candidates)
    assert some.dtype == torch.float32
    torch.testing.assert_close(some, model.score(histories).gather(1, candidates), rtol=1e-5, atol=1e-5)


def test_a_score_does_not_depend_on_the_rest_of_the_batch(model, histories):
    whole = model.score(histories)
    for row in (0, 7):
        torch.testing.assert_close(model.score(histories[row : row + 1])[0], whole[row], rtol=1e-4, atol=1e-5)


def test_lists_and_sequences_are_the_same(model, histories):
    assert torch.equal(model.score(histories.to_lists()), model.score(replace(histories, times=None, asked=None)))


def test_it_says_whether_it_reads_times(model, histories):
    scores, odd = model.score(histories), histories.lengths > 0
    slower = replace(histories, times=3 * histories.times, asked=3 * histories.asked)
    assert torch.equal(model.score(slower), scores) is not model.reads_times
    mixed = histories.only(np.ones(len(histories.values), np.bool_))
    mixed.times[: mixed.offsets[5]] = NO_TIME  # some histories of a batch have times, others have none
    mixed.asked[:5] = NO_TIME
    without = model.score(replace(histories, times=None, asked=None))
    torch.testing.assert_close(model.score(mixed)[:5], without[:5], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.score(mixed)[5:], scores[5:], rtol=1e-4, atol=1e-5)
    assert odd[:5].all()


def test_the_caller_owns_the_scores(model, histories):
    before = model.score(histories)
    model.score(histories).fill_(7.0)
    assert torch.equal(model.score(histories), before)


def test_unseen_empty_and_odd_histories_are_scored(model):
    odd = [[], [ITEMS], [3, 3, 3], list(range(1, ITEMS + 1)) * 9]  # nothing, cold, repeated, longer than any window
    scores = model.score(odd)
    assert scores.shape == (4, ITEMS + 1)
    assert not torch.isnan(scores).any()
    assert model.score([[], []]).shape == (2, ITEMS + 1)


def test_no_histories_give_no_scores(model):
    assert model.score([]).shape == (0, ITEMS + 1)


def test_recommend_leaves_out_what_was_seen(model, histories):
    items, scores = model.recommend(histories, 10)
    assert items.shape == scores.shape == (len(histories), 10)
    for row, seen in zip(items.tolist(), histories.to_lists(), strict=True):
        assert not set(row) & set(seen)
        real = [item for item in row if item]
        assert len(set(real)) == len(real)
    kept, _ = model.recommend(histories, ITEMS, exclude_seen=False)
    assert all(set(seen) <= set(row) for row, seen in zip(kept.tolist(), histories.to_lists(), strict=True))


def test_recommend_is_sorted_and_ties_go_to_the_lower_index(model, histories):
    items, scores = model.recommend(histories, ITEMS, exclude_seen=False)
    assert (scores.diff(dim=1) <= 0).all()
    tied = scores.diff(dim=1) == 0
    assert (items.diff(dim=1)[tied] > 0).all()
    again, _ = model.recommend(histories, ITEMS, exclude_seen=False)
    assert torch.equal(items, again)


def test_recommend_respects_what_is_allowed(model, histories):
    allowed = torch.zeros(ITEMS + 1, dtype=torch.bool)
    allowed[[2, 5, ITEMS]] = True
    items, scores = model.recommend(histories, 5, exclude_seen=False, allowed=allowed)
    assert set(items.unique().tolist()) == {0, 2, 5, ITEMS}
    assert torch.isneginf(scores[items == 0]).all()


def test_recommend_refuses_to_recommend_nothing(model, histories):
    with pytest.raises(PalateError, match="k is 0"):
        model.recommend(histories, 0)


def test_saving_keeps_the_scores_and_runs_no_code(model, histories, tmp_path):
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    loaded = type(model).load(tmp_path)
    assert loaded.num_items == ITEMS
    torch.testing.assert_close(loaded.score(histories), model.score(histories), rtol=0, atol=0)
    again = tmp_path / "again"
    again.mkdir()
    loaded.save(again)
    assert json.loads((again / "config.json").read_text()) == json.loads((tmp_path / "config.json").read_text())


def test_a_damaged_folder_is_a_clear_error(model, tmp_path):
    model.save(tmp_path)
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(PalateError, match=r"damaged|holds no"):
        type(model).load(tmp_path)


def test_options_round_trip(model):
    config = model.config
    assert type(config).parse(config.model_dump(mode="json"), where="here") == config
    with pytest.raises(PalateError, match="unknown option 'no_such_option'"):
        type(config).parse({"no_such_option": 1}, where="here")


def test_it_says_what_it_is(model):
    facts = model.describe()
    assert facts["name"] == model.name == type(model).name
    assert facts["num_items"] == ITEMS
    json.dumps(facts)


@pytest.mark.parametrize("name", [name for name, make in FACTORIES.items() if "fitted" in make.__qualname__])
def test_a_second_fit_refits(name, histories):
    first, other, again = (FACTORIES[name](ring_with_cold_items(seed, USERS, ITEMS, COLD)) for seed in (0, 1, 0))
    assert not torch.equal(first.score(histories), other.score(histories))
    assert torch.equal(first.score(histories), again.score(histories))


def test_it_can_be_evaluated(model, dataset):
    ranks = rank_targets(model, dataset.cases("test"), exclude_seen=True, batch_size=16)
    assert len(ranks) == USERS
    assert (ranks.values <= ranks.num_candidates).all()


def test_contract_modules_import():
    for target in RANKERS._builtin.values():
        assert hasattr(import_module(target.partition(":")[0]), target.partition(":")[2])
