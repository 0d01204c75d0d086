"""The pictures of the demo: what the shop sells, what each model recommends to whom, and how the models learnt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palate.data.dataset import Cases, Dataset
from palate.demo.models import MODELS
from palate.demo.runner import Demo
from palate.demo.sheets import item_sheet, recommendation_sheet
from palate.evaluation.users import UserSample
from palate.plots import COLOURS, picture
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.storage.small_files import json_rows

SHOWN_USERS, SHOWN_ITEMS = 4, 8
PICTURES = {
    "demo-items.png": "what the shop sells",
    "recommendations.png": f"what each model recommends to {SHOWN_USERS} users drawn at random",
    "comparison.png": "the table as a chart",
    "learning-curves.png": "how the trained models learnt",
}


def shown_cases(data: Dataset, seed: int) -> Cases:
    """Test cases of a few users, those that ``palate summarise users --users 4`` draws with the same seed."""
    return UserSample(SHOWN_USERS, seed).of(data, data.cases("test"))


def draw_pictures(demo: Demo) -> None:
    """Draw everything but the table's chart."""
    data = demo.data()
    folders = {model.label: demo.out / "runs" / model.folder for model in MODELS if not model.aligned}
    runs = {label: Run.open(folder) for label, folder in folders.items() if folder.is_dir()}
    cases = shown_cases(data, demo.seed)
    item_sheet(data.catalogue, demo.out / "demo-items.png", seed=demo.seed)
    recommendation_sheet(
        data.catalogue,
        demo.out / "recommendations.png",
        users=data.user_ids.gather(cases.users).to_list(),
        histories=list(cases.histories),
        targets=cases.targets.values.tolist(),
        recommended={
            label: load_recommender(run).recommend(cases.histories, SHOWN_ITEMS)[0].numpy()
            for label, run in runs.items()
        },
    )
    learning_curves(runs, demo.out / "learning-curves.png")


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
