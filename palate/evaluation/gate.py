"""May last night's model be replaced by tonight's? The Python call behind ``palate gate``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences, offsets_of
from palate.errors import PalateError
from palate.evaluation.budget import MEMORY_MB
from palate.evaluation.gate_figures import (
    SliceOfCases,
    Verdict,
    coverage_of,
    judge,
    overlap_of,
    slices_of_cases,
)
from palate.evaluation.metrics import METRICS, parse_cut_off
from palate.evaluation.other_catalogue import NotANumber, OtherCatalogue
from palate.evaluation.ranking import rank_targets
from palate.evaluation.unseen import seen_by, unseen_cases
from palate.rankers.registry import RANKERS, load_recommender
from palate.runs.dataset import dataset_folder
from palate.runs.run import Run
from palate.runs.trained_on import trained_logs

# What ``palate gate`` ends with.
EXIT_CODES: dict[Verdict, int] = {"pass": 0, "worse": 1, "undecided": 3}
MARGIN = 0.05


@dataclass(frozen=True)
class Gate:
    """What a gate found.

    Attributes:
        reasons: of the verdict, in words.
        margin: the loss that is accepted, in units of the metric.
        slices: the whole (``all``) first; None where the new run has no scores.
        overlap: mean share of the first ``k`` items that both runs recommend.
        coverage: share of the catalogue among the first ``k`` of all cases, of the old run and of the new one.
        enough: cases after which equal runs would pass in four of five nights; None: unknown.
    """

    verdict: Verdict
    reasons: list[str]
    metric: str
    k: int
    margin: float
    slices: list[SliceOfCases] = field(default_factory=list)
    overlap: float = float("nan")
    coverage: tuple[float, float] = (float("nan"), float("nan"))
    enough: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


def gate(
    old: Run | Path | str,
    new: Run | Path | str,
    *,
    dataset: Dataset | None = None,
    metric: str = "ndcg@10",
    margin: float = MARGIN,
    exclude_seen: bool = True,
    known_to_both: bool = False,
    least_coverage: float | None = None,
    least_overlap: float | None = None,
    users: int = 0,
    device: str = "cpu",
    memory_mb: int = MEMORY_MB,
    seed: int = 0,
) -> Gate:
    """Let two runs answer the same cases, which neither was trained on, and decide whether the new one may replace the
    old one.

    The cases are interactions of ``dataset`` that come after everything either run has learnt from; the candidates are
    all items of its catalogue. An item that a run does not know is not found by it. The new run passes where the
    interval of the difference excludes a loss of ``margin``, is worse where the interval excludes that it is as
    good, and else the cases are too few to tell.

    Args:
        old, new: finished runs, perhaps of different datasets.
        dataset: by default that of the new run.
        metric: a metric of targets at a cut-off.
        margin: the accepted loss, as a share of the old run's figure.
        exclude_seen: leave the history out of the ranking.
        known_to_both: only items that both runs know are candidates and targets.
        least_coverage: the new run is refused where its lists show a smaller share of the catalogue.
        least_overlap: the new run is refused where the lists of the two have a smaller share in common.
        users: at most this many, drawn by ``seed``; 0 means all.

    Raises:
        PalateError: no such metric, a run that is not finished or too slow for the whole catalogue, no case that
            neither run has seen.
    """
    name, k = _parse(metric)
    if not 0 <= margin < 1:
        raise PalateError(f"a margin of {margin:g} is no share from 0 to below 1", "0.05 accepts a loss of 5%.")
    before, after = (Run.opened(one) for one in (old, new))
    for run in (before, after):
        if not run.finished:
            raise run.unfinished()
        if not RANKERS[run.info["model"]].whole_catalogue:
            raise PalateError(
                f"{run.folder} ({run.info['model']}) cannot afford the whole catalogue", "Gate its retriever."
            )
    data = Dataset.load(dataset_folder(after)) if dataset is None else dataset
    cases, known_users = _cases(before, after, data, users, seed)
    models = [_model(run, data, device) for run in (before, after)]
    pool = None
    if known_to_both:
        pool = models[0].known & models[1].known
        cases, kept = _among(cases, pool)
        known_users = known_users[kept]
    if not len(cases):
        raise _no_cases(before, after, data, known_to_both)
    options: dict[str, Any] = {"exclude_seen": exclude_seen, "depth": k, "memory_mb": memory_mb, "pool": pool}
    candidates = len(data.catalogue) if pool is None else int(pool.sum())
    facts: dict[str, Any] = {
        "old": str(before.folder),
        "new": str(after.folder),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint},
        "cases": len(cases),
        "targets": int(cases.targets.lengths.sum()),
        "candidates": candidates,
        "unknown_items": {"old": int((~models[0].known[1:]).sum()), "new": int((~models[1].known[1:]).sum())},
    }
    old_ranks = rank_targets(models[0], cases, description=before.name, **options)
    try:
        new_ranks = rank_targets(models[1], cases, description=after.name, **options)
    except NotANumber as error:
        return Gate("worse", [f"{after.folder}: {error.message}"], metric, k, float("nan"), facts=facts)
    one = METRICS[name]
    slices = slices_of_cases(old_ranks, new_ranks, lambda ranks: one(ranks, k), known_users, models[0].known, seed)
    accepted = margin * slices[0].old.mean
    verdict, reasons = judge(slices[0], accepted, metric)
    coverage = (coverage_of(old_ranks, candidates), coverage_of(new_ranks, candidates))
    overlap = overlap_of(old_ranks, new_ranks)
    for word, value, least in (("coverage", coverage[1], least_coverage), ("overlap", overlap, least_overlap)):
        if least is not None and value < least:
            verdict = "worse"
            reasons.insert(0, f"its {word}@{k} is {value:.4f}, below the least of {least:g}")
    needed = slices[0].difference.detectable
    enough = math.ceil(len(cases) * (needed / accepted) ** 2) if accepted > 0 and needed > 0 else None
    return Gate(verdict, reasons, metric, k, accepted, slices, overlap, coverage, enough, facts)


def _parse(metric: str) -> tuple[str, int]:
    word, _, depth = metric.lower().partition("@")
    one = METRICS[word]
    if one.of_lists or one.whole_set or not one.at_k or parse_cut_off(depth) is None:
        raise PalateError(f"'{metric}' is no metric of targets at a cut-off", "Choose ndcg@10 or recall@20, say.")
    return word, int(depth)


def _cases(before: Run, after: Run, data: Dataset, users: int, seed: int) -> tuple[Cases, npt.NDArray[np.bool_]]:
    """The cases, and which of their users the old run has learnt from."""
    old_logs, new_logs = trained_logs(before), trained_logs(after)
    learnt = seen_by(data, old_logs)
    cases = unseen_cases(data, seen_by(data, new_logs, learnt))
    if not len(cases):
        raise _no_cases(before, after, data, False)
    if users and users < len(cases):
        cases = cases.take(Dataset.sample(len(cases), users, seed))
    counts = np.bincount(data.rows_user[learnt], minlength=data.num_users)
    return cases, counts[cases.users] > 0


def _no_cases(before: Run, after: Run, data: Dataset, known_to_both: bool) -> PalateError:
    if known_to_both:
        return PalateError("no case has a target that both runs know", "Leave out --known-to-both.")
    whole = [run.folder for run in (before, after) if "refit" in run.info]
    why = f" ({' and '.join(map(str, whole))}: trained on all interactions)" if whole else ""
    return PalateError(
        f"{data.name} has no interaction that neither run has learnt from{why}",
        "Judge them by a later day, --dataset LATER; or compare runs that held something out.",
    )


def _model(run: Run, data: Dataset, device: str) -> OtherCatalogue:
    model = load_recommender(run, device=device)
    if data.folder is not None:
        model.set_data_folder(data.folder)
    return OtherCatalogue(model, run.catalogue, data.catalogue)


def _among(cases: Cases, pool: npt.NDArray[np.bool_]) -> tuple[Cases, npt.NDArray[np.int64]]:
    """Cases with those targets only that are in the pool, and the numbers of the cases that are left."""
    keep = pool[cases.targets.values]
    row = np.repeat(np.arange(len(cases)), cases.targets.lengths)
    lengths = np.bincount(row[keep], minlength=len(cases)).astype(np.int64)
    rows = np.flatnonzero(lengths)
    targets = Sequences(cases.targets.values[keep], offsets_of(lengths))
    return Cases(cases.users, cases.histories, targets).take(rows), rows
