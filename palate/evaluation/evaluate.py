"""Evaluate one recommender on one split of a dataset, under a named protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from palate.data.dataset import Cases, Dataset
from palate.data.held_out import no_targets
from palate.errors import PalateError, suggest
from palate.evaluation.budget import MEMORY_MB
from palate.evaluation.candidates import Candidates, sample_candidates
from palate.evaluation.cost import meter
from palate.evaluation.item_facts import item_facts
from palate.evaluation.metrics import METRICS, Metric, measure
from palate.evaluation.ranking import rank_targets
from palate.evaluation.ranking_task import RankTargets, WorkersRanking
from palate.evaluation.ranks import Floats, Ints, Ranks
from palate.evaluation.result import Result
from palate.evaluation.slices import ALL, COLD_AMONG_COLD, cold_cases, slices_of
from palate.evaluation.unseen import check_targets_unseen
from palate.evaluation.users import UserSample
from palate.names import comma_separated
from palate.rankers.registry import load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run, environment
from palate.storage.remote import given

Protocol = Literal["full", "sampled"]
Split = Literal["valid", "test"]
DEFAULT_METRICS: dict[str, tuple[str, ...]] = {
    "full": ("ndcg", "recall", "hitrate", "mrr", "map", "coverage", "novelty"),
    "sampled": ("ndcg", "recall", "hitrate", "mrr", "map", "auc"),
}
DEFAULT_KS: tuple[int, ...] = (5, 10, 20)


def evaluate(
    recommender: Recommender | Run | Path | str,
    dataset: Dataset | Path | str,
    *,
    split: Split = "test",
    protocol: Protocol = "full",
    exclude_seen: bool = True,
    metrics: Sequence[str] | None = None,
    ks: Sequence[int] = DEFAULT_KS,
    candidates: Candidates | str = "uniform",
    negatives: int = 100,
    seed: int = 0,
    users: UserSample | None = None,
    diversity_by: str | None = None,
    calibration_by: str | None = None,
    batch_size: int | None = None,
    memory_mb: int = MEMORY_MB,
    run: Run | None = None,
    description: str | None = None,
    rank: RankTargets = rank_targets,
) -> Result:
    """Rank every case's targets and measure the ranks, for all cases and for each slice of them.

    Args:
        recommender: A model, or a run, whose model is loaded on the CPU.
        dataset: It, or its folder.
        protocol: ``full`` ranks the whole catalogue; ``sampled`` ranks the targets among sampled negatives.
        exclude_seen: With ``full``: leave out the history (product protocol) or not (peer protocol). Sampled negatives
            are never items of the history.
        metrics: Names of :data:`palate.evaluation.metrics.METRICS`; by default those that fit the protocol.
        ks: Cut-offs.
        candidates: With ``sampled``: how to draw them, or candidates made before.
        negatives: With ``sampled``: how many are drawn a case.
        seed: Of the negatives.
        users: Look at a sample of users only. A user's candidates are the same whoever else is looked at.
        diversity_by: The feature store by which ``diversity`` compares items.
        calibration_by: The field of the catalogue whose shares ``miscalibration`` compares.
        batch_size: Cases scored at a time, at most; by default what the recommender's ``batch_size`` asks for, or else
            as many as are quick.
        memory_mb: For matrices of scores, in MiB: batches of users and blocks of items follow from it
            (:func:`palate.evaluation.budget.plan`). Results do not depend on it.
        run: The run that a recommender comes from: it goes into the result's facts, and targets that it has learnt
            from are refused. A run in the recommender's place is taken for it.
        description: Report progress under this name.
        rank: Ranks the targets, perhaps elsewhere; see :func:`palate.evaluation.ranking_task.ranking_by`.

    Raises:
        PalateError: no cases in the split, targets that the run has learnt from, unknown or unfit metrics, a
            recommender of another catalogue, or one that cannot afford to score the whole catalogue (it says what that
            would cost).
    """
    dataset = Dataset.opened(dataset)
    if not isinstance(recommender, Recommender):
        run = Run.opened(recommender)
        recommender = load_recommender(run)
    if run is not None:
        check_targets_unseen(run, dataset, split)
    everyone = cases_of(dataset, split, times=recommender.reads_times)
    cases = everyone if users is None else users.of(dataset, everyone)
    chosen = choose_metrics(metrics, protocol)
    cutoffs = _cutoffs(ks)
    if recommender.num_items != dataset.num_items:
        raise PalateError(
            f"the model knows {recommender.num_items} items, the dataset has {dataset.num_items}",
            "Evaluate on the dataset it was trained on.",
        )
    items = item_facts(dataset, [need for one in chosen.values() for need in one.needs], diversity_by, calibration_by)
    drawn: Candidates | None = None
    if protocol == "sampled":
        drawn = (
            candidates
            if isinstance(candidates, Candidates)
            else sample_candidates(dataset, split, negatives=negatives, kind=candidates, seed=seed)
        )
        drawn.check_dataset(dataset)
        drawn = drawn if users is None else drawn.of(cases)
    if dataset.folder is not None:
        recommender.set_data_folder(dataset.folder)
    recommender.check_ready(cases.histories)
    depth = max(cutoffs) if any(one.of_lists for one in chosen.values()) else 0
    options: dict[str, Any] = {"exclude_seen": exclude_seen, "batch_size": batch_size, "memory_mb": memory_mb}
    with meter(rank.cost if isinstance(rank, WorkersRanking) else recommender.cost, len(cases)) as cost:
        ranks = rank(recommender, cases, candidates=drawn, depth=depth, description=description, **options)
    known: dict[str, Any] = {"train_counts": dataset.train_counts, "item_facts": items}
    ranks = replace(ranks, histories=cases.histories, **known)
    parts = list(slices_of(ranks, cases, dataset.train_counts))
    if protocol == "full":
        cold, rows, pool = cold_cases(cases, dataset.train_counts)
        if len(cold):
            among = rank(recommender, cold, pool=pool, depth=depth, **options)
            parts.append((COLD_AMONG_COLD, replace(among, histories=cold.histories, **known), rows))
    of_users = {name: one for name, one in chosen.items() if not one.whole_set}
    of_all = {name: one for name, one in chosen.items() if one.whole_set}
    frames = [_frame(name, part, rows, cases, dataset, measure(part, of_users, cutoffs)) for name, part, rows in parts]
    totals = {name: float(value) for name, value in measure(ranks, of_all, cutoffs).items()}
    facts = {
        **protocol_facts(protocol, exclude_seen, split, drawn),
        "cases": len(cases),
        "users": None if users is None else {"drawn": len(cases), "of": len(everyone), "seed": users.seed},
        "cost": cost,
        "metrics": list(chosen),
        "ks": cutoffs,
        **({} if items.source is None else {"items": items.source}),
        "model": recommender.describe(),
        "dataset": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "split": dataset.manifest.get("split"),
            "users": dataset.num_users,
            "items": dataset.num_items,
            "interactions": len(dataset),
        },
        "run": None if run is None else run_facts(run),
        "environment": environment(),
    }
    return Result(pl.concat(frames), totals, facts, drawn)


def cases_of(dataset: Dataset, split: Split, times: bool = True) -> Cases:
    """The cases of a split, of which there must be some; ``times``: see :meth:`Dataset.cases`."""
    if split not in ("valid", "test"):
        raise PalateError(f"there is no split '{split}' to evaluate", suggest(split, ["valid", "test"]))
    cases = dataset.cases(split, times)
    if not len(cases):
        raise no_targets(dataset, split)
    return cases


def choose_metrics(names: Sequence[str] | None, protocol: Protocol) -> dict[str, Metric]:
    """The metrics by name; those of whole lists do not fit sampled candidates."""
    if protocol not in DEFAULT_METRICS:
        raise PalateError(f"there is no protocol '{protocol}'", suggest(protocol, DEFAULT_METRICS))
    if isinstance(names, str):  # whose letters would be taken for names
        raise PalateError(
            f"metrics is the text '{names}', and a list is needed", f"Write metrics={comma_separated(names)}."
        )
    chosen = {name: METRICS[name] for name in names or DEFAULT_METRICS[protocol]}
    for name, one in chosen.items():
        if not isinstance(one, Metric):
            raise PalateError(f"the plug-in '{name}' is no metric", "Decorate its function with @metric('Label').")
        if one.of_lists and protocol == "sampled":
            raise PalateError(
                f"{name} looks at recommended lists, and sampled candidates make none", "Use --protocol full."
            )
    if all(one.whole_set for one in chosen.values()):
        raise PalateError("none of the metrics gives a figure a user", "Add ndcg.")
    return chosen


def _cutoffs(ks: Any) -> list[int]:
    if isinstance(ks, str) or not isinstance(ks, Iterable):
        raise PalateError(f"ks is {ks!r}, and a list is needed", f"Write ks=[{ks}].")
    cutoffs = set(ks)
    if not cutoffs or not all(isinstance(k, int | np.integer) and k >= 1 for k in cutoffs):
        raise PalateError(f"cut-offs {list(ks)} make no sense", "Give whole numbers of at least 1, as in ks=[5, 10].")
    return sorted(map(int, cutoffs))


def protocol_facts(protocol: Protocol, exclude_seen: bool, split: Split, drawn: Candidates | None) -> dict[str, Any]:
    """What a reader must know to compare a figure with others; ``name`` is what tables print."""
    facts: dict[str, Any] = {"protocol": protocol, "split": split}
    if drawn is not None:
        made = drawn.facts
        counts = drawn.num_negatives
        mean, least = (round(float(counts.mean()), 2), int(counts.min())) if len(counts) else (0.0, 0)
        requested = made.get("negatives")
        short = isinstance(requested, int) and least < requested
        # A table must not claim candidates that were not there: a small catalogue has no 1,000 unseen items.
        number = (
            f"at most {requested} {made.get('kind')}, {mean:g} on average"
            if short
            else f"{requested} {made.get('kind')}"
        )
        facts["name"] = f"sampled (1 + {number})"
        facts["candidates"] = {
            **made,
            "mean_negatives": mean,
            "least_negatives": least,
            "fingerprint": drawn.fingerprint,
        }
        return facts
    facts["name"] = "product (history excluded)" if exclude_seen else "peer (history kept)"
    facts["exclude_seen"] = exclude_seen
    return facts


def run_facts(run: Run) -> dict[str, Any]:
    """Where a model came from."""
    info: Mapping[str, Any] = run.info
    return {
        "folder": given(run.folder),
        "model": info["model"],
        "seed": run.seed,
        "options": info.get("options"),
        "commit": info.get("environment", {}).get("commit"),
    }


def _frame(
    name: str, ranks: Ranks, rows: Ints, cases: Cases, dataset: Dataset, values: Mapping[str, Floats]
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "slice": pl.Series([name], dtype=pl.String).new_from_index(0, len(rows)),
            "user_id": dataset.user_ids.gather(cases.users[rows]).cast(pl.String),
            "targets": ranks.num_targets.astype(np.int32),
            "history": cases.histories.lengths[rows].astype(np.int32),
            **values,
        }
    )


__all__ = ["ALL", "DEFAULT_KS", "DEFAULT_METRICS", "Protocol", "Split", "cases_of", "choose_metrics", "evaluate"]
