"""What each worker does in the tests of a sharded id table: ``python sharded_table_worker.py FOLDER [RUN]``.

Two workers compare a step with a whole table, and train two runs, of which they leave one unfinished. With ``RUN`` any
number of workers finishes that run instead.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import worlds
from processes import end_together
from torch import Tensor

from palate.data.sequences import Sequences
from palate.features.store import FeatureStore
from palate.objectives import Batch, Objective
from palate.objectives.cross_entropy import CrossEntropy
from palate.objectives.sampled_softmax import SampledSoftmax, SampledSoftmaxConfig
from palate.rankers import sharded_softmax
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec
from palate.rankers.sharded_ids import RowShare, ShardedIds, sharded
from palate.rankers.step import ObjectiveStep
from palate.training.config import TrainerConfig
from palate.training.fit import train
from palate.training.item_rows import read_by_rows

ITEMS, WIDTH = 60, 9
HISTORIES = [[1, 2, 3], [7], [5, 6, 8, 2], [9, 58, 2]]
TARGETS = [[2, 3, 9], [1], [6, 8, 2, 11], [55, 2, 1]]
RANKER = {"dim": 16, "max_length": 10, "dropout": 0.0}
TRAINER = {"epochs": 3, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "tensorboard": False}
# Whatever has a part for the rows of the table: the norm, the average, decay.
TRAINER |= {"clip_norm": 1.0, "ema": 0.9, "weight_decay": 0.01, "decay_embeddings": True}
JOB: dict[str, Any] = {
    "model": "gru4rec",
    "objective": "sampled-softmax",
    "settings": {"ranker": RANKER, "trainer": TRAINER, "objective": {"negatives": "in-batch"}},
}


FULL_SOFTMAX: dict[str, Any] = {"model": "gru4rec", "settings": {"ranker": RANKER, "trainer": {**TRAINER, "epochs": 2}}}


def sharded_job(job: dict[str, Any] = JOB) -> dict[str, Any]:
    settings = job["settings"]
    return {**job, "settings": {**settings, "trainer": {**settings["trainer"], "item_table": "sharded"}}}


def stop(row: dict[str, Any]) -> None:
    if row["epoch"] == 2:
        raise KeyboardInterrupt


def build(share: RowShare | None) -> SASRec:
    """A ranker of ids and texts, some of whose items are cold or have no text."""
    rng = np.random.default_rng(0)
    present = rng.random(ITEMS + 1) < 0.7
    texts = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
    warm = torch.arange(ITEMS + 1) < ITEMS - 4
    torch.manual_seed(0)
    with sharded(share):
        model = SASRec(SASRec.Config(dim=16, max_length=6, modalities=("id", "text"), dropout=0.0), ITEMS, {"text": 9})
    model.set_features({"text": FeatureStore(Path(), {}, texts, present, None)}, warm)  # type: ignore[arg-type]
    return model.train()


def joined(lists: list[list[int]]) -> Tensor:
    return torch.tensor([item for one in lists for item in one])


def gather(values: Tensor) -> Tensor:
    """The 1-d tensors of both workers, joined."""
    parts: list[Any] = [None, None]
    dist.all_gather_object(parts, values)
    return torch.cat(parts)


def check_equal_to_dense(index: int, objective: Objective) -> None:
    """Scores, loss and gradients of a step of which each worker has two of the four histories."""
    step = ObjectiveStep(objective, rows=isinstance(objective, SampledSoftmax))
    batch = Batch(joined(TARGETS), torch.arange(1, ITEMS - 4), torch.ones(ITEMS + 1))
    dense, packed = build(None), PackedBatch.of(Sequences.from_lists(HISTORIES), 6)
    expected = step(dense, packed, batch, np.arange(11), 0)
    expected.value.backward()
    model = build(RowShare(index, 2))
    assert isinstance(model.items.ids, ShardedIds)
    assert read_by_rows(model, objective, TrainerConfig(item_table="sharded"), 11)
    assert model.items.ids.own.weight.shape == (len(range(index, ITEMS + 1, 2)), 16)
    assert model.describe() == dense.describe()
    mine = slice(2 * index, 2 * index + 2)
    packed, targets = PackedBatch.of(Sequences.from_lists(HISTORIES[mine]), 6), joined(TARGETS[mine])
    read = torch.cat([packed.items, targets]).unique()
    with torch.no_grad():
        scores, whole = model(packed, index=read).at(targets), dense(packed, index=read).at(targets)
    torch.testing.assert_close(scores, whole, rtol=0, atol=1e-6)
    batch = replace(batch, targets=targets, share=len(targets) * 2 / 11, gather=gather)
    loss = model.training_step(objective, True)(model, packed, batch, np.arange(len(targets)), 0)
    assert loss is not None
    loss.value.backward()
    values = gather(loss.value.detach().reshape(1))
    torch.testing.assert_close(values.mean(), expected.value.detach(), rtol=0, atol=1e-6)
    of_dense = {name: one.grad for name, one in dense.named_parameters()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        if name == "items.ids.own.weight":
            assert gradient.is_sparse is isinstance(objective, SampledSoftmax)
            rows = of_dense["items.ids.weight"]
            assert rows is not None
            own = gradient.to_dense() if gradient.is_sparse else gradient
            torch.testing.assert_close(own, rows[index::2], rtol=0, atol=1e-6)
            continue
        dist.all_reduce(gradient)
        torch.testing.assert_close(gradient / 2, of_dense[name], rtol=0, atol=1e-6)


def main() -> None:
    folder, index = Path(sys.argv[1]), int(os.environ["RANK"])
    torch.set_num_threads(1)
    if len(sys.argv) > 2:
        train(worlds.ring(), out=folder / sys.argv[2], resume=True, **sharded_job())
        return
    dist.init_process_group("gloo", timeout=timedelta(minutes=5))
    check_equal_to_dense(index, SampledSoftmax(SampledSoftmaxConfig(negatives="in-batch")))
    check_equal_to_dense(index, CrossEntropy())
    whole, sharded_softmax._BLOCK_ITEMS = sharded_softmax._BLOCK_ITEMS, 8
    check_equal_to_dense(index, CrossEntropy())
    sharded_softmax._BLOCK_ITEMS = whole
    data, rows = worlds.ring(), list[dict[str, Any]]()
    train(data, out=folder / "softmax by two", **sharded_job(FULL_SOFTMAX))
    train(data, out=folder / "by two", on_epoch=rows.append, **sharded_job())
    with suppress(KeyboardInterrupt):
        train(data, out=folder / "begun by two", on_epoch=stop, **sharded_job())
    (folder / f"worker-{index}.json").write_text(json.dumps([row["NDCG@10"] for row in rows]))
    end_together()


if __name__ == "__main__":
    main()
