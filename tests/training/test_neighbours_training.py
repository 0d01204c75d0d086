"""Neighbours in training: weights that are right, runs that resume, an attached run that equals a trained one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from palate.alignment.align import align
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import neighbour_list
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.recommender import mask_items
from palate.runs.run import Run
from palate.training.attach import attach
from palate.training.fit import train
from palate.training.neighbour_fit import Problem, fit_weights
from palate.training.validation import Validation

Ring = Callable[..., Dataset]
SMALL: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 10, "dropout": 0.2},
    "trainer": {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "device": "cpu", "tensorboard": False},
}


@pytest.fixture(scope="module")
def world(ring: Ring, tmp_path_factory) -> tuple[Path, Dataset, Run]:
    """A data set in a folder, and a ranker that was trained on it without neighbours."""
    folder = tmp_path_factory.mktemp("ring")
    ring(users=120).save(folder / "data")
    data = Dataset.load(folder / "data")
    return folder, data, train(data, model="sasrec", out=folder / "ids", settings=SMALL, dataset_path=folder / "data")


@pytest.fixture(scope="module")
def weak(world: tuple[Path, Dataset, Run]) -> Run:
    """A ranker that has hardly learnt anything, which neighbours do help."""
    folder, data, _ = world
    settings = {**SMALL, "trainer": {**SMALL["trainer"], "epochs": 1, "learning_rate": 1e-6}}
    return train(data, model="sasrec", out=folder / "weak", settings=settings, dataset_path=folder / "data")


def measured_of(run: Run) -> dict[str, Any]:
    """What a run says of its neighbours, but for the time it took."""
    return {name: value for name, value in run.info["neighbours"].items() if name != "seconds"}


def lists_of(data: Dataset) -> list[NeighbourList]:
    """One list that points at what users mostly take next, and one that points anywhere."""
    ahead = np.zeros((data.num_items + 1, 1), np.int32)
    ahead[1:, 0] = (np.arange(data.num_items) + 1) % data.num_items + 1
    noise = np.zeros_like(ahead)
    noise[1:, 0] = (np.arange(data.num_items) + 11) % data.num_items + 1
    values = (ahead > 0).astype(np.float32)
    return [NeighbourList.of("ahead", ahead, values), NeighbourList.of("noise", noise, values)]


def test_loss_and_gradient_are_those_of_the_softmax(world: tuple[Path, Dataset, Run]) -> None:
    _, data, run = world
    model, cases = load_recommender(run), data.cases("valid")
    lists = lists_of(data)
    problem = Problem.of(model, cases, lists, 2, exclude_seen=True)
    unknowns = np.array([0.8, 1.0, 0.5, 0.2, 0.7])
    scores = model.score(cases.histories)
    targets = torch.from_numpy(cases.targets.values.astype(np.int64))[:, None]
    own = scores.gather(1, targets)
    mask_items(scores, cases.histories)
    scores = 0.8 * scores.scatter(1, targets, own)
    histories = cases.histories.to_lists()
    for row, history in enumerate(histories):
        for weights, one in zip(unknowns[1:].reshape(2, 2), lists, strict=True):
            for weight, item in zip(weights, history[::-1], strict=False):
                scores[row, int(one.items[item, 0])] += weight
    expected = torch.nn.functional.cross_entropy(scores, targets[:, 0])
    value, gradient = problem(unknowns)
    assert value == pytest.approx(float(expected), abs=1e-4)
    np.testing.assert_allclose(gradient, approx_fprime(unknowns, lambda x: problem(x)[0], 1e-6), atol=1e-4)


def test_a_source_that_knows_something_gets_weight_and_noise_gets_none(
    world: tuple[Path, Dataset, Run], weak: Run
) -> None:
    _, data, _ = world
    fitted = fit_weights(load_recommender(weak), data.cases("valid"), lists_of(data), 1, exclude_seen=True)
    ahead, noise = fitted.weights[:, 0]
    assert fitted.after < fitted.before
    assert ahead > 0.2
    assert noise < 0.1 * ahead


def test_a_lag_that_no_history_reaches_has_no_weight(world: tuple[Path, Dataset, Run], weak: Run) -> None:
    _, data, _ = world
    fitted = fit_weights(load_recommender(weak), data.cases("valid"), lists_of(data), 20, exclude_seen=True)
    assert data.cases("valid").histories.lengths.max() < 20
    assert not fitted.weights[:, -1].any()


def test_a_sample_of_users_is_seeded(world: tuple[Path, Dataset, Run], weak: Run) -> None:
    _, data, _ = world
    model, cases, lists = load_recommender(weak), data.cases("valid"), lists_of(data)
    one, same, other = (
        fit_weights(model, cases, lists, 1, exclude_seen=True, users=40, seed=seed).weights for seed in (0, 0, 1)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_attached_equals_trained_and_is_not_worse_on_validation(world: tuple[Path, Dataset, Run]) -> None:
    folder, data, ids = world
    sources = ["co-occurrence"]
    attached = attach(ids, out=folder / "attached", neighbours=sources)
    trained = train(
        data, model="sasrec", out=folder / "near", settings=SMALL, dataset_path=folder / "data", neighbours=sources
    )
    histories = data.cases("test").histories
    scores = [load_recommender(run).score(histories) for run in (attached, trained)]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=0)
    assert attached.info["options"] == trained.info["options"]
    assert measured_of(attached) == measured_of(trained)
    facts = trained.info["neighbours"]
    assert facts["after"]["NDCG@10"] >= facts["before"]["NDCG@10"]
    assert trained.info["best"]["NDCG@10"] == facts["after"]["NDCG@10"]
    measured = Validation(data, "NDCG@10", True)(load_recommender(trained))
    assert measured["NDCG@10"] == pytest.approx(facts["after"]["NDCG@10"])
    assert attach(ids, out=folder / "attached", neighbours=sources, resume=True).info == attached.info


def test_a_run_killed_while_its_neighbours_are_fitted_goes_on(
    world: tuple[Path, Dataset, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data, _ = world
    options: dict[str, Any] = {
        "model": "sasrec", "settings": SMALL, "dataset_path": folder / "data", "neighbours": ["co-occurrence"]
    }  # fmt: skip

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("palate.training.neighbour_run.fit_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            train(data, out=folder / "killed", **options)
    assert not Run.open(folder / "killed").finished
    resumed = train(data, out=folder / "killed", resume=True, **options)
    whole = train(data, out=folder / "whole", **options)
    assert measured_of(resumed) == measured_of(whole)


def test_alignment_keeps_neighbours_in_policy_and_reference(world: tuple[Path, Dataset, Run], weak: Run) -> None:
    folder, data, _ = world
    attached = attach(weak, out=folder / "to-align", neighbours=["co-occurrence"])
    aligned = align(
        attached,
        out=folder / "aligned",
        negatives="hard",
        settings={"trainer": {"epochs": 1, "learning_rate": 1e-9, "batch_size": 16}, "align": {"watch_every": 1}},
    )
    before, after = (load_recommender(run) for run in (attached, aligned))
    assert isinstance(before, SequentialRanker)
    assert isinstance(after, SequentialRanker)
    assert after.neighbours is not None
    assert before.neighbours is not None
    assert after.neighbours.sources == ["co-occurrence"]
    assert np.array_equal(after.neighbours.weights, before.neighbours.weights)
    histories = data.cases("test").histories
    torch.testing.assert_close(before.score(histories), after.score(histories), rtol=1e-3, atol=1e-3)
    assert aligned.info["options"]["settings"]["neighbours"]["sources"] == ["co-occurrence"]
    assert aligned.info["neighbours"] == {key: attached.info["neighbours"][key] for key in ("lists", "stores")}


@pytest.mark.parametrize(
    ("sources", "settings", "error"),
    [
        (["lexical"], {}, "no features named 'lexical'"),
        (["co-occurrence", "co-occurrence"], {}, "different names"),
        (["co-occurrence"], {"neighbours": {"lags": 0}}, "lags"),
        ([], {"neighbours": {"lags": 3}}, "without sources"),
        (["co-occurrence"], {"trainer": {"epochs": 2}}, "not trained again"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run_is_made(
    sources: list[str], settings: dict[str, Any], error: str, world: tuple[Path, Dataset, Run], tmp_path: Path
) -> None:
    _, _, ids = world
    with pytest.raises(PalateError, match=error):
        attach(ids, out=tmp_path / "run", neighbours=sources, settings=settings)
    assert not (tmp_path / "run").exists()


def test_counted_rankers_have_no_neighbours(world: tuple[Path, Dataset, Run], tmp_path: Path) -> None:
    folder, data, _ = world
    with pytest.raises(PalateError, match=r"item-knn is none\. .* bert4rec, gru4rec, hstu.* sasrec"):
        train(data, model="item-knn", out=tmp_path / "run", neighbours=["co-occurrence"])
    knn = train(data, model="item-knn", out=tmp_path / "knn", dataset_path=folder / "data")
    with pytest.raises(PalateError, match=r"a part of rankers that compare vectors.*bert4rec, gru4rec, hstu"):
        attach(knn, out=tmp_path / "run", neighbours=["co-occurrence"])


def test_other_data_are_refused(world: tuple[Path, Dataset, Run], ring: Ring, tmp_path: Path) -> None:
    _, _, ids = world
    other = ring(users=120, seed=5)
    with pytest.raises(PalateError, match="trained on other data"):
        attach(ids, out=tmp_path / "run", neighbours=["co-occurrence"], dataset=other)


def test_lists_are_made_once_for_all_runs(world: tuple[Path, Dataset, Run]) -> None:
    folder, data, ids = world
    made = neighbour_list(data, "co-occurrence", dataset_path=folder / "data")
    run = attach(ids, out=folder / "again", neighbours=["co-occurrence"])
    assert run.info["neighbours"]["lists"] == {"co-occurrence": made.fingerprint}
