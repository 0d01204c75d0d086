"""Sequences read from shards: every target once, the same order for any number of workers and buffers of any size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from palate.alignment.settings import AlignmentSettings
from palate.data.dataset import Dataset
from palate.data.shards import make_shards
from palate.data.streamed import StreamedDataset
from palate.errors import PalateError
from palate.training.batches import TrainingSequences, Windows
from palate.training.fit import train
from palate.training.streams import StreamedSequences
from palate.training.validation import Validation


@pytest.fixture
def folder(ring: Callable[..., Dataset], tmp_path: Path) -> Path:
    ring(users=90, items=40, longest=20).save(tmp_path / "data")
    make_shards(tmp_path / "data", 40, size=150)
    return tmp_path / "data"


def stream(folder: Path, buffer: int = 400, seed: int = 0) -> StreamedSequences:
    shards = make_shards(folder, 40)
    assert len(shards) >= 5
    return StreamedSequences(shards, 6, 7, seed, buffer)


def pairs(steps: list[Windows]) -> Counter[tuple[int, int, int]]:
    return Counter(
        pair
        for step in steps
        if step.counted
        for pair in zip(step.inputs.values.tolist(), step.targets.tolist(), step.ages.tolist(), strict=True)
    )


def flat(steps: list[Windows]) -> list[list[int]]:
    return [step.targets.tolist() for step in steps]


def test_shards_hold_what_the_dataset_holds(folder: Path) -> None:
    whole, streamed = Dataset.load(folder), StreamedDataset.open(folder)
    assert repr(streamed) == f"StreamedDataset({whole.name}: {whole.num_items:,} items, in {folder})"
    shards = streamed.shards
    rows = [row for number in range(len(shards)) for row in shards.training(number).to_lists()]
    assert rows == whole.train_sequences().to_lists()
    assert (streamed.train_counts == whole.train_counts).all()
    assert (streamed.fingerprint, streamed.num_users) == (whole.fingerprint, whole.num_users)
    for users in (0, 13):
        some, all_of = streamed.sampled_cases("valid", users, 5), whole.sampled_cases("valid", users, 5)
        assert some.histories.to_lists() == all_of.histories.to_lists()
        assert some.targets.to_lists() == all_of.targets.to_lists()
    with pytest.raises(PalateError, match=r"all training sequences of .* would have to be in memory"):
        streamed.train_sequences()


@pytest.mark.parametrize("buffer", [1, 400, 10**6])
def test_each_target_once_per_epoch(folder: Path, buffer: int) -> None:
    data = stream(folder, buffer)
    steps = list(data.batches(1))
    assert pairs(steps) == pairs(list(TrainingSequences(Dataset.load(folder).train_sequences(), 6, 7, 0).batches(1)))
    assert [len(step.inputs) for step in steps[:-1]] == [7] * (data.num_batches(1) - 1)
    assert sum(len(step.targets) for step in steps) == data.num_targets
    assert flat(steps) == flat(list(stream(folder, buffer).batches(1)))
    assert flat(steps) != flat(list(data.batches(2)))
    assert flat(steps) != flat(list(stream(folder, buffer, seed=1).batches(1)))


def test_a_stream_resumes_anywhere_and_is_shared_by_workers(folder: Path) -> None:
    data = stream(folder)
    assert len(data.blocks(1)) > 2
    alone = list(data.batches(1))
    for skip in range(len(alone)):
        assert flat(list(stream(folder).batches(1, skip=skip))) == flat(alone[skip:])
    shares = [list(data.batches(1, share=s, shares=3)) for s in range(3)]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert pairs([whole]) == pairs(parts)


def test_a_ranker_trains_on_a_stream_and_resumes_to_the_same(folder: Path, tmp_path: Path) -> None:
    trainer = {"epochs": 3, "batch_size": 16, "device": "cpu", "stream": True, "stream_buffer": 300}
    settings = {"ranker": {"dim": 8, "max_length": 6}, "trainer": {**trainer, "learning_rate": 0.01}}
    rows = []
    data = StreamedDataset.open(folder)
    run = train(data, model="sasrec", out=tmp_path / "run", settings=settings, on_epoch=rows.append)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert run.info["dataset"]["fingerprint"] == Dataset.load(folder).fingerprint

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # a dataset that is in memory is opened again as a stream
        train(Dataset.load(folder), model="sasrec", out=tmp_path / "cut", settings=settings, on_epoch=stop)
    again = train(data, model="sasrec", out=tmp_path / "cut", settings=settings, resume=True)
    for name in ("epoch", "step", "loss", "NDCG@10"):
        assert again.info["best"][name] == run.info["best"][name]


def test_what_needs_the_whole_log_refuses_a_stream(folder: Path, tmp_path: Path, ring: Callable[..., Dataset]) -> None:
    settings = {"trainer": {"stream": True}}
    with pytest.raises(PalateError, match="neighbours hold the whole log in memory"):
        train(
            StreamedDataset.open(folder),
            model="sasrec",
            out=tmp_path / "run",
            settings=settings,
            neighbours=["co-occurrence"],
        )
    with pytest.raises(PalateError, match="Save the dataset first"):
        train(ring(), model="sasrec", out=tmp_path / "run", settings=settings)
    with pytest.raises(PalateError, match="an alignment holds all training sequences in memory"):
        AlignmentSettings.parse("dpo", "uniform", settings)
    assert not (tmp_path / "run").exists()


def test_shards_of_an_earlier_dataset_are_made_again(folder: Path, ring: Callable[..., Dataset]) -> None:
    before = make_shards(folder, 40).info
    ring(users=50, items=40, seed=1).save(folder, replace=True)
    after = StreamedDataset.open(folder).shards.info
    assert after["fingerprint"] != before["fingerprint"]
    assert Validation(StreamedDataset.open(folder), "NDCG@10", True).cases.targets.lengths.all()


def test_the_command_streams_without_loading_the_log(
    folder: Path, tmp_path: Path, palate: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "load", lambda folder: pytest.fail("loaded"))
    words = "--model gru4rec --epochs 1 --device cpu --set trainer.stream=true --set ranker.dim=8"
    code, _, errors = palate("train", folder, *words.split(), "--out", tmp_path / "run")
    assert code == 0, errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["options"]["settings"]["trainer"]["stream"]


MEMORY = """
import resource, sys
from palate.data.shards import make_shards
from palate.training.streams import StreamedSequences
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
start = peak()
shards = make_shards(sys.argv[1], 1000, size=1_000_000)
made = peak()
data = StreamedSequences(shards, 50, 256, 0, 2_000_000)
targets = sum(len(step.targets) for step in data.batches(1))
assert targets == data.num_targets
print(start, made, peak(), targets)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """32 million interactions are 128 MB of items in memory and 600 MB as the columns of a dataset."""
    import polars as pl

    rng, users, each = np.random.default_rng(0), 800_000, 40
    frame = pl.DataFrame(
        {
            "user": np.repeat(np.arange(users, dtype=np.uint32), each),
            "item": rng.integers(1, 1001, users * each, dtype=np.int32),
            "part": np.tile(np.array([0] * (each - 2) + [1, 2], np.uint8), users),
        }
    )
    frame.write_parquet(tmp_path / "interactions.parquet")
    del frame
    (tmp_path / "manifest.json").write_text('{"fingerprint": "x"}')
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    start, made, peak, targets = map(float, done.stdout.split())
    assert targets == users * (each - 3)
    assert made - start < 300
    assert peak - start < 300
