"""Learning curves, the diagnostics of alignments, and what all of it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from markupsafe import Markup

from palate.evaluation.saved import SavedTable
from palate.report.charts import ChartView, Line, line_chart
from palate.report.logged import DIAGNOSTICS
from palate.report.numbers import count, figure, megabytes, seconds, share
from palate.report.render import render
from palate.report.tables import Cell, TableView

Log = Mapping[str, Any]


def curves(logs: Sequence[Log], colours: Mapping[str, int]) -> Markup | None:
    """The validation metric that chose the epoch, and the training loss of each objective; None where nothing learnt
    by steps."""
    learnt = [log for log in logs if any("loss" in row or (log["metric"] or "") in row for row in log["rows"])]
    if not learnt:
        return None
    charts = []
    # Runs that went on from another's weights begin where it ended: on its axes their few epochs would be a blot.
    for went_on in (False, True):
        part = [log for log in learnt if log["went_on"] == went_on]
        more = ", begun from another run" if went_on else ""
        for metric in dict.fromkeys(log["metric"] for log in part if log["metric"]):
            some = [log for log in part if log["metric"] == metric]
            charts.append(_chart(f"Validation {metric}{more}; dot: kept", some, metric, colours, best=True))
        for objective in dict.fromkeys(log["objective"] for log in part):
            some = [log for log in part if log["objective"] == objective]
            charts.append(_chart(f"Training loss: {objective}{more}", some, "loss", colours))
    return render("curves.html.j2", charts=charts, numbers=_numbers(learnt), **_labelled(learnt, colours))


def alignment(logs: Sequence[Log], colours: Mapping[str, int]) -> Markup | None:
    """What the alignments did; None where no run was aligned."""
    aligned = [{**log, **log["alignment"]} for log in logs if log["alignment"]]
    if not aligned:
        return None
    charts = [
        _chart(title, some, name, colours, zero=name != "score_scale")
        for name, title in DIAGNOSTICS.items()
        if (some := [log for log in aligned if any(name in row for row in log["rows"])])
    ]
    return render(
        "alignment.html.j2",
        charts=charts,
        warnings=_warnings(aligned),
        ranks=_ranks(aligned),
        held_out=_held_out(aligned),
        **_labelled(aligned, colours),
    )


def _labelled(logs: Sequence[Log], colours: Mapping[str, int]) -> dict[str, Any]:
    """Whose lines are drawn, with their colours, and whether one of them has several seeds."""
    labels = dict.fromkeys(log["label"] for log in logs)
    return {"labels": {label: colours[label] for label in labels}, "several_seeds": len(labels) < len(logs)}


def cost(logs: Sequence[Log], tables: Sequence[SavedTable]) -> Markup:
    """Training, and scoring where it was slow enough to be counted; and where every run came from."""
    headers = ["run", "model", "seed", "parameters", "epochs", "training", "tokens", "peak memory"]
    training, origins = [], []
    for log in logs:
        spent, commit = log["cost"], log["commit"] or ""
        training.append(
            [
                Cell(log["label"], log["label"], "bdi"),
                Cell(log["model"], log["model"]),
                Cell(log["seed"], log["seed"]),
                Cell(count(log["parameters"]), log["parameters"]),
                Cell(f"{spent['epochs']:g}" if "epochs" in spent else "-", spent.get("epochs")),
                Cell(seconds(spent.get("seconds")), spent.get("seconds")),
                Cell(count(spent.get("tokens")), spent.get("tokens")),
                Cell(megabytes(spent.get("peak_memory_mb")), spent.get("peak_memory_mb")),
            ]
        )
        origins.append(
            [
                Cell(log["label"], log["label"], "bdi"),
                Cell(log["seed"], log["seed"]),
                Cell(log["folder"], log["folder"], "code"),
                Cell(commit[:48] or "unknown", commit, "code"),
            ]
        )
    scoring = [made for one in tables if (made := _scoring(one)) is not None]
    return render(
        "cost.html.j2",
        tables=[TableView("Training", headers, training, text_columns=2), *scoring],
        origins=TableView("Runs", ["run", "seed", "folder", "commit"], origins, text_columns=4),
    )


def _scoring(table: SavedTable) -> TableView | None:
    """What answering cost each model, as far as its users and seconds were counted."""
    rows = []
    for label, spent in table.costs.items():
        users, spent_seconds = spent.get("users"), spent.get("seconds")
        if not (_number(users) and users > 0 and _number(spent_seconds)):
            continue
        per = 1000 / users
        prompts, tokens, peak = (
            value if _number(value := spent.get(name)) else None for name in ("prompts", "tokens", "peak_memory_mb")
        )
        prompts, tokens = (None if value is None else value * per for value in (prompts, tokens))
        rows.append(
            [
                Cell(label, label, "bdi"),
                Cell(count(prompts), prompts),
                Cell(count(tokens), tokens),
                Cell(seconds(spent_seconds * per), spent_seconds * per),
                Cell(megabytes(peak), peak),
            ]
        )
    if not rows:
        return None
    headers = ["model", "prompts", "tokens", "time", "peak memory"]
    return TableView(f"Scoring, per 1,000 users ({table.name})", headers, rows)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _chart(
    title: str, logs: Sequence[Log], name: str, colours: Mapping[str, int], *, best: bool = False, zero: bool = False
) -> ChartView:
    lines = []
    for log in logs:
        points = [(row.get("epoch", row.get("step", 0.0)), row[name]) for row in log["rows"] if name in row]
        at = [place for place, (x, _) in enumerate(points) if x == log["best_epoch"]] if best else []
        label = f"{log['label']}, seed {log['seed']}"
        lines.append(Line(label, colours[log["label"]], points, at[-1] if at else None))
    return line_chart(title, lines, across="epoch", zero=zero)


def _numbers(logs: Sequence[Log]) -> TableView:
    headers = ["run", "validated by", "seed", "first", "kept", "at epoch", "last", "last loss"]
    rows = []
    for log in logs:
        metric, epoch = log["metric"] or "", log["best_epoch"]
        scored = [row for row in log["rows"] if metric in row]
        retained = [row for row in scored if row.get("epoch") == epoch]
        losses = [row["loss"] for row in log["rows"] if "loss" in row]
        first, best, last = (
            some[place][metric] if some else None for some, place in ((scored, 0), (retained, -1), (scored, -1))
        )
        loss = losses[-1] if losses else None
        rows.append(
            [
                Cell(log["label"], log["label"], "bdi"),
                Cell(metric or "-", metric or None),
                Cell(log["seed"], log["seed"]),
                Cell(figure(first), first),
                Cell(figure(best), best),
                Cell("-" if epoch is None else f"{epoch:g}", epoch),
                Cell(figure(last), last),
                Cell(figure(loss), loss),
            ]
        )
    return TableView("Learning curves", headers, rows, text_columns=2)


def _warnings(logs: Sequence[Log]) -> list[dict[str, Any]]:
    """One per row: the warnings of its first seed that has any, and which other seeds have some too."""
    found = []
    for label in dict.fromkeys(log["label"] for log in logs):
        mine = [log for log in logs if log["label"] == label and log["warnings"]]
        if mine:
            seed, *others = (log["seed"] for log in mine)
            found.append({"label": label, "seed": seed, "text": " ".join(mine[0]["warnings"]), "others": others})
    return found


def _held_out(logs: Sequence[Log]) -> dict[str, float]:
    """How often negatives come from what is held out, which nothing was chosen by: means over seeds."""
    found: dict[str, list[float]] = {}
    for log in logs:
        if log["pool_held_out"] is not None:
            found.setdefault(log["label"], []).append(log["pool_held_out"])
    return {label: sum(values) / len(values) for label, values in found.items()}


def _ranks(logs: Sequence[Log]) -> TableView | None:
    """Where the negatives stood in the policy's own ranking when the alignment ended: means over seeds."""
    rows = []
    names: list[str] = []
    for label in dict.fromkeys(log["label"] for log in logs):
        lasts = []
        for log in logs:
            seen = [row for row in log["rows"] if any(name.startswith("rank_") for name in row)]
            lasts += [seen[-1]] if log["label"] == label and seen else []
        if not lasts:
            continue
        names = names or [name for name in lasts[0] if name.startswith("rank_")]
        means = [sum(last.get(name, 0.0) for last in lasts) / len(lasts) for name in names]
        rows.append([Cell(label, label, "bdi"), *(Cell(share(mean), mean) for mean in means)])
    if not rows:
        return None
    words = [name.removeprefix("rank_").replace("_on", "+").replace("_", "-") for name in names]
    return TableView("Ranks of the negatives under the policy, at the end", ["run", *words], rows)
