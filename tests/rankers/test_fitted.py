"""What a ranker must be that is not trained by gradient."""

from __future__ import annotations

from typing import Any, Self

import pytest

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.fitted import FittedRanker
from palate.rankers.popularity import Popularity
from palate.rankers.registry import RANKERS, rankers_that
from palate.recommender import Recommender
from palate.training.plan import make_plan


class FitOnly(FittedRanker):
    name = "fit-only"

    @classmethod
    def fit(cls, dataset: Dataset, config: Any = None, seed: int = 0) -> Self:
        return cls()


def plan(model: str, **settings: Any) -> Any:
    return make_plan(model, ["id"], "learned", "cross-entropy", settings)


def test_a_ranker_without_scores_is_refused() -> None:
    with (
        RANKERS.registered("fit-only", FitOnly),
        pytest.raises(PalateError, match=r"'fit-only' \('.*:FitOnly'\) does not define load, save, score"),
    ):
        plan("fit-only")


@pytest.mark.parametrize("part", [FitOnly.fit, dict])
def test_what_is_no_recommender_is_refused(part: Any) -> None:
    with RANKERS.registered("other", part):
        with pytest.raises(PalateError, match=r"the ranker 'other' \('.*'\) is no recommender"):
            plan("other")
        assert "other" not in rankers_that(lambda kind: issubclass(kind, Recommender))  # messages about others go on


def test_a_recommender_that_cannot_be_fitted_is_not_trained() -> None:
    class Loaded(Recommender):
        score, save, load = Popularity.score, Popularity.save, Popularity.load

    with (
        RANKERS.registered("loaded", Loaded),
        pytest.raises(PalateError, match=r"loaded is not trained like a ranker\. Derive it from FittedRanker"),
    ):
        plan("loaded")


def test_a_ranker_without_options_refuses_them() -> None:
    class Bare(Popularity):
        Config = FittedRanker.Config  # type: ignore[assignment]

    with RANKERS.registered("bare", Bare):
        assert plan("bare").options["settings"] == {"ranker": {}}
        with pytest.raises(PalateError, match=r"settings \[ranker\] of bare: unknown option 'half_life_days'"):
            plan("bare", ranker={"half_life_days": 1})
