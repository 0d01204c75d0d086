"""A comparison as a table for people (Markdown; the command line draws the same cells) and as JSON for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from palate.console import Table, counted
from palate.evaluation.compare import Comparison, Difference, Row
from palate.evaluation.metrics import METRICS
from palate.evaluation.statistics import Estimate


def label_of(metric: str) -> str:
    """How tables call a metric: ``ndcg@10`` -> ``NDCG@10``."""
    name, at, k = metric.partition("@")
    return f"{METRICS[name].label}{at}{k}" if name in METRICS else metric


def shown_metrics(comparison: Comparison) -> list[str]:
    """The primary metric first, then the others at its cut-off or without any; the rest is in the JSON.

    With one target per case HitRate is Recall and MAP is MRR: columns that repeat another are left out.
    """
    cut = comparison.primary.partition("@")[2]
    same = {"hitrate": "recall", "map": "mrr"}
    first = comparison.rows[0]
    shown = [comparison.primary]
    for name in comparison.metrics:
        word, _, k = name.partition("@")
        twin = f"{same[word]}@{k}" if word in same else ""
        twins = twin in first.estimates and all(row.by_seed[name] == row.by_seed[twin] for row in comparison.rows)
        if name != comparison.primary and k in ("", cut) and not (twins and twin in shown):
            shown.append(name)
    return shown


def main_table(comparison: Comparison) -> Table:
    """One row per model: the primary metric with its interval, the difference to the base, the other metrics."""
    shown = shown_metrics(comparison)
    compared = len(comparison.rows) > 1
    headers = ["model", "seeds", f"{label_of(comparison.primary)} [95%]"]
    headers += [f"minus {comparison.base} [95%]", "p (Holm)"] if compared else []
    headers += [label_of(name) for name in shown[1:]]
    rows = []
    for row in comparison.rows:
        cells = [row.label, str(len(row.seeds)), interval_text(row.estimates[comparison.primary])]
        if compared:
            cells += _difference(row.differences.get(comparison.primary))
        for name in shown[1:]:
            cells.append(_number(row.estimates[name].mean if name in row.estimates else row.totals[name]))
        rows.append(cells)
    return Table(_title(comparison), headers, rows)


def slice_table(comparison: Comparison) -> Table:
    """One row a slice: the primary metric of every model."""
    labels = [row.label for row in comparison.rows]
    rows = []
    for name, (users, of_slice) in comparison.slices.items():
        cells = [interval_text(row.estimates[comparison.primary]) for row in of_slice]
        rows.append([name, f"{users:,}", *cells])
    title = f"{label_of(comparison.primary)} [95%] by slice (looking closer; p-values are for the whole)"
    return Table(title, ["slice", "users", *labels], rows)


def seed_table(comparison: Comparison) -> Table:
    """The primary metric of every seed: none is left out."""
    seeds = sorted({seed for row in comparison.rows for seed in row.seeds})
    rows = []
    for row in comparison.rows:
        values = dict(zip(row.seeds, row.by_seed[comparison.primary], strict=True))
        rows.append([row.label, *(_number(values[seed]) if seed in values else "" for seed in seeds)])
    return Table(f"{label_of(comparison.primary)} by seed", ["model", *(f"seed {seed}" for seed in seeds)], rows)


def scoring_cost_table(comparison: Comparison) -> Table | None:
    """What each model's answers cost, per 1,000 users; None where no model is slow enough to keep count."""
    costs: dict[str, dict[str, Any]] = comparison.facts.get("costs") or {}
    if not costs:
        return None
    on_gpu = any("peak_gpu_mb" in cost for cost in costs.values())
    headers = ["model", "prompts", "tokens", "seconds", "peak memory"] + (["peak GPU memory"] if on_gpu else [])
    rows = []
    for label, cost in costs.items():
        if not cost:
            continue  # a result from before costs were kept
        share = 1000 / cost["users"]
        cells = [f"{cost[name] * share:,.0f}" if name in cost else "-" for name in ("prompts", "tokens")]
        cells += [f"{cost['seconds'] * share:,.1f}", _megabytes(cost["peak_memory_mb"])]
        rows.append([label, *cells, *([_megabytes(cost.get("peak_gpu_mb"))] if on_gpu else [])])
    return Table("Cost of scoring, per 1,000 users", headers, rows)


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} MB"


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader needs to judge and to trace the table."""
    facts = comparison.facts
    data = facts["dataset"]
    notes = [
        f"Data: {data['name']} ({data['fingerprint']}), {facts['split']} split, {_users(facts)}. "
        f"Protocol: {facts['name']}. Ties count against the model."
    ]
    if facts.get("candidates"):
        made = facts["candidates"]
        notes.append(
            f"Candidates: {made['fingerprint']}, drawn with seed {made.get('seed')}; the same for every model."
        )
        requested, least = made.get("negatives"), made.get("least_negatives")
        if isinstance(requested, int) and least is not None and least < requested:
            notes.append(
                f"Not every user has {requested:,} items left to draw: {made['mean_negatives']:,} negatives per user "
                f"on average, at least {least:,}. Figures rise with fewer candidates."
            )
    primary, base = comparison.primary, comparison.row(comparison.base)
    for row in comparison.rows:
        if primary in row.differences:
            least = row.differences[primary].estimate.detectable
            whole = base.estimates[primary].mean
            share = f" ({least / whole:.1%} of the base)" if whole > 0 else ""
            notes.append(
                f"{row.label}: a true difference of {_number(least)}{share} would be found four times in five."
            )
            if not row.differences[primary].paired_seeds:
                notes.append(f"{row.label} shares no seed with {comparison.base}: their means over seeds are compared.")
    if any(len(row.seeds) == 1 for row in comparison.rows):
        notes.append("A row with one seed has an interval over users only; it says nothing of the spread of seeds.")
    family = facts.get("family")
    if family is not None and len(family) < len(comparison.rows) - 1:
        notes.append(
            f"P-values are adjusted over the family ({', '.join(family) or 'none'}); other rows have intervals only."
        )
    if facts.get("costs"):
        notes.append(
            "Cost: prompts and tokens that went through the model, seconds by the clock, and the most memory that the "
            "process held meanwhile; what was written or trained before is not in it."
        )
    notes += facts.get("remarks") or []
    commit = (facts.get("environment") or {}).get("commit")
    notes.append(f"Palate {(facts.get('environment') or {}).get('palate')}, commit {commit or 'unknown'}.")
    return notes


def to_markdown(comparison: Comparison, more: Sequence[Table] = ()) -> str:
    """The whole comparison as Markdown, with ``more`` tables behind its own."""
    tables = [main_table(comparison)]
    if any(len(row.seeds) > 1 for row in comparison.rows):
        tables.append(seed_table(comparison))
    if comparison.slices:
        tables.append(slice_table(comparison))
    costs = scoring_cost_table(comparison)
    tables += [costs] if costs else []
    tables += more
    return as_markdown(tables, footnotes(comparison))


def as_markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Tables with their titles, and notes below them."""
    parts = []
    for table in tables:
        lines = [f"**{table.title}**", "", _line(table.headers), _line(["---"] * len(table.headers))]
        parts.append("\n".join([*lines, *(_line(row) for row in table.rows)]))
    parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, without the resamples. Figures that cannot be known are null."""
    return {
        **comparison.facts,
        "base": comparison.base,
        "primary": comparison.primary,
        "models": [_row_json(row) for row in comparison.rows],
        "slices": {
            name: {"users": users, "models": [_row_json(row) for row in rows]}
            for name, (users, rows) in comparison.slices.items()
        },
        "notes": footnotes(comparison),
    }


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "seeds": list(row.seeds),
        "metrics": {
            **{name: {**estimate_json(one), "by_seed": row.by_seed[name]} for name, one in row.estimates.items()},
            **{name: {"mean": value} for name, value in row.totals.items()},
        },
        "differences": {
            name: {
                **estimate_json(one.estimate),
                "p": _finite(one.estimate.p_value),
                "p_holm": _finite(one.holm),
                "detectable": _finite(one.estimate.detectable),
                "paired_seeds": one.paired_seeds,
            }
            for name, one in row.differences.items()
        },
    }


def estimate_json(one: Estimate) -> dict[str, float | None]:
    return {"mean": _finite(one.mean), "low": _finite(one.low), "high": _finite(one.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def interval_text(one: Estimate) -> str:
    if not math.isfinite(one.low):
        return _number(one.mean)
    return f"{_number(one.mean)} [{_number(one.low)}, {_number(one.high)}]"


def _difference(one: Difference | None) -> list[str]:
    if one is None:
        return ["", ""]
    estimate = one.estimate
    text = f"{estimate.mean:+.4f}"
    if math.isfinite(estimate.low):
        text += f" [{estimate.low:+.4f}, {estimate.high:+.4f}]"
    if math.isfinite(one.holm):
        return [text, f"{one.holm:.3f}"]
    return [text, "-" if math.isfinite(estimate.p_value) else "?"]  # outside of the family, or not to be known


def _title(comparison: Comparison) -> str:
    facts = comparison.facts
    sample = f", {_users(facts)}" if facts.get("users") else ""
    return f"{facts['dataset']['name']}, {facts['split']} split, {facts['name']}{sample}"


def _users(facts: dict[str, Any]) -> str:
    drawn = facts.get("users")
    if not drawn:
        return counted(facts["cases"], "user")
    return f"{drawn['drawn']:,} of {counted(drawn['of'], 'user')}, drawn with seed {drawn['seed']}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
