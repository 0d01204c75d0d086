"""Runs compared on one split, alone or re-ranking what a retriever proposes: what ``palate evaluate`` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palate.cascade.rows import CascadeTable
from palate.data.dataset import Dataset
from palate.evaluation.compare import Comparison, Group, compare
from palate.evaluation.evaluate import Split
from palate.evaluation.groups import RunGroup, find_group, open_dataset
from palate.evaluation.settings import EvaluationSettings


def compare_runs(
    groups: Sequence[RunGroup],
    settings: EvaluationSettings,
    split: Split,
    *,
    dataset: Path | None = None,
    base: str | None = None,
    retriever: str | None = None,
    depth: int = 20,
    blend: str = "none",
) -> tuple[Comparison, list[Group], Dataset]:
    """Every run on identical cases, with paired differences to a base; the results by row, and the dataset.

    Args:
        dataset: its folder; by default where the first run met it.
        base: a row's label or a run's folder; by default the first row, or the retriever.
        retriever: a run that proposes ``depth`` items to those that cannot rank the whole catalogue.
        blend: see :func:`palate.cascade.rows.parse_blend`.

    Raises:
        PalateError: what :class:`CascadeTable` and :meth:`EvaluationSettings.evaluate` refuse.
    """
    if retriever is None:
        label = find_group(groups, base) if base is not None else groups[0].label
        data = open_dataset(groups, dataset)
        with settings.engine:
            evaluated = settings.evaluate(groups, data, split)
        return compare(evaluated, base=label, primary=settings.primary, seed=settings.seed), evaluated, data
    table = CascadeTable.plan(groups, retriever, settings, split, depth=depth, blend=blend)
    label = table.find(base)
    data = open_dataset(table.groups, dataset)
    evaluated, notes = table.evaluate(data, settings, split)
    comparison = compare(evaluated, base=label, primary=settings.primary, seed=settings.seed)
    return replace(comparison, facts={**comparison.facts, **notes}), evaluated, data
