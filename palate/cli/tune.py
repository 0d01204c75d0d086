"""``palate tune``: search for good settings, on the validation split only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.options import JsonOutput
from palate.cli.shared.output import print_json_made
from palate.errors import PalateError
from palate.progress import say

if TYPE_CHECKING:
    from palate.experiments.tune import Study


def tune(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")],
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE.toml", help="Recipe with the tables [tune] and [tune.search].")
    ],
    trials: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Trials in all; a search that has some goes on to N.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the search (default: runs/tune-RECIPE-DATASET).")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything random (default: 0).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    json_: JsonOutput = False,
) -> None:
    """Search for good settings of a model, on validation users only; the test split is never looked at.

    Every trial is a run. Interrupted, the same command goes on. The best settings are left in DIR/best.toml, ready
    for: palate train DATASET --config DIR/best.toml --out RUN

    For example: palate tune data/ml-100k --config recipes/sasrec-search.toml --trials 12 --out runs/search
    """
    import torch

    from palate.cli.commands import COMMANDS
    from palate.data.dataset import Dataset
    from palate.experiments.study_report import save_report
    from palate.experiments.tune import tune as search
    from palate.experiments.tune_recipe import read_tune_recipe
    from palate.features.folders import open_features

    where = f"{config} [tune]"
    recipe = read_tune_recipe(config, also=[name for name in COMMANDS if name != "compare"])
    total = trials if trials is not None else recipe.trials
    if total is None:
        raise PalateError("how many trials?", "Give --trials N, or trials = N in the recipe.")
    seed = seed if seed is not None else recipe.seed or 0
    recipe.check(where)
    if threads is not None:
        torch.set_num_threads(threads)
    data = Dataset.load(dataset)
    features = open_features(dataset, data.catalogue, tuple(recipe.modalities), recipe.store)
    folder = out or Path("runs") / f"tune-{config.stem}-{dataset.resolve().name}"
    study = search(
        data,
        recipe,
        trials=total,
        out=folder,
        seed=seed,
        features=features,
        dataset_path=dataset,
        where=where,
        on_trial=lambda row: _log(row, total),
    )
    save_report(study, recipe, seed)
    if json_:
        print_json_made(folder, {"metric": study.metric, "best": study.best, "trials": study.trials})
    else:
        _show(study, folder, dataset)


def _log(row: dict[str, Any], total: int) -> None:
    result = f"{row['value']:.5f}" if row["value"] is not None else row["state"]
    text = row["error"] or ", ".join(f"{name} {_short(value)}" for name, value in row["params"].items())
    say(f"trial {row['trial']} (of {total}): {result}  {text}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show(study: Study, folder: Path, dataset: Path) -> None:
    from rich.table import Table

    from palate.console import counted, open_console

    console = open_console()
    names = list(dict.fromkeys(name for row in study.trials for name in row["params"]))
    table = Table(title=f"The best of {counted(len(study.trials), 'trial')} on validation", title_justify="left")
    for head in ("trial", study.metric, "epoch", *names):
        table.add_column(head, justify="right", overflow="fold")
    complete = sorted((r for r in study.trials if r["state"] == "complete"), key=lambda r: (-r["value"], r["trial"]))
    for row in complete[:10]:
        params = [_short(row["params"].get(name)) for name in names]
        epoch = "" if row["epoch"] is None else str(row["epoch"])
        table.add_row(str(row["trial"]), f"{row['value']:.5f}", epoch, *params)
    console.print(table)
    ended = {state: sum(row["state"] == state for row in study.trials) for state in ("pruned", "failed")}
    if any(ended.values()):
        console.print(f"{ended['pruned']} stopped early, {ended['failed']} failed; all are in {folder / 'trials.csv'}.")
    console.print(f"Picture: {folder / 'trials.png'}", soft_wrap=True)
    if study.best is not None:
        console.print(f"Next: palate train {dataset} --config {folder / 'best.toml'} --out RUN", soft_wrap=True)
