"""Sampled candidates: what may be in them, with what chance, and their file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from worlds import random_logs

from palate.data.negatives import WeightedDraw
from palate.errors import PalateError
from palate.evaluation.candidates import Candidates, sample_candidates


@pytest.mark.parametrize("kind", ["uniform", "popularity"])
@pytest.mark.parametrize("tests", [1, 3])
def test_targets_come_first_and_negatives_are_new_and_different(kind, tests):
    dataset = random_logs(tests=tests, repeats=True)
    cases = dataset.cases("test")
    made = sample_candidates(dataset, "test", negatives=10, kind=kind, seed=1)
    assert made.items.dtype == np.int32
    for row in range(len(cases)):
        targets = set(cases.targets[row].tolist())
        count = int(made.num_targets[row])
        assert set(made.items[row, :count].tolist()) == targets
        negatives = made.items[row, count : count + 10].tolist()
        assert 0 not in negatives
        assert len(set(negatives)) == 10
        assert not set(negatives) & (targets | set(cases.histories[row].tolist()))
        assert not made.items[row, count + 10 :].any()
    made.check(cases)


def test_seeded():
    dataset = random_logs()
    first, again, other = (sample_candidates(dataset, "test", negatives=8, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@pytest.mark.parametrize("rounds", [0, 4])  # 0: exponential races only
def test_negatives_are_drawn_in_proportion(rounds, monkeypatch):
    monkeypatch.setattr("palate.data.negatives._ROUNDS", rounds)
    weights = np.array([0.0, 1, 2, 3, 0, 4, 90])
    rows = 6000
    banned = np.arange(rows) * 7 + 6  # the heaviest is banned for everybody
    one = WeightedDraw(weights)(rows, banned, 1, np.random.default_rng(0), spare=4)
    shares = np.bincount(one[:, 0], minlength=7) / rows
    np.testing.assert_allclose(shares, [0, 0.1, 0.2, 0.3, 0, 0.4, 0], atol=0.025)
    two = WeightedDraw(weights)(rows, banned, 2, np.random.default_rng(1), spare=4)
    # Chance that item 5 is among two draws one after another: 0.4 + sum over the other first draws.
    expected = 0.4 + 0.1 * 4 / 9 + 0.2 * 4 / 8 + 0.3 * 4 / 7
    assert abs((two == 5).any(axis=1).mean() - expected) < 0.025


def test_who_has_seen_nearly_everything_gets_fewer():
    weights = np.array([0.0, 1, 1, 1, 1])
    drawn = WeightedDraw(weights)(2, np.array([1, 2, 3, 5 + 1]), 3, np.random.default_rng(0), spare=4)
    assert drawn[0].tolist() == [4, 0, 0]
    assert sorted(drawn[1].tolist()) == [2, 3, 4]


def test_nobody_may_have_seen_everything():
    dataset = random_logs(users=5, items=6, tests=1, cold=0, repeats=True, seed=3)
    with pytest.raises(PalateError, match=r"user 'u\d' has seen every item"):
        sample_candidates(dataset, "test", negatives=5)


def test_saved_whole_and_read_without_pickle(tmp_path):
    made = sample_candidates(random_logs(tests=2), "valid", negatives=8, kind="popularity", seed=5)
    path = tmp_path / "candidates.npz"
    made.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["candidates.npz"]
    read = Candidates.load(path)
    assert read.fingerprint == made.fingerprint
    assert read.facts == made.facts
    assert read.facts["kind"] == "popularity"


def test_other_files_are_refused(tmp_path):
    with pytest.raises(PalateError, match="does not exist"):
        Candidates.load(tmp_path / "no.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(PalateError, match="holds no candidates"):
        Candidates.load(tmp_path / "text.npz")
    np.savez(tmp_path / "pickle.npz", users=np.array([{}], dtype=object))
    with pytest.raises(PalateError, match="holds no candidates"):
        Candidates.load(tmp_path / "pickle.npz")
    np.savez(
        tmp_path / "shapes.npz",
        users=np.zeros(3), items=np.zeros((2, 4)), num_targets=np.ones(3), facts=np.frombuffer(b"{}", np.uint8),
    )  # fmt: skip
    with pytest.raises(PalateError, match="shapes do not agree"):
        Candidates.load(tmp_path / "shapes.npz")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"facts": np.frombuffer(b"[]", np.uint8)}, "no facts"),
        ({"items": np.array([[3, 5, 5]])}, "an item twice"),
        ({"items": np.array([[3, 5, -1]])}, "below 0"),
    ],
)
def test_files_that_would_mislead_are_refused(tmp_path, change, reason):
    sound = {"users": np.zeros(1), "items": np.array([[3, 5, 0, 0]]), "num_targets": np.ones(1)}
    sound["facts"] = np.frombuffer(b"{}", np.uint8)
    np.savez(tmp_path / "sound.npz", **sound)
    assert len(Candidates.load(tmp_path / "sound.npz")) == 1
    np.savez(tmp_path / "other.npz", **{**sound, **change})
    with pytest.raises(PalateError, match=reason):
        Candidates.load(tmp_path / "other.npz")


def test_candidates_of_another_dataset_are_refused():
    made = sample_candidates(random_logs(), "test", negatives=5)
    made.check_dataset(random_logs())
    with pytest.raises(PalateError, match="drawn from another dataset than"):
        made.check_dataset(random_logs(items=31))
    unknown = replace(made, facts={})
    unknown.check_dataset(random_logs())
    with pytest.raises(PalateError, match="drawn from another dataset than"):
        replace(unknown, items=made.items + 1000).check_dataset(random_logs())


def test_candidates_of_other_cases_are_refused():
    dataset = random_logs()
    made = sample_candidates(dataset, "test", negatives=5)
    with pytest.raises(PalateError, match="other targets"):
        made.check(dataset.cases("valid"))
    with pytest.raises(PalateError, match="other users"):
        made.check(dataset.cases("test").take(np.arange(10)))


def test_options_are_checked():
    with pytest.raises(PalateError, match="--candidates popular: no such way"):
        sample_candidates(random_logs(), "test", kind="popular")
    with pytest.raises(PalateError, match="--candidates top-k: no such way"):
        sample_candidates(random_logs(), "test", kind="top-k")
    with pytest.raises(PalateError, match="--negatives 0"):
        sample_candidates(random_logs(), "test", negatives=0)
