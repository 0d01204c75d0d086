"""Taking an item apart: with all it has, its vector is the model's own, however the parts are put together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from palate.bundle.append_items import part_vectors
from palate.data.sequences import Sequences
from palate.features.store import FeatureStore
from palate.rankers.fusions import FUSIONS
from palate.rankers.gru4rec import GRU4Rec
from palate.rankers.hstu import HSTU
from palate.rankers.sasrec import SASRec
from palate.rankers.sequential import SequentialRanker
from palate.serve.effects import modality_effects

ITEMS, WIDTH = 20, 6


def _store(seed: int) -> FeatureStore:
    rng = np.random.default_rng(seed)
    present = rng.random(ITEMS + 1) < 0.7
    present[[0, 1, 3]] = False, True, False
    vectors = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    return FeatureStore(Path(), {}, vectors, present, pl.DataFrame())


def _model(kind: type[SequentialRanker], **options: object) -> tuple[SequentialRanker, dict[str, FeatureStore]]:
    torch.manual_seed(0)
    config = kind.Config(dim=8, max_length=5, modalities=("id", "text", "image"), **options)
    model = kind(config, ITEMS, {"text": WIDTH, "image": WIDTH})
    stores = {"text": _store(1), "image": _store(2)}
    warm = torch.ones(ITEMS + 1, dtype=torch.bool)
    warm[5] = False
    model.set_features(stores, warm)
    with torch.no_grad():
        for parameter in model.items.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval(), stores


def _features(stores: dict[str, FeatureStore], item: int) -> dict[str, tuple[torch.Tensor, bool]]:
    return {name: (torch.from_numpy(one.vectors[item]), bool(one.present[item])) for name, one in stores.items()}


@pytest.mark.parametrize("fusion", list(FUSIONS))
@pytest.mark.parametrize("missing", ["learned", "mean", "zeros"])
@pytest.mark.parametrize("kind", [SASRec, GRU4Rec, HSTU])
def test_the_whole_is_the_models_own_vector(kind: type[SequentialRanker], fusion: str, missing: str) -> None:
    model, stores = _model(kind, fusion=fusion, missing=missing, whiten=3)
    for item in (1, 3, 5, ITEMS):
        features = _features(stores, item)
        here = {"id": bool(model.items.warm[item]), **{name: there for name, (_, there) in features.items()}}
        vectors = {name: vector for name, (vector, _) in features.items()}
        whole = part_vectors(model, item, vectors, [here])[0]
        torch.testing.assert_close(whole, model.table()[item], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_an_effect_is_what_the_score_loses(similarity: str) -> None:
    """Against a model that was told that the item has no picture."""
    model, stores = _model(SASRec, similarity=similarity)
    history, item = [2, 4, 6], 1
    effects = {
        one.modality: one.effect
        for one in modality_effects(model, Sequences.from_lists([history]), item, _features(stores, item))
    }
    with_it = float(model.score([history])[0, item])
    query = model.queries(Sequences.from_lists([history])).queries[0]
    stores["image"].present[item] = False
    model.set_features(stores, model.items.warm, keep_statistics=True)
    blind = model.table()[item]
    if similarity == "cosine":
        blind = torch.nn.functional.normalize(blind, dim=0)
    without = float(query @ blind)
    assert effects["image"] == pytest.approx(with_it - without, abs=1e-4)
    assert abs(effects["image"]) > 1e-3
