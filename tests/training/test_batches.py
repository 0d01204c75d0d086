"""Every target is trained on once an epoch, whatever the lengths, the batches and the workers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palate.data.sequences import Sequences
from palate.training.batches import TrainingSequences


def build(lengths: list[int], width: int, batch: int, seed: int = 0) -> TrainingSequences:
    # Every value is different, so that a target names its place.
    values = np.arange(1, sum(lengths) + 1, dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TrainingSequences(Sequences(values, offsets), width, batch, seed)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 7), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_each_target_once_after_its_predecessor(lengths: list[int], width: int, batch: int, epoch: int) -> None:
    data = build(lengths, width, batch)
    seen: Counter[int] = Counter()
    for inputs, targets, ages, places, _ in data.batches(epoch):
        assert len(inputs.values) == len(targets)
        assert len(inputs) <= batch
        assert inputs.lengths.min() >= 1
        assert inputs.lengths.max() <= width
        # A target follows its input in the log, and the inputs of a window are neighbours.
        assert (targets == inputs.values + 1).all()
        assert (data.sequences.values[places] == inputs.values).all()
        ends = np.cumsum(lengths)
        assert (ages == ends[np.searchsorted(ends, targets)] - targets).all()
        seen.update(targets.tolist())
    firsts = set((np.concatenate([[0], np.cumsum(lengths)])[:-1] + 1).tolist())
    expected = set(range(1, sum(lengths) + 1)) - firsts
    assert set(seen) == expected - {f for f in firsts if f in expected}
    assert all(count == 1 for count in seen.values())
    assert data.num_targets == len(seen)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    data = build([30, 5, 8, 12, 3], 6, 2)

    def flat(epoch: int, seed: int = 0) -> list[list[int]]:
        return [t.tolist() for _, t, _, _, _ in build([30, 5, 8, 12, 3], 6, 2, seed).batches(epoch)]

    assert flat(1) == flat(1)
    assert flat(1) != flat(2)
    assert flat(1) != flat(1, seed=1)
    assert [t.tolist() for _, t, _, _, _ in data.batches(1, skip=2)] == flat(1)[2:]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_each_batch_of_a_lone_one(workers: int) -> None:
    data = build([4] * 21, 6, 4)
    alone = list(data.batches(1))
    shares = [list(data.batches(1, share=s, shares=workers)) for s in range(workers)]
    assert all(len(share) == len(alone) == data.num_batches(1) for share in shares)
    for whole, *parts in zip(alone, *shares, strict=True):
        own = [part for part in parts if part.counted]
        assert sorted(np.concatenate([part.targets for part in own])) == sorted(whole.targets)
        # The last batch has a single window: the others borrow it, so that all compute together.
        assert len(own) == min(workers, len(whole.inputs))
        assert all(len(part.targets) for part in parts)
    resumed = [step.targets.tolist() for step in data.batches(1, skip=2, share=1, shares=workers)]
    assert resumed == [step.targets.tolist() for step in shares[1][2:]]


def test_fixed_windows_are_the_same_every_epoch_and_end_full() -> None:
    long, width = 23, 6
    data = build([long, 4], width, 1)
    fixed = TrainingSequences(data.sequences, width, 1, 0, fixed=True)
    assert [w.tolist() for w in fixed.windows(1)] == [w.tolist() for w in fixed.windows(2)]
    starts, counts = fixed.windows(1)
    assert starts.tolist() == [0, 4, 10, 16, long]  # 22 targets: 4, then three full windows
    assert counts.tolist() == [4, 6, 6, 6, 3]
    assert any(data.windows(1)[1].tolist() != data.windows(e)[1].tolist() for e in range(2, 9))
