"""BERT4Rec: what it sees, what is hidden from it, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from worlds import ring

from palate.alignment.align import align
from palate.bundle.export import check_exportable
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.bert4rec import BERT4Rec, BERT4RecConfig
from palate.rankers.cloze import MaskedBatch, hidden_items
from palate.rankers.packing import PackedBatch
from palate.training.fit import train

ITEMS = 12
QUICK = {"tensorboard": False, "device": "cpu"}


def model(**options: float) -> BERT4Rec:
    torch.manual_seed(0)
    config = BERT4RecConfig(dim=8, layers=1, max_length=6, dropout=0.0, **options)
    made = BERT4Rec(config, ITEMS, {})
    warm = torch.ones(ITEMS + 1, dtype=torch.bool)
    warm[0] = False
    made.set_features({}, warm)
    return made.eval()


def test_a_hidden_item_is_seen_from_both_sides_and_not_itself() -> None:
    made = model()
    batch = MaskedBatch.extended(PackedBatch.of(Sequences.from_lists([[1, 2, 3]]), 6), last=torch.tensor([4]))
    masked = torch.tensor([False, True, False, False])

    def state(items: list[int]) -> torch.Tensor:
        there = MaskedBatch(torch.tensor(items), batch.lengths, batch.width, batch.device, masked)
        with torch.no_grad():
            hidden = made(there).queries
        assert hidden.shape == (1, 8)
        return hidden

    plain = state([1, 2, 3, 4])
    assert torch.equal(state([1, 9, 3, 4]), plain)  # hidden
    assert not torch.allclose(state([5, 2, 3, 4]), plain)  # before
    assert not torch.allclose(state([1, 2, 3, 5]), plain)  # after


def test_answers_are_those_of_a_hidden_item_behind_the_history() -> None:
    made, histories = model(), Sequences.from_lists([[1, 2, 3], [7], [4, 5, 6, 7, 8, 9, 10]])
    alone = torch.cat([made.score(histories[row : row + 1]) for row in range(3)])
    torch.testing.assert_close(made.score(histories), alone, atol=1e-5, rtol=1e-5)
    newest = made.score(Sequences.from_lists([[5, 6, 7, 8, 9, 10]]))
    torch.testing.assert_close(made.score(histories[2:]), newest, atol=1e-5, rtol=1e-5)  # max_length items are read


def test_shares_of_what_is_hidden() -> None:
    lengths = np.full(4000, 9)
    items = torch.arange(int(lengths.sum()))
    batch = MaskedBatch(items, lengths, 9, torch.device("cpu"), torch.zeros(len(items), dtype=torch.bool))
    config = BERT4RecConfig(mask_probability=0.3, last_probability=0.25)
    grid = hidden_items(batch, config, torch.Generator().manual_seed(0)).view(4000, 9)
    assert grid.any(1).all()
    last_alone = (grid.sum(1) == 1) & grid[:, -1]
    assert 0.25 < last_alone.float().mean() < 0.31  # and what chance adds
    others = grid[:, :-1].float().mean()
    assert others == pytest.approx(0.3 * 0.75, abs=0.01)


def test_it_learns_a_walk_round_a_ring(tmp_path: Path) -> None:
    data = ring(users=200, items=ITEMS)
    settings = {
        "ranker": {"dim": 32, "layers": 1, "dropout": 0.0, "norm": "pre", "mask_probability": 0.3},
        "trainer": {**QUICK, "epochs": 25, "batch_size": 16, "learning_rate": 0.003, "patience": 25},
    }
    run = train(data, model="bert4rec", out=tmp_path / "run", settings=settings)
    assert run.info["best"]["NDCG@10"] > 0.8  # before training 0.57


def test_what_needs_the_next_item_refuses_it(tmp_path: Path) -> None:
    data = ring(users=30, items=ITEMS)
    settings = {"ranker": {"dim": 8, "layers": 1}, "trainer": {**QUICK, "epochs": 1}}
    run = train(data, model="bert4rec", out=tmp_path / "run", settings=settings)
    with pytest.raises(PalateError, match=r"masked items and not on the next one.* of gru4rec, hstu.* sasrec"):
        align(run, out=tmp_path / "aligned", dataset=data)
    with pytest.raises(PalateError, match="looks both ways"):
        check_exportable("bert4rec")
    weighted = {**settings, "trainer": {**settings["trainer"], "recency_half_life": 5}}
    with pytest.raises(PalateError, match=r"recency_half_life.*gru4rec, hstu"):
        train(data, model="bert4rec", out=tmp_path / "weighted", settings=weighted)
    with pytest.raises(PalateError, match="repeat_bias"):
        train(data, model="bert4rec", out=tmp_path / "repeats", settings={"ranker": {"repeat_bias": True}})
