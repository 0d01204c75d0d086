"""Packing, encoders and item vectors of the neural rankers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.gru4rec import GRU4Rec
from palate.rankers.items import ItemEncoder, Modality
from palate.rankers.layers import ByteDropout, CausalAttention
from palate.rankers.packing import Grid, OneSequence, PackedBatch
from palate.rankers.sasrec import SASRec
from palate.rankers.sequential import SequentialRanker

HISTORIES = [[3, 1, 2], [5], [], [7, 8, 9, 1, 2, 3, 4, 5], [2, 2]]
VARIANTS = {
    "sasrec": (SASRec, {}),
    "sasrec-post": (SASRec, {"norm": "post", "input_norm": True, "positions": "first", "activation": "relu"}),
    "sasrec-ligr": (SASRec, {"block": "ligr", "positions": "none", "scale_inputs": True}),
    "sasrec-cosine": (SASRec, {"similarity": "cosine", "temperature": 0.1}),
    "sasrec-repeat": (SASRec, {"repeat_bias": True, "positions": "first"}),
    "sasrec-moe": (SASRec, {"ffn": "moe", "experts": 3, "active": 2}),
    "gru4rec": (GRU4Rec, {"layers": 2}),
}


def build(variant: str, **more: object) -> SequentialRanker:
    kind, options = VARIANTS[variant]
    torch.manual_seed(0)
    model = kind(kind.Config.parse({"dim": 8, "max_length": 6, **options, **more}, where="test"), 9, {})
    nn.init.normal_(model.items.ids.weight)
    if model.repeat is not None:
        nn.init.normal_(model.repeat, std=0.3)
    return model.eval()


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_grid_gives_every_token_a_cell_and_keeps_sequences_apart(lengths: list[int]) -> None:
    grid = Grid.pack(np.array(lengths), 12, torch.device("cpu"))
    cells = grid.cells.tolist()
    assert len(set(cells)) == len(cells) == sum(lengths)
    assert torch.equal(grid.tokens[grid.cells], torch.arange(len(cells)))
    owner = np.repeat(np.arange(len(lengths)), lengths)
    mask = grid.mask[:, 0]
    for token, cell in enumerate(cells):
        row, column = divmod(cell, grid.width)
        seen = {int(c) + row * grid.width for c in torch.nonzero(mask[row, column])}
        assert seen == {cells[t] for t in range(token + 1) if owner[t] == owner[token]}


def test_packed_attention_equals_one_sequence_at_a_time() -> None:
    torch.manual_seed(0)
    attention = CausalAttention(8, 2, 0.0).eval()
    lengths = np.array([3, 1, 6, 2, 5])
    x = torch.randn(int(lengths.sum()), 8)
    packed = attention(x, Grid.pack(lengths, 6, torch.device("cpu")))
    start = 0
    for length in lengths:
        alone = attention(x[start : start + length], Grid.pack(np.array([length]), 6, torch.device("cpu")))
        torch.testing.assert_close(packed[start : start + length], alone)
        start += length


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_score_depends_on_its_own_history_only(variant: str) -> None:
    model = build(variant)
    together = model.score(HISTORIES)
    for row, history in enumerate(HISTORIES):
        torch.testing.assert_close(together[row], model.score([history])[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_training_positions_see_the_past_only(variant: str) -> None:
    model = build(variant)
    a = PackedBatch.of(Sequences.from_lists([[1, 2, 3, 4]]), 6)
    b = PackedBatch.of(Sequences.from_lists([[1, 2, 9, 7]]), 6)
    with torch.no_grad():
        first, second = model(a).queries, model(b).queries
    torch.testing.assert_close(first[:2], second[:2])
    assert not torch.allclose(first[2], second[2])


@pytest.mark.parametrize("variant", ["sasrec-post", "sasrec-ligr", "gru4rec"])
def test_training_query_equals_serving_query(variant: str) -> None:
    """Where positions do not depend on the end, each training position is what serving would compute there."""
    model = build(variant)
    batch = PackedBatch.of(Sequences.from_lists([[4, 2, 7, 1]]), 6)
    with torch.no_grad():
        queries = model(batch).queries
    for t in range(4):
        served = model.queries(Sequences.from_lists([[4, 2, 7, 1][: t + 1]])).queries[0]
        torch.testing.assert_close(queries[t], served, atol=1e-5, rtol=1e-4)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=8), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_pasts_name_each_item_once_with_its_newest_lag(histories: list[list[int]]) -> None:
    batch = PackedBatch.of(Sequences.from_lists(histories), 8)
    found = {(r, i): lag for r, i, lag in zip(*(x.tolist() for x in batch.pasts()), strict=True)}
    expected, row = {}, 0
    for history in histories:
        for end in range(len(history)):
            for place in range(end + 1):
                expected[row, history[place]] = end - place
            row += 1
    assert found == expected
    assert (batch.pasts()[0].diff() >= 0).all()
    whole = {(r, i): lag for r, i, lag in zip(*(x.tolist() for x in batch.whole_pasts()), strict=True)}
    ends = np.cumsum([len(h) for h in histories]) - 1
    assert whole == {(s, i): lag for s, end in enumerate(ends) for (r, i), lag in expected.items() if r == end}


@pytest.mark.parametrize("history", [[], [4], [1, 2, 1, 3], [5, 5, 1, 2, 3, 4, 1, 2, 6]])
def test_one_sequence_is_the_batch_that_packing_makes_of_it(history: list[int]) -> None:
    one = OneSequence.of_newest(Sequences.from_lists([history]), 6, torch.device("cpu"))
    packed = PackedBatch.of(Sequences.from_lists([history]), 6)
    for name in ("items", "last", "positions", "positions_from_end"):
        torch.testing.assert_close(getattr(one, name), getattr(packed, name), rtol=0, atol=0)
    assert one.lengths.tolist() == packed.lengths.tolist()
    rows, items, lags = one.whole_pasts()
    assert not rows.any()
    assert dict(zip(items.tolist(), lags.tolist(), strict=True)) == dict(
        zip(*(part.tolist() for part in packed.whole_pasts()[1:]), strict=True)
    )
    attention, x = CausalAttention(8, 2, 0.0).eval(), torch.randn(len(one.items), 8)
    torch.testing.assert_close(attention(x, one.grid), attention(x, packed.grid))


def test_repeat_bias_moves_the_items_of_the_history_only() -> None:
    model = build("sasrec-repeat")
    biased = model.score([[3, 1, 2]])
    lags, model.repeat = model.repeat.detach(), None  # type: ignore[union-attr]
    plain = model.score([[3, 1, 2]])
    moved = biased - plain
    torch.testing.assert_close(moved[0, [2, 1, 3]], 10 * lags[:3], atol=1e-4, rtol=1e-4)
    assert not moved[0, 4:].any()


def test_only_the_newest_items_are_read() -> None:
    model = build("sasrec")
    long = [9, 9, 9, 1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(model.score([long]), model.score([long[-6:]]))


def features(present: list[bool]) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(len(present), 5), torch.tensor(present)


@pytest.mark.parametrize("missing", ["learned", "mean", "zeros"])
def test_missing_features_follow_the_policy(missing: str) -> None:
    vectors, present = features([False, True, False, True, True])
    vectors[2] = 1e6  # whatever lies in a row that is not present must not matter
    modality = Modality(5, 4, 3, missing, 0.0)
    modality.fill(vectors, present, torch.ones(5, dtype=torch.bool))
    out = modality()
    assert torch.isfinite(out).all()
    if missing == "zeros":
        assert not out[2].any()
    if missing == "mean":
        torch.testing.assert_close(out[2], modality.project.bias)
    if missing == "learned":
        torch.testing.assert_close(out[2], modality.absent)
    assert not torch.equal(out[1], out[3])


def test_whitened_features_are_uncorrelated_and_serve_new_items() -> None:
    torch.manual_seed(0)
    mixed = torch.randn(400, 3) @ torch.randn(3, 12) + 7  # rank 3 in width 12
    present = torch.ones(400, dtype=torch.bool)
    modality = Modality(12, 399, 4, "zeros", whiten=5)
    modality.fill(mixed, present, present)
    spread = modality.vectors.T @ modality.vectors / 399
    torch.testing.assert_close(spread[:3, :3], torch.eye(3), atol=1e-3, rtol=0)
    assert spread[3:, 3:].abs().max() < 0.1
    torch.testing.assert_close(modality.standardise(mixed[5:7]), modality.vectors[5:7])


def test_cold_items_share_one_id_vector_that_id_dropout_trains() -> None:
    encoder = ItemEncoder(4, 3, ("id",), {}, id_dropout=0.5)
    encoder.warm = torch.tensor([True, True, True, False, False])
    encoder.eval()
    table = encoder()
    torch.testing.assert_close(table[3], table[4])
    torch.testing.assert_close(table[3], encoder.unknown)
    encoder.train()
    torch.manual_seed(0)
    encoder()[1:3].sum().backward()
    assert encoder.unknown.grad is not None
    encoder.unknown.grad = None
    for _ in range(20):
        encoder()[1:3].sum().backward()
    assert encoder.unknown.grad.abs().sum() > 0


@pytest.mark.parametrize("fusion", ["sum", "gate", "concat", "late"])
def test_a_model_answers_without_its_features(fusion: str, tmp_path: Path) -> None:
    class Store:
        vectors = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)
        present = np.array([False, *[True] * 7, False, True])

    config = SASRec.Config.parse(
        {"dim": 8, "max_length": 6, "modalities": ("id", "text"), "fusion": fusion}, where="test"
    )
    model = SASRec(config, 9, {"text": 5}).eval()
    with pytest.raises(PalateError, match="no features for the modality 'text'"):
        model.set_features({}, torch.ones(10, dtype=torch.bool))
    model.set_features({"text": Store()}, torch.ones(10, dtype=torch.bool))  # type: ignore[dict-item]
    before = model.score(HISTORIES)
    model.save(tmp_path)
    assert not any("vectors" in name for name in model.state_dict())
    torch.testing.assert_close(SASRec.load(tmp_path).score(HISTORIES), before)


def test_scoring_in_the_middle_of_training_leaves_the_mode_and_sees_new_weights() -> None:
    model = build("sasrec", dropout=0.5).train()
    before = model.score(HISTORIES)
    assert model.training
    torch.testing.assert_close(before, model.score(HISTORIES))
    with torch.no_grad():
        model.items.ids.weight.add_(torch.randn_like(model.items.ids.weight))
    model.train()
    assert not torch.allclose(before[:, 1:], model.score(HISTORIES)[:, 1:])


def test_byte_dropout_keeps_the_expectation_and_is_seeded() -> None:
    dropout = ByteDropout(0.3)
    torch.manual_seed(0)
    x = torch.ones(200_003)
    y = dropout(x)
    assert float((y == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)
    torch.manual_seed(0)
    assert torch.equal(y, dropout(x))
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("p", [0.001, 0.999])
def test_byte_dropout_is_neither_nothing_nor_everything(p: float) -> None:
    torch.manual_seed(0)
    kept = ByteDropout(p)(torch.ones(200_003)) > 0
    assert 0 < float(kept.float().mean()) < 1


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(PalateError, match="do not divide"):
        SASRec(SASRec.Config(dim=10, heads=3), 5, {})
