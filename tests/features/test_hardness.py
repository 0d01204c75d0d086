"""Fused similarity and hardness, against plain Python on a small catalogue."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from palate.errors import PalateError
from palate.features import similarity as similarity_module
from palate.features.hardness import Hardness
from palate.features.similarity import Similarity
from palate.features.store import FeatureStore

ITEMS = 40


def store(modality: str, width: int, lacking: tuple[int, ...] = (), seed: int = 0, items: int = ITEMS) -> FeatureStore:
    """Random vectors of very different lengths around a common direction, as embeddings have one."""
    random = np.random.default_rng(seed)
    vectors = (random.standard_normal((items + 1, width)) + 0.7) * random.uniform(0.1, 9, (items + 1, 1))
    present = np.ones(items + 1, bool)
    present[[0, *lacking]] = False
    vectors[~present] = 0
    vectors = vectors.astype(np.float16 if modality == "image" else np.float32)
    vectors.setflags(write=False)
    return FeatureStore(Path("nowhere"), {"modality": modality}, vectors, present, pl.DataFrame())


TEXT = store("text", 8, lacking=(5, 6))
IMAGE = store("image", 5, lacking=(5, 7, 8, 9), seed=1)
# Item 5 has nothing, 6 only a picture, 7 to 9 only a text.


def cosine(stores: list[FeatureStore], a: int, b: int) -> float:
    """The mean of the cosines of the modalities that both items have; nan where there is none."""
    found = []
    for one in stores:
        if one.present[a] and one.present[b]:
            x, y = ([float(v) for v in one.vectors[item]] for item in (a, b))
            dot = sum(p * q for p, q in zip(x, y, strict=True))
            found.append(dot / math.sqrt(sum(p * p for p in x) * sum(q * q for q in y)))
    return sum(found) / len(found) if found else math.nan


def drawn(rows: int = 60, width: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randint(1, ITEMS + 1, (rows,), generator=random),
        torch.randint(1, ITEMS + 1, (rows, width), generator=random),
    )


@pytest.mark.parametrize("cells", [16, 2**21], ids=["one row a block", "one block"])
@pytest.mark.parametrize("stores", [[TEXT], [IMAGE], [TEXT, IMAGE]], ids=["text", "image", "both"])
def test_similarity_is_the_mean_cosine_of_what_both_have(
    stores: list[FeatureStore], cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity_module, "_CELLS", cells)
    chosen, rejected = drawn()
    found = Similarity(stores).of(chosen, rejected)
    for p, a in enumerate(chosen.tolist()):
        for n, b in enumerate(rejected[p].tolist()):
            assert float(found[p, n]) == pytest.approx(cosine(stores, a, b), abs=1e-5, nan_ok=True)


def test_what_has_nothing_in_common_is_not_compared() -> None:
    """Never a zero vector: padding, the item without features, and a picture against a text are nan."""
    found = Similarity([TEXT, IMAGE]).of(torch.tensor([1, 5, 6]), torch.tensor([[0, 2], [1, 5], [7, 1]]))
    assert found.isnan().tolist() == [[True, False], [True, True], [True, False]]


def test_nearest_items_are_those_of_a_full_table() -> None:
    stores = [TEXT, IMAGE]
    scores, places = Similarity(stores).nearest(4)
    for item in (1, 6, 7, ITEMS):
        others = {b: cosine(stores, item, b) for b in range(1, ITEMS + 1) if b != item}
        best = sorted((b for b in others if not math.isnan(others[b])), key=lambda b: -others[b])[:4]
        assert places[item].tolist() == best
        assert scores[item].tolist() == pytest.approx([others[b] for b in best], abs=1e-5)
    for nothing in (0, 5):
        assert scores[nothing].isinf().all()
        assert not places[nothing].any()


def test_nearest_items_across_blocks() -> None:
    """More items than a block of rows or of columns holds."""
    wide = store("text", 3, lacking=(17,), seed=4, items=4700)
    scores, places = Similarity([wide]).nearest(5)
    vectors = torch.from_numpy(np.array(wide.vectors))
    units = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = torch.tensor([1, 511, 512, 513, 4095, 4096, 4097, 4700])
    table = units[rows] @ units.T
    table[:, [0, 17]] = -2
    table[torch.arange(len(rows)), rows] = -2
    best, where = table.topk(5, dim=1)
    torch.testing.assert_close(scores[rows], best, atol=1e-5, rtol=0)
    assert (places[rows] == where).float().mean() > 0.9  # ties to the last bit may fall either way
    assert not (places == 17).any()
    assert not (places[1:] == torch.arange(1, 4701).unsqueeze(1)).any()


def test_as_written_step_by_step() -> None:
    """p = softmax of the sorted cosines to K neighbours; d = ||p+ - p-||; h = sigma(d) / sigma(mean d)."""
    stores, k = [TEXT, IMAGE], 4
    chosen, rejected = drawn()
    found = Hardness.fit(stores, chosen, rejected, form="as-written", neighbours=k).of(chosen, rejected)

    def shape(item: int) -> list[float]:
        near = sorted(
            (c for b in range(1, ITEMS + 1) if b != item and (c := cosine(stores, item, b)) == c), reverse=True
        )
        total = sum(math.exp(c) for c in near[:k])
        return [math.exp(c) / total for c in near[:k]]

    distances: dict[tuple[int, int], float] = {}
    for p, a in enumerate(chosen.tolist()):
        for n, b in enumerate(rejected[p].tolist()):
            if 5 not in (a, b):
                distances[p, n] = math.dist(shape(a), shape(b))
    middle = sum(distances.values()) / len(distances)
    for p in range(len(chosen)):
        for n in range(3):
            # sigma(d) / sigma(mean d), and 1 where an item has no features
            d = distances.get((p, n), middle)
            expected = (1 + math.exp(-middle)) / (1 + math.exp(-d))
            assert float(found[p, n]) == pytest.approx(expected, abs=1e-6)
    assert len(distances) < 180  # some pairs do hold the item without features


def test_calibrated_is_the_rank_of_the_similarity() -> None:
    stores = [TEXT, IMAGE]
    chosen, rejected = drawn(rows=200)
    hardness = Hardness.fit(stores, chosen, rejected, spread=0.4)
    found, alike = hardness.of(chosen, rejected), Similarity(stores).of(chosen, rejected)
    known = alike[~alike.isnan()].tolist()
    for value, cos in zip(found.flatten().tolist(), alike.flatten().tolist(), strict=True):
        if math.isnan(cos):
            assert value == 1
        else:
            u = (sum(c < cos for c in known) + 0.5 * sum(c == cos for c in known)) / len(known)
            assert value == pytest.approx(1 + 0.4 * (2 * u - 1), abs=1e-5)
    assert float(found.mean()) == pytest.approx(1, abs=1e-6)
    assert float(found.min()) >= 0.6
    assert float(found.max()) <= 1.4


def test_calibrated_rises_between_and_beyond_what_it_was_fitted_to() -> None:
    hardness = Hardness.fit([TEXT], *drawn(rows=30))
    chosen, rejected = drawn(rows=400, seed=9)
    alike, found = Similarity([TEXT]).of(chosen, rejected).flatten(), hardness.of(chosen, rejected).flatten()
    alike, found = alike[~alike.isnan()], found[~alike.isnan()]
    order = alike.argsort()
    assert (found[order].diff() >= 0).all()
    inside = (found > found.min()) & (found < found.max())
    assert len(found[inside].unique()) > 300


def test_many_fitted_pairs_are_summed_up_by_fewer_knots() -> None:
    large = store("text", 6, seed=8, items=300)
    random = torch.Generator().manual_seed(0)
    chosen = torch.randint(1, 301, (6000,), generator=random)
    rejected = torch.randint(1, 301, (6000, 5), generator=random)
    hardness = Hardness.fit([large], chosen, rejected, spread=0.5)
    quantiles = hardness.quantiles()
    assert quantiles["mean"] == pytest.approx(1, abs=1e-4)
    assert (quantiles["p05"], quantiles["p50"], quantiles["p95"]) == pytest.approx((0.55, 1.0, 1.45), abs=2e-3)


def test_items_that_are_all_alike_have_hardness_one() -> None:
    vectors = np.ones((6, 3), np.float32)
    vectors[0] = 0
    flat = FeatureStore(Path("x"), {"modality": "text"}, vectors, np.array([False] + [True] * 5), pl.DataFrame())
    pairs = torch.tensor([1, 2]), torch.tensor([[2, 3], [4, 5]])
    assert (Hardness.fit([flat], *pairs).of(*pairs) == 1).all()
    assert (Hardness.fit([flat], *pairs, form="as-written", neighbours=3).of(*pairs) == 1).all()


@pytest.mark.parametrize("of", ["calibrated", "as-written"])
def test_shuffled_has_the_same_numbers_and_no_meaning(of: str) -> None:
    stores = [store("text", 8, seed=3)]
    chosen, rejected = drawn(rows=500)
    real = Hardness.fit(stores, chosen, rejected, form=of, neighbours=4)  # type: ignore[arg-type]
    fake = Hardness.fit(stores, chosen, rejected, form="shuffled", shuffle_of=of, neighbours=4, seed=1)  # type: ignore[arg-type]
    values, control = real.of(chosen, rejected).flatten(), fake.of(chosen, rejected).flatten()
    width = float(values.max() - values.min())
    for name in ("p05", "p50", "p95", "mean"):
        assert fake.quantiles()[name] == pytest.approx(real.quantiles()[name], abs=0.15 * width)
    assert abs(float(torch.corrcoef(torch.stack([values, control]))[0, 1])) < 0.15
    again = Hardness.fit(stores, chosen, rejected, form="shuffled", shuffle_of=of, neighbours=4, seed=1)  # type: ignore[arg-type]
    other = Hardness.fit(stores, chosen, rejected, form="shuffled", shuffle_of=of, neighbours=4, seed=2)  # type: ignore[arg-type]
    assert torch.equal(again.of(chosen, rejected).flatten(), control)
    assert not torch.equal(other.of(chosen, rejected).flatten(), control)


def test_one_needs_no_features() -> None:
    chosen, rejected = drawn()
    hardness = Hardness.fit([], chosen, rejected, form="one")
    assert (hardness.of(chosen, rejected) == 1).all()
    assert hardness.quantiles() == {"min": 1, "p05": 1, "p50": 1, "p95": 1, "max": 1, "mean": 1}


def test_only_valid_pairs_are_fitted_to() -> None:
    chosen, rejected = drawn(rows=100)
    valid = torch.zeros(100, 3, dtype=torch.bool)
    valid[:, 0] = True
    padded = rejected.masked_fill(~valid, 0)
    mine = Hardness.fit([TEXT], chosen, padded, valid=valid)
    expected = Hardness.fit([TEXT], chosen, rejected[:, :1])
    assert mine.quantiles() == expected.quantiles()
    assert torch.equal(mine.of(chosen, padded)[:, :1], expected.of(chosen, rejected[:, :1]))
    assert (mine.of(chosen, padded)[:, 1:] == 1).all()


def test_the_features_are_not_copied() -> None:
    found = Similarity([TEXT, IMAGE])
    for mine, theirs in zip(found._vectors, (TEXT, IMAGE), strict=True):
        assert mine.data_ptr() == theirs.vectors.ctypes.data


def test_mistakes_are_told_before_the_work() -> None:
    chosen, rejected = drawn()
    with pytest.raises(PalateError, match="there are none"):
        Hardness.fit([], chosen, rejected)
    with pytest.raises(PalateError, match=r"39 items have features.*below 39"):
        Hardness.fit([TEXT, IMAGE], chosen, rejected, form="as-written", neighbours=39)
    with pytest.raises(PalateError, match="number of items"):
        Hardness.fit([TEXT, store("image", 3, items=7)], chosen, rejected)
    with pytest.raises(PalateError, match="no hardness 'calibratd'"):
        Hardness.fit([TEXT], chosen, rejected, form="calibratd")  # type: ignore[arg-type]
    with pytest.raises(PalateError, match="none has features"):
        Hardness.fit([TEXT], torch.tensor([5]), torch.tensor([[1]]))
    with pytest.raises(PalateError, match="spread"):
        Hardness.fit([TEXT], chosen, rejected, spread=1.0)
