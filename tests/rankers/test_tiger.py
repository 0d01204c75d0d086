"""TIGER: its probabilities, its search, that it learns from content, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from feature_helpers import random_store, store_of
from worlds import ring

from palate.alignment.align import align
from palate.bundle.append_items import check_can_append
from palate.bundle.export import check_exportable
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.packing import PackedBatch
from palate.rankers.registry import load_recommender
from palate.rankers.tiger.config import TIGERConfig
from palate.rankers.tiger.ranker import TIGER
from palate.rankers.tiger.trie import Trie
from palate.runs.run import Run
from palate.serve.engine import Ask, engine_of
from palate.training.attach import attach
from palate.training.fit import train
from palate.training.refit import refit

ITEMS = 60
HISTORIES = [[1, 2, 3], [7], [4, 5, 6, 7, 8, 9, 10]]
MEASURED = ("targets_per_second", "peak_memory_mb")
QUICK = {"tensorboard": False, "device": "cpu"}


def model(**options: object) -> TIGER:
    """Weights large enough that the probabilities differ; 60 of the 5 * 5 * 3 * 2 possible ids."""
    torch.manual_seed(0)
    config = TIGERConfig(
        **{"dim": 16, "heads": 2, "layers": 2, "codebook": 5, "levels": 3, "max_length": 6, "beam": ITEMS, **options}
    )
    made = TIGER(config, ITEMS, {"text": 4})
    every = np.array(list(product(range(5), range(5), range(3), range(2))))
    chosen = np.random.default_rng(0).choice(len(every), ITEMS, replace=False)
    made.codes[1:] = torch.from_numpy(every[chosen])
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.eval()


def log_probability(made: TIGER, history: Sequence[int], item: int) -> float:
    """By the training's forward pass and the definition: a softmax over the codes that continue the prefix."""
    batch = PackedBatch.of(Sequences.from_lists([history]), made.config.max_length)
    longer = batch.followed_by(torch.tensor([item]))
    with torch.no_grad():
        states = made.decoder(made.codes[longer.items], longer)[-1]
        total = 0.0
        for level, code in enumerate(made.codes[item]):
            logits = made.decoder.logits(states[level], level)
            siblings = made.codes[1:][(made.codes[1:, :level] == made.codes[item, :level]).all(1)][:, level].unique()
            total += float(logits[code] - logits[siblings].logsumexp(0))
    return total


def test_scores_are_log_probabilities_of_the_catalogue() -> None:
    made = model()
    scores = made.score(HISTORIES)
    torch.testing.assert_close(scores[:, 1:].exp().sum(1), torch.ones(3))
    for row, history in enumerate(HISTORIES):
        for item in (1, 5, 33, ITEMS):
            assert float(scores[row, item]) == pytest.approx(log_probability(made, history, item), abs=1e-4)


def test_training_minimises_what_the_search_computes() -> None:
    made = model()
    packed, targets = PackedBatch.of(Sequences.from_lists([[1, 2, 3]]), 6), torch.tensor([2, 3, 4])
    with torch.no_grad():
        losses = made(packed, targets)
    for row, (history, item) in enumerate([([1], 2), ([1, 2], 3), ([1, 2, 3], 4)]):
        assert float(losses[row].sum()) == pytest.approx(-log_probability(made, history, item), abs=1e-4)
    over_all = model(softmax="codebook")
    with torch.no_grad():
        assert (over_all(packed, targets) >= losses - 1e-6).all()  # with more to compete against


def test_what_nobody_took_need_not_be_a_negative() -> None:
    made, packed = model(softmax="trained"), PackedBatch.of(Sequences.from_lists([[1, 2]]), 6)
    targets = torch.tensor([2, 3])
    warm = torch.zeros(ITEMS + 1, dtype=torch.bool)
    warm[1:4] = True
    store = {"text": random_store(ITEMS, 4)}
    made.set_features(store, torch.ones(ITEMS + 1, dtype=torch.bool))
    over_all = model()
    over_all.codes = made.codes
    with torch.no_grad():
        everything = made(packed, targets)
        torch.testing.assert_close(everything, over_all(packed, targets))
        made.set_features(store, warm)
        few = made(packed, targets)
    assert (few <= everything + 1e-6).all()
    assert (few.sum(1) < everything.sum(1)).all()
    assert len(made.trie.items) == ITEMS  # the search finds all of them


def test_only_the_past_is_seen() -> None:
    made = model()
    targets = torch.tensor([2, 3, 4])
    packed = PackedBatch.of(Sequences.from_lists([[1, 2, 3]]), 6)
    with torch.no_grad():
        whole = made(packed, targets)
        other = made(PackedBatch.of(Sequences.from_lists([[1, 2, 9]]), 6), torch.tensor([2, 9, 4]))
    assert whole.shape == (3, 4)
    torch.testing.assert_close(whole[0], other[0])
    assert not torch.allclose(whole[2], other[2])


def test_batches_of_windows_are_those_of_each_window() -> None:
    made = model()
    rows = [[1, 2, 3], [7], [4, 5, 6, 7, 8, 9]]
    targets = torch.tensor([2, 3, 4, 8, 5, 6, 7, 8, 9, 10])
    with torch.no_grad():
        whole = made(PackedBatch.of(Sequences.from_lists(rows), 6), targets)
        parts = [
            made(PackedBatch.of(Sequences.from_lists([row]), 6), part)
            for row, part in zip(rows, targets.split([3, 1, 6]), strict=True)
        ]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_a_narrow_beam_is_exact_for_what_it_finds_and_the_rest_comes_after() -> None:
    exact = model().score(HISTORIES)
    narrow = model(beam=3)
    scores = narrow.score(HISTORIES)
    for row in range(len(HISTORIES)):
        best = scores[row, 1:].topk(3)
        found = best.indices + 1
        torch.testing.assert_close(best.values, exact[row, found])
        rest = torch.ones(ITEMS + 1, dtype=torch.bool)
        rest[found] = rest[0] = False
        assert (scores[row, rest] < best.values[-1]).all()
    candidates = torch.arange(1, ITEMS + 1).expand(3, -1)
    torch.testing.assert_close(narrow.score(HISTORIES, candidates), exact[:, 1:])  # candidates need no beam


def test_items_below_a_prefix_that_was_not_followed_are_tied() -> None:
    made = model(beam=1)
    scores = made.score(HISTORIES[:1])[0]
    found = int(scores.argmax())
    others = made.codes[:, 0] != made.codes[found, 0]
    others[0] = False
    for code in made.codes[others, 0].unique():
        below = scores[(made.codes[:, 0] == code) & others]
        assert (below == below[0]).all()


def test_the_search_looks_for_allowed_items_only() -> None:
    made = model(beam=1)
    scores = model().score(HISTORIES)
    worst = scores[:, 1:].sum(0).argsort()[:4] + 1
    allowed = torch.zeros(ITEMS + 1, dtype=torch.bool)
    allowed[worst] = True
    items, values = made.recommend(HISTORIES, 4, exclude_seen=False, allowed=allowed)
    assert {*items.flatten().tolist()} == {*worst.tolist()}
    torch.testing.assert_close(values, scores.gather(1, items))


def test_a_service_searches_what_a_filter_allows() -> None:
    made = model(beam=1)
    scores = model().score(HISTORIES[:1])
    allowed = torch.zeros(ITEMS + 1, dtype=torch.bool)
    allowed[scores[0, 1:].argsort()[:5] + 1] = True
    banned = int(allowed.nonzero()[0])
    found = engine_of(made).find([Ask(HISTORIES[0], 4, banned=np.array([banned]), allowed=allowed.numpy())])[0]
    expected = scores[0].masked_fill(~allowed, -torch.inf)
    expected[banned] = -torch.inf
    assert found.items == expected.topk(4).indices.tolist()
    assert found.scores == pytest.approx(expected.topk(4).values.tolist(), abs=1e-4)


def test_where_nothing_is_allowed_nothing_is_found() -> None:
    made, nothing = model(), torch.zeros(ITEMS + 1, dtype=torch.bool)
    items, values = made.recommend([*HISTORIES, []], 3, allowed=nothing)
    assert not items.any()
    assert torch.isneginf(values).all()
    assert engine_of(made).find([Ask(HISTORIES[0], 3, banned=np.arange(1, ITEMS + 1))])[0].items == []


def test_faiss_is_refused_for_it() -> None:
    with pytest.raises(PalateError, match="the scores of a tiger are none"):
        engine_of(model(), approximate=True)


def test_padding_among_candidates_is_nothing() -> None:
    scores = model().score(HISTORIES, torch.tensor([[1, 0], [0, 0], [2, 2]]))
    assert torch.isneginf(scores[[0, 1, 1], [1, 0, 1]]).all()
    assert scores[2, 0] == scores[2, 1]


def test_the_tree_holds_every_item_once() -> None:
    codes = model().codes
    trie = Trie.of(codes)
    assert sorted(trie.items.tolist()) == list(range(1, ITEMS + 1))
    assert torch.equal(trie.items[trie.leaf[1:]], torch.arange(1, ITEMS + 1))
    for depth, level in enumerate(trie.levels):
        assert torch.equal(level.codes[level.of_leaf], codes[trie.items, depth])
        assert torch.equal(torch.bincount(level.of_leaf), level.leaves)
        if depth + 1 < len(trie.levels):
            below = trie.levels[depth + 1]
            parents = torch.arange(len(level.codes)).repeat_interleave(torch.diff(level.first))
            assert torch.equal(parents[below.of_leaf], level.of_leaf)


def test_it_learns_a_walk_round_a_ring_and_ranks_what_nobody_took(tmp_path: Path) -> None:
    """Items stand on a ring, their content says where; the last of them is in no training sequence."""
    data = ring(users=200, items=12)
    kept = data.items != 12
    lengths = np.array([kept[a:b].sum() for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)])
    parts = np.concatenate([[0] * (size - 2) + [1, 2] for size in lengths]).astype(np.uint8)
    cold = replace(data, items=data.items[kept], offsets=np.concatenate([[0], np.cumsum(lengths)]), parts=parts)
    angles = np.arange(13) * 2 * np.pi / 12
    places = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    places[0] = 0
    settings = {
        "ranker": {"dim": 32, "heads": 2, "layers": 1, "dropout": 0.0, "codebook": 12, "levels": 2},
        "trainer": {**QUICK, "epochs": 25, "batch_size": 16, "learning_rate": 0.003, "patience": 25},
    }
    run = train(
        cold, model="tiger", out=tmp_path / "run", modalities=("text",), features={"text": store_of(places)},
        settings=settings,
    )  # fmt: skip
    assert run.info["best"]["NDCG@10"] > 0.75
    assert run.info["describe"]["codes"]["used"][0] > 1
    loaded = load_recommender(run)
    again = load_recommender(run).score([[3, 4, 5]])
    assert torch.equal(loaded.score([[3, 4, 5]]), again)
    row = run.folder / "metrics.jsonl"
    assert '"code_3"' in row.read_text()


def test_a_resumed_training_ends_with_the_same_numbers(tmp_path: Path) -> None:
    data, store = ring(users=60, items=12), {"text": random_store(12, 4)}
    settings = {
        "ranker": {"dim": 8, "heads": 2, "layers": 1, "codebook": 4, "levels": 2},
        "trainer": {**QUICK, "epochs": 3, "batch_size": 16, "ema": 0.9},
    }

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    def start(name: str, **options: object) -> Run:
        call = {"model": "tiger", "out": tmp_path / name, "modalities": ("text",), "features": store}
        return train(data, settings=settings, **call, **options)

    whole = start("whole")
    with pytest.raises(KeyboardInterrupt):
        start("resumed", on_epoch=stop)
    resumed = start("resumed", resume=True)
    best, again = ({k: v for k, v in run.info["best"].items() if k not in MEASURED} for run in (whole, resumed))
    assert best == again


def test_what_it_has_no_use_for_is_refused(tmp_path: Path) -> None:
    data, store = ring(users=30, items=12), {"text": random_store(12, 4)}
    settings = {"ranker": {"dim": 8, "heads": 2, "layers": 1, "codebook": 4}, "trainer": {**QUICK, "epochs": 1}}

    def start(name: str, **options: object) -> Run:
        call = {"modalities": ("text",), "features": store, "settings": settings, **options}
        return train(data, model="tiger", out=tmp_path / name, **call)

    refused: list[tuple[dict[str, object], str]] = [
        ({"modalities": ("id", "text")}, "'id' is no content"),
        ({"features": {}}, "no features for the modality 'text'"),
        ({"objective": "bpr"}, "takes no other objective"),
        ({"neighbours": ("co-occurrence",)}, "neighbours add to the scores of all items"),
        ({"missing": "zeros"}, "puts the mean in place"),
        ({"settings": {**settings, "trainer": {**QUICK, "item_rows": "always"}}}, "has no table of items"),
        ({"settings": {**settings, "trainer": {**QUICK, "item_table": "sharded"}}}, "has no table of items"),
        ({"settings": {"ranker": {"heads": 3}}}, "3 heads do not divide dim 64"),
        ({"settings": {"ranker": {"codes_seed": 2**32}}}, "'codes_seed'"),
        ({"settings": {"ranker": {"codebook": 10**12}}}, "ranker.codebook=1000000000000"),
        ({"warm_start": tmp_path / "run"}, "makes its codes anew"),
    ]
    for number, (options, message) in enumerate(refused):
        with pytest.raises(PalateError, match=message):
            start(f"refused-{number}", **options)
        assert not (tmp_path / f"refused-{number}").exists()
    run = start("run")
    assert refit(run, data, out=tmp_path / "all", features=store).info["finished"]
    with pytest.raises(PalateError, match="writes codes and does not compare items"):
        align(run, out=tmp_path / "aligned", dataset=data)
    with pytest.raises(PalateError, match="rankers that compare vectors"):
        attach(run, out=tmp_path / "near", neighbours=("co-occurrence",), dataset=data)
    with pytest.raises(PalateError, match="no sequence encoder"):
        check_exportable("tiger")
    with pytest.raises(PalateError, match="divides probability among the items"):
        check_can_append(load_recommender(run))
