"""HSTU: what its blocks compute, which times a position reads, and that it learns from them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn
from worlds import clocked, ring

from palate.alignment.align import align
from palate.bundle.export import check_exportable
from palate.data.sequences import NO_TIME, Sequences
from palate.errors import PalateError
from palate.features.store import FeatureStore
from palate.rankers.hstu import HSTU, HSTUBlock, HSTUConfig, calendar_part
from palate.rankers.packing import PackedBatch
from palate.rankers.registry import load_recommender
from palate.rankers.time_bias import time_buckets
from palate.runs.run import Run
from palate.training.batches import TrainingSequences
from palate.training.fit import train

ITEMS, WIDTH = 12, 6
DAY = 86_400_000
QUICK: dict[str, Any] = {"tensorboard": False, "device": "cpu"}


def model(**options: Any) -> HSTU:
    """Random weights, with something in the tables that times go through and in the norms."""
    torch.manual_seed(0)
    made = HSTU(HSTUConfig(dim=8, max_length=WIDTH, dropout=0.0, **options), ITEMS, {})
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    warm = torch.ones(ITEMS + 1, dtype=torch.bool)
    warm[0] = False
    made.set_features({}, warm)
    return made.eval()


def histories(lengths: tuple[int, ...] = (3, 9, 1, 6, 5)) -> Sequences:
    """Random ones, with gaps from seconds to months; none is known of the last."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, ITEMS + 1, size).tolist() for size in lengths]
    times = [1_600_000_000_000 + np.cumsum(np.exp(rng.uniform(0, 23, size))).astype(np.int64) for size in lengths]
    asked = [int(row[-1]) + 5000 * number for number, row in enumerate(times[:-1])]
    return Sequences.from_lists(rows).at([*(row.tolist() for row in times[:-1]), None], [*asked, None])


def slow_block(block: HSTUBlock, x: Tensor, now: list[int], then: list[int]) -> Tensor:
    """One sequence ``[L, dim]`` through a block, a pair of events at a time."""
    length, dim = x.shape
    size = dim // block.heads
    gate, value, query, key = nn.functional.silu(block.inputs(block.norm(x))).split(dim, dim=1)
    attended = torch.zeros(length, dim)
    for i in range(length):
        for j in range(i + 1):
            bias = block.bias.places[i - j]
            if block.bias.times is not None and NO_TIME not in (now[i], then[j]):
                seconds = max(1.0, (now[i] - then[j]) / 1000)
                bias = bias + block.bias.times[min(int(math.log(seconds) / 0.301), len(block.bias.times) - 1)]
            for head in range(block.heads):
                part = slice(head * size, (head + 1) * size)
                attended[i, part] += nn.functional.silu(query[i, part] @ key[j, part] + bias) / block.n * value[j, part]
    return x + block.output(block.attended_norm(attended) * gate)


@pytest.mark.parametrize("time", ["event", "query", "none"])
def test_packed_blocks_are_the_slow_ones_of_each_sequence(time: str) -> None:
    made, rows = model(time=time, time_buckets=40), histories()
    batch = PackedBatch.of(rows, WIDTH)
    inputs = torch.randn(len(batch.items), 8)
    with torch.no_grad():
        found = made.encode(inputs, batch)
        encoder = made.encoders[0]
        for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
            tokens = slice(start, start + length)
            assert batch.times is not None
            then = batch.times[tokens].tolist()
            assert rows.asked is not None
            last = int(rows.asked[row])
            following = [*then[1:], then[-1] if last == NO_TIME else last]
            x = inputs[tokens] + encoder.position(torch.arange(WIDTH - length, WIDTH))
            for block in encoder.blocks:
                x = slow_block(block, x, following if time == "query" else then, then)
            torch.testing.assert_close(found[tokens], encoder.output_norm(x), atol=1e-4, rtol=1e-4)


def test_sequences_of_one_batch_do_not_see_each_other() -> None:
    made, rows = model(time="query", calendar=("hour", "weekday"), layers=1), histories()
    alone = torch.cat([made.score(rows[row : row + 1]) for row in range(len(rows))])
    torch.testing.assert_close(made.score(rows), alone, atol=1e-4, rtol=1e-4)
    newest = made.score(rows.last(WIDTH))
    torch.testing.assert_close(made.score(rows), newest, atol=0, rtol=0)


@pytest.mark.parametrize("time", ["event", "query"])
def test_no_later_time_is_read(time: str) -> None:
    """Position ``p`` may know when it was taken; with ``query`` when the next item is asked for; and nothing later."""
    made, calendar = model(time=time, calendar=("hour", "weekday")), 7 * DAY + 5 * 3_600_000
    assert made.config.calendar
    rows = histories((WIDTH, WIDTH, 2))[:2]
    with torch.no_grad():
        before = made(PackedBatch.of(rows, WIDTH)).queries.view(2, WIDTH, -1)
        for place in range(1, WIDTH + 1):
            assert rows.times is not None
            assert rows.asked is not None
            times, asked = rows.times.copy().reshape(2, WIDTH), rows.asked.copy()
            times[:, place:] += calendar
            asked += calendar
            changed = replace(rows, times=times.reshape(-1), asked=asked)
            after = made(PackedBatch.of(changed, WIDTH)).queries.view(2, WIDTH, -1)
            known = place if time == "event" else place - 1
            assert torch.equal(after[:, :known], before[:, :known])
            if known < WIDTH:
                assert not torch.allclose(after[:, known:], before[:, known:])


@pytest.mark.parametrize("time", ["event", "query"])
def test_only_intervals_matter(time: str) -> None:
    made, dated, rows = model(time=time), model(time=time, calendar=("weekday",)), histories()
    assert rows.times is not None
    assert rows.asked is not None
    later = 1_234_567_891
    shifted = replace(
        rows,
        times=np.where(rows.times == NO_TIME, NO_TIME, rows.times + later),
        asked=np.where(rows.asked == NO_TIME, NO_TIME, rows.asked + later),
    )
    assert torch.equal(made.score(rows), made.score(shifted))
    assert not torch.allclose(dated.score(rows), dated.score(shifted))


def test_buckets_are_logarithms_of_seconds() -> None:
    times = torch.tensor([0, 0, 999, 1350, 60_000, 3_600_000, DAY, 400 * DAY, NO_TIME])
    batch = PackedBatch.of(Sequences.from_lists([[1] * len(times)]), len(times))
    grid = batch.grid
    found = time_buckets(times, times, grid, 50)[0, : len(times), 0].tolist()
    assert found == [0, 0, 0, 0, 13, 27, 37, 49, 50]  # the last one's time is not known
    assert int(math.log(1.36) / 0.301) == 1
    assert time_buckets(times, times, grid, 20)[0, 5, 0] == 19


def test_calendar_is_that_of_utc() -> None:
    # Thursday 1 January 1970 00:00, Wednesday 31 December 1969 23:00, Monday 29 November 2021 14:36
    times = torch.tensor([0, -3_600_000, 1_638_196_560_000, NO_TIME])
    cpu = torch.device("cpu")
    assert calendar_part("hour", times, 4, cpu).tolist() == [1, 24, 15, 0]
    assert calendar_part("weekday", times, 4, cpu).tolist() == [4, 3, 1, 0]
    assert calendar_part("hour", None, 2, cpu).tolist() == [0, 0]


def test_windows_carry_the_times_of_their_items_and_of_their_last_target() -> None:
    sequences = Sequences.from_lists([[1, 2, 3, 4, 5], [6, 7, 8]]).at([range(10, 15), range(30, 33)])
    windows = next(TrainingSequences(sequences, 2, 8, 0, fixed=True).batches(1))
    when = dict(zip(sequences.values.tolist(), [*range(10, 15), *range(30, 33)], strict=True))
    assert windows.inputs.times is not None
    assert windows.inputs.times.tolist() == [when[item] for item in windows.inputs.values.tolist()]
    last = windows.targets[windows.inputs.offsets[1:] - 1]
    assert windows.inputs.asked is not None
    assert windows.inputs.asked.tolist() == [when[item] for item in last.tolist()]
    batch = PackedBatch.of(windows.inputs, 2)
    assert batch.asked_at.tolist() == [when[item] for item in windows.targets.tolist()]


@pytest.mark.parametrize(("asked", "knows", "guesses"), [(False, "event", "none"), (True, "query", "event")])
def test_it_learns_what_only_the_times_tell(asked: bool, knows: str, guesses: str, tmp_path: Path) -> None:
    data, found = clocked(asked), {}
    for time in (knows, guesses):
        settings = {
            "ranker": {"dim": 32, "dropout": 0.0, "max_length": 14, "time": time},
            "trainer": {
                **QUICK, "epochs": 15, "batch_size": 16, "learning_rate": 0.005, "exclude_seen": False,
                "metric": "HitRate@1",
            },
        }  # fmt: skip
        run = train(data, model="hstu", out=tmp_path / time, settings=settings)
        found[time] = run.info["best"]["HitRate@1"]
    assert found[knows] > 0.9
    assert found[guesses] < 0.7  # about half: either of two items


def test_interrupted_it_ends_the_same(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise Stop

    settings = {
        "ranker": {"dim": 8, "time": "query", "time_dropout": 0.4, "calendar": ("hour",)},
        "trainer": {**QUICK, "epochs": 4, "batch_size": 16, "learning_rate": 0.01},
    }
    options: dict[str, Any] = {"model": "hstu", "settings": settings}
    data = clocked(False, users=40)
    train(data, out=tmp_path / "whole", **options)
    with pytest.raises(Stop):
        train(data, out=tmp_path / "broken", on_epoch=stop, **options)
    train(data, out=tmp_path / "broken", resume=True, **options)
    cases = data.cases("test").histories
    whole, broken = (load_recommender(Run.open(tmp_path / name)).score(cases) for name in ("whole", "broken"))
    assert torch.equal(whole, broken)


def test_without_times_it_learns_from_the_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ring(users=120, items=ITEMS)
    settings: dict[str, Any] = {
        "ranker": {"dim": 16, "dropout": 0.0},
        "trainer": {**QUICK, "epochs": 15, "batch_size": 16, "learning_rate": 0.005, "exclude_seen": False},
    }
    run = train(data, model="hstu", out=tmp_path / "run", settings=settings)
    assert "ring has no times: 'hstu' learns from the order of the items alone." in capsys.readouterr().err
    assert run.info["best"]["NDCG@10"] > 0.85
    trained = load_recommender(run)
    rows = data.cases("test").histories
    assert rows.times is None
    dated = replace(rows, times=np.arange(len(rows.values)) * DAY)
    assert torch.equal(trained.score(dated), trained.score(rows))  # what it never saw says nothing
    for ranker in ({"time": "query"}, {"calendar": ["hour"]}):
        with pytest.raises(PalateError, match="ring has no times, which these settings of 'hstu' read"):
            train(data, model="hstu", out=tmp_path / "asked", settings={**settings, "ranker": ranker})
    assert not (tmp_path / "asked").exists()


def test_hidden_times_are_those_of_whole_sequences() -> None:
    made, rows = model(time="query", time_dropout=0.5), histories((5,) * 400)
    batch = PackedBatch.of(rows, WIDTH)
    made.train()
    now, then = made._clocks(batch)
    assert now is not None
    assert then is not None
    hidden = (then == NO_TIME).view(400, 5)
    assert torch.equal(hidden.any(1), hidden.all(1))
    assert 0.4 < hidden[:-1].float().mean() < 0.6
    assert torch.equal(now == NO_TIME, then == NO_TIME)
    own = (now == then).view(400, 5).all(1) & ~hidden.all(1)
    assert 0.15 < own.float().mean() < 0.35  # of half of the others the moment of asking is hidden


@pytest.mark.parametrize("fusion", ["sum", "late"])
def test_contents_come_in_as_everywhere_and_items_can_be_added(fusion: str) -> None:
    torch.manual_seed(0)
    config = HSTUConfig(dim=8, max_length=WIDTH, modalities=("id", "text"), fusion=fusion, repeat_bias=True)
    made = HSTU(config, ITEMS, {"text": 5})
    vectors = np.random.default_rng(0).normal(size=(ITEMS + 1, 5)).astype(np.float32)
    store = FeatureStore(Path(), {}, vectors, np.arange(ITEMS + 1) > 0, pl.DataFrame())
    made.set_features({"text": store}, torch.arange(ITEMS + 1) < ITEMS)  # the last item is cold
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    made.eval()
    rows = histories()
    assert not torch.allclose(made.score(rows), made.score(replace(rows, times=None, asked=None)))
    larger = made.append_items({"text": (torch.randn(2, 5), torch.ones(2, dtype=torch.bool))}, 2)
    torch.testing.assert_close(larger.score(rows)[:, : ITEMS + 1], made.score(rows), atol=1e-5, rtol=1e-5)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(PalateError, match="calendar is read from the times"):
        HSTUConfig.parse({"time": "none", "calendar": ["hour"]}, where="here")
    with pytest.raises(PalateError, match="3 heads do not divide dim 8"):
        model(heads=3)
    with pytest.raises(PalateError, match="reads times, and ONNX"):
        check_exportable("hstu")


def test_alignment_reads_the_same_times(tmp_path: Path) -> None:
    data = clocked(False, users=60)
    settings = {"ranker": {"dim": 8, "dropout": 0.0}, "trainer": {**QUICK, "epochs": 2, "batch_size": 16}}
    run = train(data, model="hstu", out=tmp_path / "run", settings=settings)
    for dropout in ("off", "shared"):
        aligned = align(
            run,
            objective="dpo",
            out=tmp_path / dropout,
            dataset=data,
            settings={"trainer": {"epochs": 1}, "align": {"dropout": dropout}, "negatives": {"pool_k": 3}},
        )
        # The start is validated first: with other times than in training it would not be the run's own figure.
        first = next(iter((aligned.folder / "metrics.jsonl").open()))
        assert f'"NDCG@10": {run.info["best"]["NDCG@10"]}' in first
    other = train(data, model="sasrec", out=tmp_path / "sasrec", settings=settings)
    with pytest.raises(PalateError, match="reads times"):
        align(other, reference=run, out=tmp_path / "mixed", dataset=data)


def test_a_stream_of_shards_has_no_times(tmp_path: Path) -> None:
    data = clocked(False, users=40)
    data.save(tmp_path / "data")
    settings: dict[str, Any] = {"ranker": {"dim": 8}, "trainer": {**QUICK, "epochs": 1, "stream": True}}
    with pytest.raises(PalateError, match=r"ranker\.time=none"):
        train(data, model="hstu", out=tmp_path / "run", settings=settings, dataset_path=tmp_path / "data")
    settings["ranker"]["time"] = "none"
    train(data, model="hstu", out=tmp_path / "run", settings=settings, dataset_path=tmp_path / "data")
