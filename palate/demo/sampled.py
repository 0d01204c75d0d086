"""The demo's second table: the language model beside the rankers, on identical sampled candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from palate.data.dataset import Dataset
    from palate.evaluation.compare import Comparison
    from palate.evaluation.result import Result
    from palate.runs.run import Run

FULL, BLIND = "mllm (history + picture)", "mllm, history-blind"


def evaluate_sampled(
    data: Dataset, runs: Mapping[str, Run], folder: Path, *, judged: int, negatives: int, seed: int, console: Console
) -> dict[str, dict[str, float]]:
    """Print one table, and what it says; rows that were measured before are read.

    Args:
        runs: by row; :data:`FULL` and :data:`BLIND` are among them.
        folder: gets ``results/`` and ``evaluation/``.
        judged: users, a sample.
        negatives: candidates beside the target.
    """
    from palate.console import print_table
    from palate.evaluation.candidates import sample_candidates
    from palate.evaluation.compare import Group, compare
    from palate.evaluation.outputs import save_comparison
    from palate.evaluation.tables import footnotes, main_table
    from palate.evaluation.users import UserSample

    users = UserSample(judged, seed)
    candidates = sample_candidates(data, "test", negatives=negatives, seed=seed).of(users.of(data, data.cases("test")))
    groups = []
    for number, (label, run) in enumerate(runs.items()):
        result = _result(data, run, label, candidates, users, folder / "results" / str(number))
        groups.append(Group(label, (result,), (run.seed,)))
    comparison = compare(groups, base=BLIND, primary="auc", seed=seed)
    save_comparison(folder / "evaluation", comparison, groups, replace=True)
    print_table(main_table(comparison))
    for note in footnotes(comparison)[:2]:
        console.print(f"- {note}")
    console.print(_verdict(comparison))
    console.print(_cost({group.label: group.results[0] for group in groups}, runs[FULL]))
    return {row.label: {name: one.mean for name, one in row.estimates.items()} for row in comparison.rows}


def _result(data: Dataset, run: Run, label: str, candidates: Any, users: Any, folder: Path) -> Result:
    from palate.evaluation.evaluate import evaluate, run_facts
    from palate.evaluation.result import Result
    from palate.rankers.registry import load_recommender

    if folder.is_dir():
        known = Result.load(folder)
        same = known.candidates is not None and known.candidates.fingerprint == candidates.fingerprint
        if same and known.facts["run"] == run_facts(run):
            return known
    settings: dict[str, Any] = {"protocol": "sampled", "metrics": ("auc", "ndcg", "hitrate"), "ks": (5,)}
    made = evaluate(
        load_recommender(run), data, candidates=candidates, users=users, run=run, description=label, **settings
    )
    made.save(folder, replace=True)
    return made


def _verdict(comparison: Comparison) -> str:
    """What the table says of the one comparison that matters here, whichever way it went."""
    gap = comparison.row(FULL).differences["auc"].estimate
    told = f"history minus no history: AUC {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
    if gap.low > 0:
        return f"The fine-tuned model uses the history ({told}). Whether it is worth its price, the other rows tell."
    if gap.high < 0:
        return f"The history made the model worse ({told}): it has learnt too little from so few examples."
    return f"So few examples and users show no use of the history ({told}): the interval holds 0."


def _cost(results: Mapping[str, Result], run: Run) -> str:
    """One line: what a thousand users cost, and what learning did."""
    each = {label: result.facts["cost"] for label, result in results.items()}
    share = 1000 / each[FULL]["users"]
    fastest = [cost["seconds"] for label, cost in each.items() if label not in (FULL, BLIND)]
    return (
        f"Cost of 1,000 users with these candidates: {each[FULL]['tokens'] * share:,.0f} tokens and "
        f"{each[FULL]['seconds'] * share:,.0f} s on this machine (the other models: at most "
        f"{max(fastest) * share:,.1f} s), after {run.info['seconds']:,.0f} s of fine-tuning on "
        f"{run.info['tokens']:,} tokens."
    )
