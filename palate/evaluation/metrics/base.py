"""What a metric is: a function of ranks that gives one number per case, and a few facts about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palate.errors import PalateError
from palate.evaluation.ranks import Floats, Ranks


@dataclass(frozen=True)
class Metric:
    """A named measure of ranks.

    Attributes:
        label: How tables call it.
        function: ``(ranks, k) -> float64 [cases]``, or a 0-dimensional array for a figure of the whole set.
        at_k: Whether it looks at the first ``k`` places only (else it is computed once).
        of_lists: Whether it needs ``ranks.lists`` (and so the whole catalogue).
        whole_set: Whether it is one figure of all cases together, such as coverage.
        needs: What else it reads: ``histories`` of the cases, ``vectors`` or ``groups`` of items
            (:class:`palate.evaluation.item_facts.ItemFacts`).
        higher_is_better: Whether a higher figure is the better one.
    """

    label: str
    function: Callable[[Ranks, int], Floats]
    at_k: bool = True
    of_lists: bool = False
    whole_set: bool = False
    needs: tuple[str, ...] = ()
    higher_is_better: bool = True

    def __call__(self, ranks: Ranks, k: int = 0) -> Floats:
        if self.at_k and k < 1:
            raise PalateError(f"{self.label}@{k} makes no sense", "Give a cut-off of at least 1.")
        if self.of_lists and (ranks.lists is None or ranks.lists.shape[1] < k):
            raise PalateError(
                f"{self.label}@{k} needs the lists of the best {k} items", "Rank with depth of at least k."
            )
        values = np.asarray(self.function(ranks, k), np.float64)
        expected = () if self.whole_set else (len(ranks),)
        if values.shape != expected:
            raise PalateError(f"the metric {self.label} gave shape {values.shape}, not {expected}", "Mend the metric.")
        return values


def parse_cut_off(text: str) -> int | None:
    """The cut-off that is written as a whole number from 1 to 999,999,999; None where the text is no such number.

    >>> parse_cut_off("10"), parse_cut_off("0"), parse_cut_off("\u00b2")
    (10, None, None)
    """
    return int(text) if re.fullmatch("0*[1-9][0-9]{0,8}", text) else None


def metric(
    label: str,
    *,
    at_k: bool = True,
    of_lists: bool = False,
    whole_set: bool = False,
    needs: tuple[str, ...] = (),
    higher_is_better: bool = True,
) -> Callable[[Callable[[Ranks, int], Floats]], Metric]:
    """Decorator that makes a :class:`Metric` of a function.

    >>> @metric("First")
    ... def first(ranks, k):
    ...     return ranks.best <= 1
    >>> first(Ranks.of([[1], [4]], num_candidates=9), 10).tolist()
    [1.0, 0.0]
    """

    def make(function: Callable[[Ranks, int], Floats]) -> Metric:
        return Metric(label, function, at_k, of_lists, whole_set, needs, higher_is_better)

    return make


def measure(ranks: Ranks, metrics: Mapping[str, Metric], ks: Sequence[int]) -> dict[str, Floats]:
    """Every metric at every cut-off: ``{"ndcg@10": float64 [cases], ..., "auc": ...}``."""
    values: dict[str, Floats] = {}
    for name, one in metrics.items():
        for k in ks if one.at_k else [0]:
            values[f"{name}@{k}" if one.at_k else name] = one(ranks, k)
    return values
