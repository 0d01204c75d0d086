"""Vectors of some items: the same as those rows of the whole matrix, and nothing but these rows is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from palate.data.sequences import Sequences
from palate.features.fields import Field, FieldStore, Vocabulary
from palate.features.store import FeatureStore
from palate.objectives import OBJECTIVES, Batch
from palate.rankers.feature import Missing
from palate.rankers.fusions import FUSIONS
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec
from palate.rankers.step import ObjectiveStep

ITEMS, WIDTH, COLD = 60, 9, 4
MODALITIES = ("id", "text", "fields")


def build(fusion: str = "sum", modalities: tuple[str, ...] = MODALITIES, **more: object) -> SASRec:
    """A ranker some of whose items are cold, or have no text or no field."""
    rng = np.random.default_rng(0)
    present = rng.random(ITEMS + 1) < 0.7
    texts = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    codes = rng.integers(0, 4, (ITEMS + 1, 2)).astype(np.int32)
    vocabulary = Vocabulary((Field("brand", "value", ("a", "b", "c")),), 2)
    stores = {
        "text": FeatureStore(Path(), {}, texts, present, None),  # type: ignore[arg-type]
        "fields": FieldStore(Path(), {}, codes, codes.any(axis=1), None, vocabulary),  # type: ignore[arg-type]
    }
    stores = {name: store for name, store in stores.items() if name in modalities}
    torch.manual_seed(0)
    config = SASRec.Config(dim=16, max_length=6, modalities=modalities, fusion=fusion, dropout=0.0, **more)
    model = SASRec(config, ITEMS, {name: store.width for name, store in stores.items()})
    warm = torch.ones(ITEMS + 1, dtype=torch.bool)
    warm[-COLD:] = False
    model.set_features(stores, warm)
    return model


@pytest.mark.parametrize("missing", ["learned", "mean", "zeros"])
@pytest.mark.parametrize("modalities", [MODALITIES, ("id",), ("text",), ("fields",)])
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_rows_are_rows_of_the_matrix(fusion: str, modalities: tuple[str, ...], missing: Missing) -> None:
    model = build(fusion, modalities, missing=missing)
    index = torch.tensor([1, 3, 4, 17, 40, 41, 58, 60])
    weights = torch.randn(len(index), model.items.out_dim)
    whole, some = model.items()[index], model.items.rows(index)
    torch.testing.assert_close(some, whole, rtol=0, atol=1e-6)
    expected = torch.autograd.grad((whole * weights).sum(), list(model.items.parameters()), allow_unused=True)
    got = torch.autograd.grad((some * weights).sum(), list(model.items.parameters()), allow_unused=True)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_dropout_of_features_and_ids_is_as_likely() -> None:
    model = build("late", ("id", "text"), id_dropout=0.25, feature_dropout=0.5).train()
    with torch.no_grad():
        model.items.unknown.fill_(100.0)
    item = int(model.items.feature("text").present.nonzero()[0])
    ids, texts = model.items.rows(torch.full((8000,), item)).split(16, dim=1)
    assert abs(float((ids[:, 0] > 50).float().mean()) - 0.25) < 0.02
    # Of nine features each is left out half of the time: 2^9 texts.
    assert len(texts.detach().unique(dim=0)) == 2**WIDTH


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("objective", ["sampled-softmax", "gbce", "bpr"])
def test_a_step_by_rows_has_the_loss_and_gradients_of_the_whole_table(objective: str, similarity: str) -> None:
    packed = PackedBatch.of(Sequences.from_lists([[1, 2, 3], [7], [5, 6, 8, 2]]), 6)
    targets = torch.tensor([2, 3, 9, 1, 6, 8, 2, 11])
    found = []
    for rows in (False, True):
        model = build(similarity=similarity, repeat_bias=True).train()
        assert model.repeat is not None
        with torch.no_grad():  # a bias on items of the history, some of which no negative is
            model.repeat.copy_(torch.linspace(0.01, 0.1, 6))
        kind = OBJECTIVES[objective]
        step = ObjectiveStep(kind(kind.Config(num_negatives=5)), rows)
        generator = torch.Generator().manual_seed(1)
        batch = Batch(targets, torch.arange(1, ITEMS - COLD), torch.ones(ITEMS + 1), None, generator)
        loss = step(model, packed, batch, np.arange(8), 0)
        loss.value.backward()
        found.append((loss, {name: parameter.grad for name, parameter in model.named_parameters()}))
    (whole, expected), (some, got) = found
    assert some.value.item() == pytest.approx(whole.value.item(), abs=1e-6)
    assert some.diagnostics == pytest.approx(whole.diagnostics, abs=1e-6)
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)


def test_scores_of_some_items_are_not_the_whole_matrix() -> None:
    model = build()
    scores = model(PackedBatch.of(Sequences.from_lists([[3, 1]]), 6), index=torch.tensor([1, 3, 9]))
    assert scores.items.shape == (3, 16)
    with pytest.raises(ValueError, match="3 items only"):
        scores.full()
