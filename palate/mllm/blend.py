"""Blending two recommenders' scores of one list, and choosing the weight on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.evaluation.evaluate import BATCH, cases_of, choose_metrics
from palate.evaluation.ranking import rank_targets
from palate.evaluation.users import UserSample

if TYPE_CHECKING:
    from palate.mllm.cascade import Cascade

Normalisation = Literal["standard", "rank"]
GRID = tuple(step / 10 for step in range(11))


def finite(values: Tensor) -> Tensor:
    """Infinite scores as finite ones just beyond the others: float32 ``[n]``.

    >>> finite(torch.tensor([1.0, -torch.inf, 3.0])).tolist()
    [1.0, 0.0, 3.0]
    """
    real = values[torch.isfinite(values)]
    if len(real) == len(values):
        return values
    low, high = (float(real.min()), float(real.max())) if len(real) else (0.0, 0.0)
    return torch.nan_to_num(values, nan=0.0, posinf=high + 1, neginf=low - 1)


def unit(values: Tensor, normalise: Normalisation) -> Tensor:
    """Scores of one list on a scale that another recommender's can share: float32 ``[n]``.

    >>> unit(torch.tensor([2.0, 4.0, 6.0]), "rank").tolist()
    [0.0, 0.5, 1.0]
    >>> unit(torch.tensor([7.0, 7.0]), "standard").tolist()
    [0.0, 0.0]
    """
    if normalise not in ("standard", "rank"):
        raise PalateError(f"scores cannot be normalised by '{normalise}'", suggest(normalise, ["standard", "rank"]))
    values = finite(values).double()
    if len(values) < 2 or bool((values == values[0]).all()):
        return torch.zeros(len(values))
    if normalise == "rank":  # equal scores share the mean of their places
        return torch.from_numpy((rankdata(values.numpy()) - 1) / (len(values) - 1)).float()
    return ((values - values.mean()) / values.std(correction=0)).float()


def random_scores(seed: int, history: bytes, items: Tensor) -> Tensor:
    """A random order of a list, the same whenever the seed, the history and the set of items are: float32 ``[n]``."""
    inside = items.sort()
    key = blake2b(repr((seed, history)).encode() + inside.values.numpy().tobytes(), digest_size=8).digest()
    drawn = np.random.default_rng(int.from_bytes(key, "little")).permutation(len(items))
    return torch.empty(len(items)).scatter_(0, inside.indices, torch.from_numpy(drawn).float())


@dataclass(frozen=True)
class Blend:
    """A weight chosen on validation.

    Attributes:
        weight: share of the second stage.
        metric: what was looked at.
        values: its mean for every weight of the grid.
        cases: over how many users.
    """

    weight: float
    metric: str
    values: dict[float, float]
    cases: int

    def facts(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "metric": self.metric,
            "grid": {f"{weight:g}": value for weight, value in self.values.items()},
            "cases": self.cases,
        }


def choose_blend(
    cascade: Cascade,
    dataset: Dataset,
    *,
    metric: str = "ndcg@10",
    grid: Sequence[float] = GRID,
    users: UserSample | None = None,
    description: str | None = None,
) -> Blend:
    """The weight with the best ``metric`` on the validation split; among equals the smallest.

    Every list is scored by the second stage once; the weights only mix what is there.

    Raises:
        PalateError: an empty grid, a metric that does not exist or is none of users, a dataset without validation,
            histories that the second stage is not ready for.
    """
    name, _, k = metric.partition("@")
    if not grid:
        raise PalateError("there is no weight to choose from", "Give a grid of numbers from 0 to 1.")
    if k and not k.isdigit():
        raise PalateError(f"'{metric}' is no metric", "Name one such as ndcg@10.")
    one = choose_metrics([name], "full")[name]
    if bool(k) != one.at_k:
        raise PalateError(f"'{metric}' is no metric", "Name one such as ndcg@10.")
    cases = cases_of(dataset, "valid")
    cases = cases if users is None else users.of(dataset, cases)
    if dataset.folder is not None:
        cascade.look_in(dataset.folder)
    cascade.ready_for(cases.histories)
    cut = int(k or 0)
    values: dict[float, float] = {}
    for number, weight in enumerate(sorted(set(grid))):
        ranks = rank_targets(
            cascade.variant("blend", weight),
            cases,
            exclude_seen=cascade.exclude_seen,
            # The first one scores the lists, a few at a time; the others find them scored.
            batch_size=BATCH if number else cascade.batch_size or BATCH,
            depth=cut if one.of_lists else 0,
            description=None if number else description,
        )
        values[weight] = float(one(replace(ranks, train_counts=dataset.train_counts), cut).mean())
    return Blend(max(values, key=lambda weight: (values[weight], -weight)), metric, values, len(cases))
