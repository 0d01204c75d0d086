"""Learning curves and the diagnostics of alignments, drawn; and what all of it has cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from palate.evaluation.saved import SavedTable
from palate.report.charts import Line, legend, line_chart
from palate.report.logged import DIAGNOSTICS, Row
from palate.report.markup import Child, Html, join, outside, tag
from palate.report.numbers import count, figure, megabytes, seconds, share
from palate.report.tables import Cell, table
from palate.report.tables import Row as TableRow

Log = Mapping[str, Any]


def curves(logs: Sequence[Log], colours: Mapping[str, int]) -> Html | None:
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
    return join(
        tag("h2", "Learning curves"),
        _legend(learnt, colours),
        tag("div", charts, class_="charts"),
        _seeds_note(learnt),
        tag("details", tag("summary", "The same in numbers"), _numbers(learnt)),
    )


def alignment(logs: Sequence[Log], colours: Mapping[str, int]) -> Html | None:
    """What the alignments did; None where no run was aligned."""
    aligned = [{**log, **log["alignment"]} for log in logs if log["alignment"]]
    if not aligned:
        return None
    charts = [
        _chart(title, some, name, colours, zero=name != "score_scale")
        for name, title in DIAGNOSTICS.items()
        if (some := [log for log in aligned if any(name in row for row in log["rows"])])
    ]
    told = _warnings(aligned)
    return join(
        tag("h2", "Alignment"),
        _legend(aligned, colours),
        tag("div", charts, class_="charts"),
        _seeds_note(aligned),
        tag("div", tag("h3", "Warnings"), tag("ul", told), class_="warn") if told else None,
        _ranks(aligned),
        _held_out(aligned),
    )


def cost(logs: Sequence[Log], tables: Sequence[SavedTable]) -> Html:
    """Training, and scoring where it was slow enough to be counted."""
    headers = ["run", "model", "seed", "parameters", "epochs", "training", "tokens", "peak memory"]
    rows = []
    for log in logs:
        spent = log["cost"]
        rows.append(
            TableRow(
                [
                    Cell(outside(log["label"]), log["label"]),
                    Cell(log["model"], log["model"]),
                    Cell(log["seed"], log["seed"]),
                    Cell(count(log["parameters"]), log["parameters"]),
                    Cell(f"{spent['epochs']:g}" if "epochs" in spent else "-", spent.get("epochs")),
                    Cell(seconds(spent.get("seconds")), spent.get("seconds")),
                    Cell(count(spent.get("tokens")), spent.get("tokens")),
                    Cell(megabytes(spent.get("peak_memory_mb")), spent.get("peak_memory_mb")),
                ]
            )
        )
    scoring = [made for one in tables if (made := _scoring(one)) is not None]
    return join(tag("h2", "Cost"), table("Training", headers, rows, text=2), scoring)


def origins(logs: Sequence[Log]) -> Html:
    """Where every run came from."""
    rows = [
        TableRow(
            [
                Cell(outside(log["label"]), log["label"]),
                Cell(log["seed"], log["seed"]),
                Cell(tag("code", log["folder"]), log["folder"]),
                Cell(tag("code", (log["commit"] or "unknown")[:48]), log["commit"] or ""),
            ]
        )
        for log in logs
    ]
    return tag(
        "details", tag("summary", "Runs and commits"), table("Runs", ["run", "seed", "folder", "commit"], rows, text=4)
    )


def _scoring(one: SavedTable) -> Html | None:
    """What answering cost each model, as far as its users and seconds were counted."""
    rows = []
    for label, spent in one.costs.items():
        users, spent_seconds = spent.get("users"), spent.get("seconds")
        if not (_number(users) and users > 0 and _number(spent_seconds)):
            continue
        per = 1000 / users
        prompts, tokens, peak = (
            value if _number(value := spent.get(name)) else None for name in ("prompts", "tokens", "peak_memory_mb")
        )
        prompts, tokens = (None if value is None else value * per for value in (prompts, tokens))
        rows.append(
            TableRow(
                [
                    Cell(outside(label), label),
                    Cell(count(prompts), prompts),
                    Cell(count(tokens), tokens),
                    Cell(seconds(spent_seconds * per), spent_seconds * per),
                    Cell(megabytes(peak), peak),
                ]
            )
        )
    if not rows:
        return None
    headers = ["model", "prompts", "tokens", "time", "peak memory"]
    return table(f"Scoring, per 1,000 users ({one.name})", headers, rows)


def _number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _chart(
    title: str, logs: Sequence[Log], name: str, colours: Mapping[str, int], *, best: bool = False, zero: bool = False
) -> Html:
    lines = []
    for log in logs:
        points = [(_across(row), row[name]) for row in log["rows"] if name in row]
        at = [place for place, (x, _) in enumerate(points) if x == log["best_epoch"]] if best else []
        label = f"{log['label']}, seed {log['seed']}"
        lines.append(Line(label, colours[log["label"]], points, at[-1] if at else None))
    return line_chart(title, lines, across="epoch", zero=zero)


def _across(row: Row) -> float:
    return row.get("epoch", row.get("step", 0.0))


def _legend(logs: Sequence[Log], colours: Mapping[str, int]) -> Html:
    return legend([(label, colours[label]) for label in dict.fromkeys(log["label"] for log in logs)])


def _seeds_note(logs: Sequence[Log]) -> Html | None:
    labels = [log["label"] for log in logs]
    return tag("p", "Every seed is a line of its own.", class_="quiet") if len(set(labels)) < len(labels) else None


def _numbers(logs: Sequence[Log]) -> Html:
    headers = ["run", "validated by", "seed", "first", "kept", "at epoch", "last", "last loss"]
    rows = []
    for log in logs:
        scored = [row for row in log["rows"] if (log["metric"] or "") in row]
        kept = [row for row in scored if row.get("epoch") == log["best_epoch"]]
        losses = [row["loss"] for row in log["rows"] if "loss" in row]
        values = [
            rows_[place][log["metric"]] if rows_ else None for rows_, place in ((scored, 0), (kept, -1), (scored, -1))
        ]
        epoch = log["best_epoch"]
        rows.append(
            TableRow(
                [
                    Cell(outside(log["label"]), log["label"]),
                    Cell(log["metric"] or "-", log["metric"] or None),
                    Cell(log["seed"], log["seed"]),
                    Cell(figure(values[0]), values[0]),
                    Cell(figure(values[1]), values[1]),
                    Cell("-" if epoch is None else f"{epoch:g}", epoch),
                    Cell(figure(values[2]), values[2]),
                    Cell(figure(losses[-1] if losses else None), losses[-1] if losses else None),
                ]
            )
        )
    return table("Learning curves", headers, rows, text=2)


def _warnings(logs: Sequence[Log]) -> list[Html]:
    """One line a row: the words of its first seed that has any, and which others have some too."""
    told = []
    for label in dict.fromkeys(log["label"] for log in logs):
        mine = [log for log in logs if log["label"] == label and log["warnings"]]
        if mine:
            also = f" Seeds {', '.join(str(log['seed']) for log in mine[1:])} as well." if mine[1:] else ""
            words = " ".join(mine[0]["warnings"])
            told.append(tag("li", tag("strong", outside(label)), f", seed {mine[0]['seed']}: {words}{also}"))
    return told


def _held_out(logs: Sequence[Log]) -> Html | None:
    """How often negatives come from what is held out, which nothing was chosen by: means over seeds."""
    means: list[list[Child]] = []
    for label in dict.fromkeys(log["label"] for log in logs):
        found = [log["pool_held_out"] for log in logs if log["label"] == label and log["pool_held_out"] is not None]
        means += [[", " if means else None, outside(label), f" {share(sum(found) / len(found))}"]] if found else []
    if not means:
        return None
    told = "Of the items that negatives come from, users take in validation or test (looked at after training): "
    return tag("p", told, means, ".", class_="quiet")


def _ranks(logs: Sequence[Log]) -> Html | None:
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
        rows.append(TableRow([Cell(outside(label), label), *(Cell(share(mean), mean) for mean in means)]))
    if not rows:
        return None
    words = [name.removeprefix("rank_").replace("_on", "+").replace("_", "-") for name in names]
    return table("Ranks of the negatives under the policy, at the end", ["run", *words], rows)
