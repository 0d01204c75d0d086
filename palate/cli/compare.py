"""``palate compare``: a whole table from one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.options import JsonOutput, LatexCaption, LatexLabel, PublishTo, TableFormat
from palate.cli.shared.output import print_json, print_json_made
from palate.console import counted
from palate.errors import PalateError, suggest
from palate.names import comma_separated
from palate.progress import say

if TYPE_CHECKING:
    from palate.experiments.plan import Selection
    from palate.experiments.recipe import Recipe


def compare(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE.toml", help="Arms, searches, curves: see docs/comparing.md.")
    ],
    dataset: Annotated[Path | None, typer.Option(metavar="DATASET", help="Wins over the recipe's.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of it all (default: runs/RECIPE-DATASET).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="Of the final runs; wins over the recipe's.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="At most, for each arm with a search; wins over the recipe's."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="ARM,ARM", help="These rows and the base (and what they start from).")
    ] = None,
    until: Annotated[str, typer.Option(metavar="{trials,train,test,curves}", help="Stop after this stage.")] = "curves",
    skip_curves: Annotated[bool, typer.Option("--skip-curves", help="Leave out the curves.")] = False,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Runs at a time.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads of each run.")] = None,
    keep_trials: Annotated[
        bool, typer.Option("--keep-trials", help="Keep the whole runs of trials, not their figures only.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print every run with its command; make nothing.")] = False,
    format_: TableFormat = "table",
    caption: LatexCaption = None,
    label: LatexLabel = None,
    publish: PublishTo = None,
    json_: JsonOutput = False,
) -> None:
    """Make a whole comparison from one recipe: validation trials, runs with every seed, one test table, curves.

    Interrupted at any moment, the same command goes on where it was. Finished runs are found again, and refused if
    they were made with other options.

    For example: palate compare recipes/rodpo-ml-100k.toml --dataset data/ml-100k --out runs/comparison
    """
    import os

    import torch

    from palate.cli.commands import COMMANDS
    from palate.cli.recipe_words import RecipeWords
    from palate.data.dataset import Dataset
    from palate.evaluation.evaluate import cases_of
    from palate.evaluation.paper_table import check_format
    from palate.evaluation.published import check_publish
    from palate.evaluation.settings import EvaluationSettings
    from palate.experiments.comparison import check_options
    from palate.experiments.curves import check_dataset
    from palate.experiments.plan import STAGES, ComparisonPlan
    from palate.experiments.read_recipe import read_recipe
    from palate.experiments.runner import ComparisonRunner, write_plan
    from palate.storage.lock import alone
    from palate.storage.remote import local

    check_format(format_, json_, caption, label)
    if until in ("trials", "train") and (format_ != "table" or publish):
        option = f"--publish {publish}" if publish else f"--format {format_}"
        raise PalateError(f"{option} is of a table, and --until {until} makes none", "Leave one of them out.")
    if publish is not None:
        check_publish(publish)
    if until not in STAGES:
        raise PalateError(f"there is no stage '{until}'", suggest(until, STAGES))
    read = read_recipe(recipe, also=[name for name in COMMANDS if name != "compare"])
    place = dataset or (local(read.compare.dataset) if read.compare.dataset else None)
    if place is None:
        raise PalateError("which dataset?", f"Give --dataset, or dataset = ... in the table [compare] of {recipe}.")
    if threads is None and jobs > 1:
        threads = max(1, (os.cpu_count() or 1) // jobs)
    selection = _selection(read, seeds, trials, only, [] if skip_curves else list(read.curves), until)
    data = Dataset.load(place)
    commands = RecipeWords(place, data, threads)
    for command, table in read.shared.items():
        if table:
            commands.read(command, table, f"{recipe} [{command.replace(' ', '.')}]")
    check_options(read, selection, commands)
    where = f"{recipe} [evaluate]"
    try:
        settings = EvaluationSettings.parse(commands.defaults("evaluate", read.evaluate, where))
    except PalateError as error:
        raise PalateError(f"{where}: {error.message}", error.remedy) from None
    check_dataset(data)
    cases_of(data, read.compare.split)
    folder = out or Path("runs") / f"{recipe.stem}-{place.resolve().name}"
    plan = ComparisonPlan(read, selection, folder, str(place), commands)
    if dry_run:
        _show_plan(plan.rows(), folder, json_)
        return
    if threads is not None:
        torch.set_num_threads(threads)
    # Trainings that a killed comparison left behind hold the lock too: nobody else trains in their folders.
    message = f"another comparison, or a training that it left behind, is at work in {folder}"
    with alone(folder, message, "Wait for it or end it, or choose another --out.") as held:
        write_plan(plan)
        runner = ComparisonRunner(plan, data, settings, jobs=jobs, keep_trials=keep_trials, held=held, log=_log)
        done = runner.run()
    if publish is not None:
        assert done.table is not None  # by the stage that was chosen
        _publish(done.table, publish)
    if json_:
        print_json_made(folder, done.facts())
        return
    if format_ == "table":
        _show(done)
    else:
        assert done.table is not None
        _print_as(format_, done.table, caption, label)


def _selection(
    recipe: Recipe, seeds: str | None, trials: int | None, only: str | None, curves: list[str], until: str
) -> Selection:
    from palate.experiments.plan import Selection

    arms = list(recipe.arms)
    if only is not None:
        names = comma_separated(only)
        for name in names:
            if name not in arms:
                raise PalateError(f"--only {only}: there is no arm '{name}'", suggest(name, arms))
        arms = [name for name in arms if name in names or name == recipe.base]
        curves = [name for name in curves if recipe.curves[name].arm in names]
    numbers = recipe.compare.seeds
    if seeds is not None:
        parts = comma_separated(seeds)
        if not parts or not all(part.isdigit() for part in parts) or len(set(parts)) != len(parts):
            raise PalateError(f"--seeds {seeds}: not a list of different seeds", "Write --seeds 0,1,2.")
        numbers = [int(part) for part in parts]
    return Selection(arms, numbers, trials or recipe.compare.trials, curves, until)


def _log(text: str) -> None:
    say(text)


def _show_plan(rows: list[dict[str, Any]], folder: Path, json_: bool) -> None:
    import shlex

    if json_:
        print_json({"out": str(folder), "runs": rows})
        return
    for row in rows:
        more = f"    # with {' and '.join(row['and'])}" if row["and"] else ""
        typer.echo(f"{row['name']}: {shlex.join(row['command'])}{more}")
    typer.echo(f"{counted(len(rows), 'run')} in all.")


def _publish(folder: Path, file: Path) -> None:
    """Write the figures of the comparison's table as a file for a page."""
    from palate.evaluation.published import publish
    from palate.evaluation.saved import load_table

    publish(load_table(folder), file)
    _log(f"figures: {file}")


def _print_as(format_: str, folder: Path, caption: str | None, label: str | None) -> None:
    """Print the table of a comparison for a paper or a spreadsheet, and leave it in the table's folder."""
    from palate.evaluation.paper_table import FORMATS, as_format
    from palate.evaluation.saved import load_table
    from palate.storage.files import write_text

    file = FORMATS[format_]
    if file is None:
        text = (folder / "table.md").read_text(encoding="utf-8")
    else:
        text = as_format(format_, load_table(folder), caption, label)
        write_text(folder / file, text)
    print(text, end="")


def _show(done: Any) -> None:
    from palate.console import print_table
    from palate.evaluation.tables import footnotes, main_table, seed_table, slice_table

    if done.comparison is not None:
        print_table(main_table(done.comparison))
        if any(len(row.seeds) > 1 for row in done.comparison.rows):
            print_table(seed_table(done.comparison))
        if done.comparison.slices:
            print_table(slice_table(done.comparison))
        print_table(done.costs)
        for note in footnotes(done.comparison):
            typer.echo(f"- {note}")
    elif done.table is not None:
        typer.echo((done.table / "table.md").read_text(encoding="utf-8"))
    for line in done.lines():
        typer.echo(line)
