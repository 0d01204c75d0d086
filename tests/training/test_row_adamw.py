"""AdamW by rows equals AdamW on the whole table, and touches the rows of a step only."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.objectives.sampled_softmax import SampledSoftmax, SampledSoftmaxConfig
from palate.runs.run import Run
from palate.training import item_rows, row_adamw
from palate.training.ema import WeightAverage
from palate.training.fit import train
from palate.training.row_adamw import RowAdamW, clip_sparse_norm

Ring = Callable[..., Dataset]
ROWS, WIDTH, BETAS = 40, 3, (0.9, 0.98)


def sparse_and_dense(seed: int = 0) -> tuple[nn.Embedding, nn.Embedding]:
    torch.manual_seed(seed)
    sparse = nn.Embedding(ROWS, WIDTH, sparse=True, dtype=torch.float64)
    dense = nn.Embedding(ROWS, WIDTH, dtype=torch.float64)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def loss_of(embedding: nn.Embedding, index: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
    return (embedding(index) - goal).pow(2).sum()


@pytest.mark.parametrize("most_steps", [8192, 7])
@pytest.mark.parametrize(("decay", "average"), [(0.0, 0.0), (0.1, 0.0), (0.1, 0.9)])
def test_it_is_adamw_on_the_whole_table(
    decay: float, average: float, most_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_adamw, "_MOST_STEPS", most_steps)
    monkeypatch.setattr(row_adamw, "_BLOCK_ROWS", 16)
    sparse, dense = sparse_and_dense()
    by_rows = RowAdamW([{"params": [sparse.weight], "weight_decay": decay}], [sparse], lr=0.1, betas=BETAS)
    usual = torch.optim.AdamW([{"params": [dense.weight], "weight_decay": decay}], lr=0.1, betas=BETAS)
    averages = [WeightAverage(sparse, average, tables=by_rows.tables), WeightAverage(dense, average)]
    generator = torch.Generator().manual_seed(1)
    for step in range(60):
        index = torch.randint(0, ROWS // (1 + step % 3), (5,), generator=generator).unique()
        goal = torch.randn(len(index), WIDTH, dtype=torch.float64, generator=generator)
        for embedding, optimizer in ((sparse, by_rows), (dense, usual)):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step / 10)
            optimizer.zero_grad()
            loss_of(embedding, index, goal).backward()
            optimizer.step()
        for one, embedding in zip(averages, (sparse, dense), strict=True):
            one.update(embedding)
    by_rows.settle()
    # What is left is the second order of eps = 1e-8 beside gradients of size one.
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(averages[0].shadow["weight"], averages[1].shadow["weight"], rtol=0, atol=1e-9)


def test_gradients_of_all_rows_are_adamw_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_adamw, "_BLOCK_ROWS", 16)
    sparse, dense = sparse_and_dense()
    by_rows = RowAdamW([{"params": [sparse.weight], "weight_decay": 0.1}], [sparse], lr=0.1, betas=BETAS)
    usual = torch.optim.AdamW([{"params": [dense.weight], "weight_decay": 0.1}], lr=0.1, betas=BETAS)
    for step in range(6):
        sparse.sparse = step % 3 == 1  # some rows have waited when all are updated
        index = torch.arange(ROWS) if step % 2 else torch.tensor([0, step])
        for embedding, optimizer in ((sparse, by_rows), (dense, usual)):
            optimizer.zero_grad()
            loss_of(embedding, index, torch.ones(len(index), WIDTH, dtype=torch.float64)).backward()
            optimizer.step()
    by_rows.settle()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-12)


def test_a_table_without_rows_takes_steps() -> None:
    """A worker's share of a table that has fewer rows than there are workers."""
    table = nn.Embedding.from_pretrained(torch.empty(0, WIDTH), freeze=False, sparse=True)  # type: ignore[no-untyped-call]
    optimizer = RowAdamW([{"params": [table.weight], "weight_decay": 0.1}], [table], lr=0.1, betas=BETAS)
    table.weight.grad = torch.zeros(0, WIDTH)
    optimizer.step()
    optimizer.settle()
    assert optimizer.tables[0].factors.step == 1


def test_gradients_as_small_as_eps_differ_little() -> None:
    sparse, dense = sparse_and_dense()
    start = sparse.weight.detach().clone()
    by_rows = RowAdamW([{"params": [sparse.weight], "weight_decay": 0.0}], [sparse], lr=0.1, betas=BETAS)
    usual = torch.optim.AdamW(dense.parameters(), lr=0.1, betas=BETAS, weight_decay=0.0)
    for step in range(ROWS - 1):
        index = torch.tensor([0, 1 + step])
        for embedding, optimizer in ((sparse, by_rows), (dense, usual)):
            optimizer.zero_grad()
            (1e-8 * embedding(index).sum()).backward()
            optimizer.step()
    by_rows.settle()
    moved, expected = sparse.weight - start, dense.weight - start
    torch.testing.assert_close(moved, expected, rtol=0.1, atol=0)  # the corrections for bias change fast at first
    torch.testing.assert_close(moved[20:], expected[20:], rtol=0.01, atol=0)


def test_a_step_touches_its_rows_only() -> None:
    sparse, _ = sparse_and_dense()
    optimizer = RowAdamW([{"params": [sparse.weight], "weight_decay": 0.1}], [sparse], lr=0.1, betas=BETAS)
    average = WeightAverage(sparse, 0.9, tables=optimizer.tables)
    table = optimizer.tables[0]
    kept = (sparse.weight.data, table.exp_avg, table.exp_avg_sq, table.current, average.shadow["weight"])
    for index in (torch.arange(ROWS), torch.tensor([2, 3, 5])):
        before = [one.clone() for one in kept]
        optimizer.zero_grad()
        loss_of(sparse, index, torch.ones(len(index), WIDTH, dtype=torch.float64)).backward()
        assert sparse.weight.grad is not None
        assert sparse.weight.grad.is_sparse
        optimizer.step()
        average.update(sparse)
    others = torch.ones(ROWS, dtype=torch.bool)
    others[index] = False
    for one, earlier in zip(kept, before, strict=True):
        assert torch.equal(one[others], earlier[others])
        assert not (one[index] == earlier[index]).any()


def test_clipping_counts_all_gradients() -> None:
    sparse, dense = sparse_and_dense()
    matrices = [nn.Parameter(torch.ones(2, 2, dtype=torch.float64)) for _ in range(2)]
    for embedding, matrix in zip((sparse, dense), matrices, strict=True):
        (embedding(torch.tensor([1, 2, 2])).sum() + 3 * matrix.sum()).backward()
    clip_sparse_norm([sparse.weight, matrices[0]], 0.5)
    torch.nn.utils.clip_grad_norm_([dense.weight, matrices[1]], 0.5)
    assert sparse.weight.grad is not None
    torch.testing.assert_close(sparse.weight.grad.to_dense(), dense.weight.grad)
    torch.testing.assert_close(matrices[0].grad, matrices[1].grad)


@pytest.mark.parametrize("seed", range(5))
def test_clipping_of_divided_rows_is_the_same_on_all_workers(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.rand(9, 3, generator=generator) for _ in range(4)]
    common = torch.rand(4, 3, generator=generator)
    clipped = []
    for own in rows:
        divided, shared = nn.Parameter(torch.zeros(9, 3)), nn.Parameter(torch.zeros(4, 3))
        divided.grad, shared.grad = own.clone(), common.clone()
        clip_sparse_norm(
            [divided, shared], 0.5, divided, lambda _: torch.stack([one.square().sum() for one in rows]).sum()
        )
        torch.testing.assert_close(divided.grad, own * (0.5 / torch.cat([common, *rows]).norm()))
        clipped.append(shared.grad)
    assert all(torch.equal(one, clipped[0]) for one in clipped)


def settings(rows: str, **trainer: object) -> dict[str, dict[str, Any]]:
    return {
        "ranker": {"dim": 16, "max_length": 10, "dropout": 0.1, "feature_dropout": 0.0},
        "objective": {"num_negatives": 6, "negatives": "popularity"},
        "trainer": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "tensorboard": False}
        | {"ema": 0.9, "clip_norm": 0.5, "decay_embeddings": True, "weight_decay": 0.01, "item_rows": rows}
        | trainer,
    }


def metrics(run: Run) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in ("epoch", "step", "loss", "NDCG@10")} for row in rows]


def test_training_by_rows_is_training_on_the_whole_table(ring: Ring, tmp_path: Path) -> None:
    data = ring()
    runs = [
        train(data, model="sasrec", out=tmp_path / rows, objective="sampled-softmax", settings=settings(rows))
        for rows in ("always", "never")
    ]
    for one, other in zip(*map(metrics, runs), strict=True):
        assert one == pytest.approx(other, abs=1e-4)  # single precision, and the gradients' sums in another order


def test_interrupted_it_ends_the_same(ring: Ring, tmp_path: Path) -> None:
    data, options = ring(), settings("always", checkpoint_minutes=1e-6)
    whole = train(data, model="sasrec", out=tmp_path / "whole", objective="sampled-softmax", settings=options)

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, model="sasrec", out=tmp_path / "b", objective="sampled-softmax", settings=options, on_epoch=stop)
    resumed = train(
        data, model="sasrec", out=tmp_path / "b", objective="sampled-softmax", settings=options, resume=True
    )
    assert metrics(resumed) == metrics(whole)
    weights = [(run.model_folder / "weights.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_auto_reads_large_catalogues_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.rankers.sasrec import SASRec
    from palate.training.config import TrainerConfig

    monkeypatch.setattr(item_rows, "_MANY_ITEMS", 200)
    objective = SampledSoftmax(SampledSoftmaxConfig(num_negatives=10))

    def by_rows(items: int, targets: int) -> bool:
        model = SASRec(SASRec.Config(dim=8), items, {})
        chosen = item_rows.read_by_rows(model, objective, TrainerConfig(), targets)
        assert model.items.ids.sparse is chosen
        return chosen

    assert by_rows(200, 10)
    assert not by_rows(199, 10)
    assert not by_rows(200, 20)  # a fifth of the items or more


def test_what_reads_the_whole_catalogue_is_refused(ring: Ring, tmp_path: Path) -> None:
    wanted = settings("always")
    del wanted["objective"]
    with pytest.raises(PalateError, match="CrossEntropy reads the whole catalogue"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=wanted)
    with pytest.raises(PalateError, match=r"trainer\.betas"):
        train(
            ring(),
            model="sasrec",
            out=tmp_path / "run",
            objective="sampled-softmax",
            settings=settings("always", betas=(0.9, 0.8)),
        )
    assert not (tmp_path / "run").exists()
