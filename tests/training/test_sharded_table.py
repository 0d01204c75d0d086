"""The rows of the id table divided among workers: what a whole table would be, in a part of its memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sharded_ranking_worker
import sharded_table_worker
import torch
from processes import start
from safetensors.numpy import load_file
from sharded_table_worker import FULL_SOFTMAX, JOB, RANKER, TRAINER, sharded_job

from palate.alignment.settings import AlignmentSettings
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.objectives.sampled_softmax import SampledSoftmax, SampledSoftmaxConfig
from palate.rankers.config import SequentialConfig
from palate.rankers.sasrec import SASRec
from palate.rankers.sharded_ids import RowShare, ShardedIds, make_id_table, sharded
from palate.runs.run import Run
from palate.runs.workers import Workers
from palate.training.config import TrainerConfig
from palate.training.fit import train
from palate.training.item_rows import read_by_rows
from palate.training.item_table import share_of_rows
from palate.training.row_checkpoint import RowCheckpoint

Ring = Callable[..., Dataset]


def check_equal(run: Run, other: Run) -> None:
    """Losses to 1e-6, metrics exactly, weights and vectors to 1e-5."""
    rows = [[json.loads(line) for line in (r.folder / "metrics.jsonl").read_text().splitlines()] for r in (run, other)]
    assert [row["NDCG@10"] for row in rows[0]] == [row["NDCG@10"] for row in rows[1]]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], rel=1e-6)
    for name in ("weights.safetensors", "items.safetensors"):
        mine, theirs = (load_file(r.model_folder / name) for r in (run, other))
        assert set(mine) == set(theirs)
        for key, one in mine.items():
            assert np.abs(one.astype(np.float64) - theirs[key]).max() <= 1e-5, key
    assert run.info["describe"] == other.info["describe"]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two workers have made: a finished run, and one that was stopped after two of three epochs."""
    folder = tmp_path_factory.mktemp("sharded")
    start(2, [sharded_table_worker.__file__, str(folder)])
    return folder


def test_two_workers_with_half_of_the_rows_each_train_what_one_would(ring: Ring, by_two: Path, tmp_path: Path) -> None:
    alone = train(ring(), out=tmp_path / "alone", **JOB)
    check_equal(alone, Run.open(by_two / "by two"))
    check_equal(train(ring(), out=tmp_path / "softmax", **FULL_SOFTMAX), Run.open(by_two / "softmax by two"))
    metrics = [json.loads((by_two / f"worker-{index}.json").read_text()) for index in (0, 1)]
    assert metrics[0] == metrics[1]
    files = sorted(file.name for file in (by_two / "by two" / "checkpoints").iterdir())
    assert files == ["last.pt", "rows-3-0-of-2.safetensors", "rows-3-1-of-2.safetensors"]
    state = torch.load(by_two / "by two" / "checkpoints" / "last.pt", weights_only=True)
    assert not [name for name in state["model"] if name.startswith("items.ids")]
    shares = [load_file(by_two / "by two" / "checkpoints" / name) for name in files[1:]]
    assert [len(share[name]) for share in shares for name in ("weight", "exp_avg", "exp_avg_sq", "average")] == (
        [16] * 4 + [15] * 4
    )


@pytest.mark.parametrize("count", [2, 3])
def test_workers_rank_and_recommend_what_one_with_the_whole_table_would(count: int) -> None:
    start(count, [sharded_ranking_worker.__file__])


def test_one_worker_resumes_what_two_have_begun(ring: Ring, by_two: Path, tmp_path: Path) -> None:
    shutil.copytree(by_two / "begun by two", tmp_path / "run")
    resumed = train(ring(), out=tmp_path / "run", resume=True, **sharded_job())
    check_equal(Run.open(by_two / "by two"), resumed)
    names = {file.name for file in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"last.pt", "rows-3-0-of-1.safetensors"}


@pytest.mark.slow
def test_three_workers_resume_what_two_have_begun(by_two: Path, tmp_path: Path) -> None:
    shutil.copytree(by_two / "begun by two", tmp_path / "run")
    start(3, [sharded_table_worker.__file__, str(tmp_path), "run"])
    check_equal(Run.open(by_two / "by two"), Run.open(tmp_path / "run"))


def test_rows_of_any_number_of_workers_are_read_by_any_other(tmp_path: Path) -> None:
    whole = {name: torch.randn(13, 3) for name in ("weight", "exp_avg", "exp_avg_sq", "average")}
    whole["current"] = torch.arange(13)
    (tmp_path / "checkpoints").mkdir()

    def checkpoint(index: int, count: int) -> RowCheckpoint:
        return RowCheckpoint(tmp_path, ShardedIds(13, 3, RowShare(index, count)))

    def state_of(rows: dict[str, torch.Tensor]) -> dict[str, Any]:
        table = {name: rows[name] for name in ("exp_avg", "exp_avg_sq", "current")}
        shadow = {"items.ids.own.weight": rows["average"], "other": torch.ones(1)}
        return {
            "model": {"items.ids.own.weight": rows["weight"], "other": torch.zeros(1)},
            "optimizer": {"state": {}, "tables": [{**table, "step": 4}]},
            "average": {"shadow": shadow, "steps": 2},
        }

    for before, after in [(2, 3), (3, 1), (1, 2), (20, 3), (2, 20)]:
        states = [
            checkpoint(index, before).write(state_of({name: one[index::before] for name, one in whole.items()}))
            for index in range(before)
        ]
        assert "items.ids.own.weight" not in states[0]["model"]
        # A later checkpoint that was not completed: the rest still names the earlier one's files.
        later = checkpoint(0, before)
        later._number = 1
        later.write(state_of({name: one[::before] + 1 for name, one in whole.items()}))
        for index in range(after):
            copy = {name: dict(one) if isinstance(one, dict) else one for name, one in states[0].items()}
            copy["average"] = {**copy["average"], "shadow": dict(copy["average"]["shadow"])}
            copy["optimizer"] = {**copy["optimizer"], "tables": [dict(copy["optimizer"]["tables"][0])]}
            found = checkpoint(index, after).read(copy)
            own = {name: one[index::after] for name, one in whole.items()}
            torch.testing.assert_close(found, state_of(own), rtol=0, atol=0)


@pytest.mark.parametrize(("rows", "width"), [(100, 16), (129, 4), (193, 1), (61, 3), (3, 2)])
def test_a_share_starts_as_the_rows_of_a_whole_table(rows: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.rankers.sharded_ids.BLOCK_ROWS", 64)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole, next_draw = make_id_table(rows, width).weight, torch.rand(2)
        for count in (1, 2, 3):
            for index in range(count):
                torch.manual_seed(3)
                with sharded(RowShare(index, count)):
                    part = make_id_table(rows, width)
                assert isinstance(part, ShardedIds)
                assert torch.equal(part.own.weight, whole[index::count])
                assert torch.equal(torch.rand(2), next_draw)


@pytest.mark.parametrize(
    ("job", "trainer", "why"),
    [
        ({"objective": "cross-entropy"}, {}, "ranker.repeat_bias changes single scores.*--objective sampled-softmax"),
        ({}, {"item_rows": "never"}, "item_rows=never reads the whole table"),
        ({}, {"precision": "fp16"}, "precision=fp16"),
        ({"warm_start": "earlier", "modalities": ("id",), "neighbours": ()}, {}, "--warm-start copies whole tables"),
    ],
)
def test_what_needs_a_whole_table_is_refused(
    job: dict[str, Any], trainer: dict[str, Any], why: str, ring: Ring, tmp_path: Path
) -> None:
    ranker = {**RANKER, "repeat_bias": "objective" in job}
    settings = {"ranker": ranker, "trainer": {**TRAINER, "item_table": "sharded", **trainer}}
    words = {"model": "sasrec", "objective": "sampled-softmax", "settings": settings, **job}
    with pytest.raises(PalateError, match=f"trainer.item_table is 'sharded', but .*{why}"):
        train(ring(), out=tmp_path / "run", **words)
    assert not (tmp_path / "run").exists()


def test_a_ranker_with_scores_of_its_own_is_refused() -> None:
    class Own(SASRec):
        def score(self, histories, candidates=None):  # type: ignore[no-untyped-def]
            return -super().score(histories, candidates)

    model = Own(SASRec.Config(dim=16, layers=1, heads=1), 30, {})
    with pytest.raises(PalateError, match="the ranker 'sasrec' scores in a way of its own"):
        read_by_rows(model, SampledSoftmax(SampledSoftmaxConfig()), TrainerConfig(item_table="sharded"), 10)


def test_items_without_ids_have_no_table_to_divide() -> None:
    config, trainer = SequentialConfig(modalities=("text",)), TrainerConfig(item_table="sharded")
    with pytest.raises(PalateError, match="no item has an id"):
        share_of_rows(config, trainer, Workers(0, 2), None)


def test_a_share_is_no_whole_table_and_alignment_refuses_it() -> None:
    with pytest.raises(PalateError, match="no worker has the whole table of ids"):
        ShardedIds(9, 2, RowShare(0, 2)).weight  # noqa: B018
    with pytest.raises(PalateError, match=r"Leave out trainer\.item_table"):
        AlignmentSettings.parse("dpo", "uniform", {"trainer": {"item_table": "sharded"}})
