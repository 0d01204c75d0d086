"""The weight of a blend of two stages, chosen on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.budget import BATCH
from palate.evaluation.candidates import Candidates
from palate.evaluation.evaluate import cases_of, choose_metrics
from palate.evaluation.metrics import parse_cut_off
from palate.evaluation.ranking import rank_targets
from palate.evaluation.users import UserSample

if TYPE_CHECKING:
    from palate.cascade.cascade import Cascade


GRID = tuple(step / 10 for step in range(11))


@dataclass(frozen=True)
class BlendWeight:
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
    candidates: Candidates | None = None,
) -> BlendWeight:
    """The weight with the best ``metric`` on the validation split; among equals the smallest.

    Every list is scored by the second stage once; the weights only mix what is there.

    Args:
        candidates: rank the targets among these, drawn for the validation split, and not in the whole catalogue.

    Raises:
        PalateError: an empty grid, a metric that does not exist or is none of users, a dataset without validation,
            histories that the second stage is not ready for.
    """
    name, _, k = metric.partition("@")
    if not grid:
        raise PalateError("there is no weight to choose from", "Give a grid of numbers from 0 to 1.")
    if k and parse_cut_off(k) is None:
        raise PalateError(f"'{metric}' is no metric", "Name one such as ndcg@10.")
    one = choose_metrics([name], "full" if candidates is None else "sampled")[name]
    if bool(k) != one.at_k:
        raise PalateError(f"'{metric}' is no metric", "Name one such as ndcg@10.")
    cases = cases_of(dataset, "valid", times=cascade.reads_times)
    cases = cases if users is None else users.of(dataset, cases)
    candidates = candidates and candidates.of(cases)
    if dataset.folder is not None:
        cascade.set_data_folder(dataset.folder)
    cascade.check_ready(cases.histories)
    cut = int(k or 0)
    values: dict[float, float] = {}
    for number, weight in enumerate(sorted(set(grid))):
        ranks = rank_targets(
            cascade.variant("blend", weight),
            cases,
            exclude_seen=cascade.exclude_seen,
            candidates=candidates,
            # The first one scores the lists, a few at a time; the others find them scored.
            batch_size=BATCH if number else cascade.batch_size or BATCH,
            depth=cut if one.of_lists else 0,
            description=None if number else description,
        )
        values[weight] = float(one(replace(ranks, train_counts=dataset.train_counts), cut).mean())
    return BlendWeight(max(values, key=lambda weight: (values[weight], -weight)), metric, values, len(cases))
