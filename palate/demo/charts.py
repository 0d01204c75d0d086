"""Charts of the demo: how the trained models learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palate.plots import COLOURS, picture
from palate.runs.run import Run
from palate.storage.small_files import json_rows


def learning_curves(runs: Mapping[str, Run], path: Path | str) -> None:
    """Write a PNG: training loss and validation metric over the epochs of every run that has some, best epochs marked.

    The colours are those of the comparison's chart, where the same runs come in the same order.
    """
    with picture(path, 10, 4.2) as figure:
        loss, score = figure.subplots(1, 2)
        metric = ""
        for number, (label, run) in enumerate(runs.items()):
            if not (run.folder / "metrics.jsonl").is_file():
                continue  # not trained in epochs: popularity, neighbours
            colour = COLOURS[number % len(COLOURS)]
            rows = list(json_rows(run.folder / "metrics.jsonl"))
            metric = str(run.info["options"]["settings"]["trainer"]["metric"])
            measured = [row for row in rows if metric in row]
            loss.plot([row["epoch"] for row in rows], [row["loss"] for row in rows], color=colour, label=label)
            score.plot([row["epoch"] for row in measured], [row[metric] for row in measured], color=colour, label=label)
            best = max(measured, key=lambda row: float(row[metric]))
            score.plot(best["epoch"], best[metric], "o", color=colour, markersize=7)
        loss.set(xlabel="epoch", ylabel="training loss", title="What is minimised")
        score.set(xlabel="epoch", ylabel=f"validation {metric}", title="What chooses the epoch (dot: the best)")
        for axes in (loss, score):
            axes.xaxis.get_major_locator().set_params(integer=True)
        handles, names = score.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
