"""What a search proposes: everything where that is little, else by an optimiser that does not mind interruptions."""

from __future__ import annotations

import pytest

from palate.errors import PalateError
from palate.experiments import search as module
from palate.experiments.search import SettingsSearch, Trial, best_of
from palate.experiments.space import Choices, Interval

SPACE = {
    "preference.beta": Choices(choices=[0.03, 0.1, 0.3]),
    "trainer.learning_rate": Interval(low=1e-5, high=1e-3, log=True),
    "pool-k": Interval(low=1, high=500, log=True),
}


def trial(number: int, params: dict[str, object], value: float | None) -> Trial:
    return Trial(number, params, value, "NDCG@5", 1.0, None, "key")


def searched(search: SettingsSearch, count: int, done: list[Trial] | None = None) -> list[Trial]:
    done = list(done or [])
    while len(done) < count:
        params = search.propose(done)
        assert params is not None
        done.append(trial(len(done), params, float(params["trainer.learning_rate"])))
    return done


def test_a_small_space_is_tried_whole() -> None:
    space = {"a": Choices(choices=["x", "y"]), "b": Interval(low=1, high=3), "c": Interval(low=0.1, high=0.3, step=0.1)}
    search = SettingsSearch(space, 18, seed=0)
    assert search.size == 18
    assert len({tuple(params.values()) for params in search.grid or []}) == 18
    assert search.grid[0] == {"a": "x", "b": 1, "c": 0.1}  # type: ignore[index]
    assert search.grid[-1] == {"a": "y", "b": 3, "c": 0.3}  # type: ignore[index]
    assert SettingsSearch(space, 17, seed=0).grid is None
    assert Interval(low=0.0, high=1.0).values() is None


def test_a_large_one_is_sampled_within_its_ends_and_the_same_after_an_interruption() -> None:
    done = searched(SettingsSearch(SPACE, 8, seed=1), 8)
    for one in done:
        assert one.params["preference.beta"] in (0.03, 0.1, 0.3)
        assert 1e-5 <= one.params["trainer.learning_rate"] <= 1e-3
        assert one.params["pool-k"] == int(one.params["pool-k"])
        assert 1 <= one.params["pool-k"] <= 500
    assert len({str(one.params) for one in done}) == 8
    assert searched(SettingsSearch(SPACE, 8, seed=1), 8, done[:5]) == done
    assert searched(SettingsSearch(SPACE, 8, seed=2), 8) != done


def test_a_failed_trial_does_not_stop_the_search() -> None:
    search = SettingsSearch(SPACE, 8, seed=1)
    done = [trial(0, search.propose([]) or {}, None)]
    assert search.propose(done) is not None
    assert best_of(done) is None


def test_nothing_is_tried_twice() -> None:
    space = {"a": Choices(choices=[1, 2, 3]), "b": Interval(low=0.5, high=0.5 + 1e-9)}
    search = SettingsSearch(space, 3, seed=0)
    done: list[Trial] = []
    for number in range(3):
        params = search.propose(done)
        assert params is not None
        done.append(trial(number, params, 0.5))
    assert {one.params["a"] for one in done} == {1, 2, 3}
    assert search.propose(done) is None


def test_of_equals_the_first_is_best() -> None:
    assert best_of([trial(0, {}, 0.1), trial(1, {}, 0.3), trial(2, {}, 0.3), trial(3, {}, None)]).number == 1  # type: ignore[union-attr]


def test_without_optuna_a_large_space_is_refused_and_a_small_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(purpose: str) -> None:
        raise PalateError("needs optuna", "Install it.")

    monkeypatch.setattr(module, "import_optuna", absent)
    SettingsSearch({"a": Choices(choices=[1, 2])}, 2, seed=0)
    with pytest.raises(PalateError, match="optuna"):
        SettingsSearch(SPACE, 8, seed=0)
