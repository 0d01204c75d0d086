"""The demo's table: every arm beside the oracle on the same cases, and in sentences what content was worth."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palate.demo.models import IDS
from palate.demo.oracle import LABEL, NOTE, Oracle

if TYPE_CHECKING:
    from rich.console import Console

    from palate.console import Table
    from palate.data.dataset import Dataset
    from palate.evaluation.compare import Comparison, Group
    from palate.runs.run import Run

KNN = "item-knn"
_SETTINGS: dict[str, Any] = {"metrics": ("ndcg", "recall", "coverage"), "ks": (10,)}


@dataclass(frozen=True)
class Gain:
    """The primary metric of one row minus another's, paired by users."""

    label: str
    base: str
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        clear = "the interval excludes 0" if self.low > 0 or self.high < 0 else "the interval holds 0"
        return f"{self.label} minus {self.base}: {self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {clear}."


def evaluate_arms(data: Dataset, runs: Mapping[str, Run], out: Path, seed: int, console: Console) -> dict[str, Any]:
    """Evaluate, print, draw, and keep in ``out/evaluation``.

    Returns:
        ``test``: metrics by row; ``gains``: what content was worth, see :func:`gains_of`.
    """
    from palate.demo.shop import load_truth
    from palate.evaluation import chart
    from palate.evaluation.compare import Group, compare
    from palate.evaluation.evaluate import evaluate
    from palate.evaluation.groups import RunGroup, evaluate_groups
    from palate.evaluation.outputs import save_comparison
    from palate.evaluation.tables import footnotes, main_table, slice_table
    from palate.rankers.registry import load_recommender

    rows = [RunGroup(label, (run,)) for label, run in runs.items()]
    groups = evaluate_groups(rows, data, load_recommender, seed=seed, **_SETTINGS)
    best = evaluate(Oracle(data, load_truth(out / "dataset")), data, seed=seed, description=LABEL, **_SETTINGS)
    groups.append(Group(LABEL, (best,), (seed,)))
    comparison = compare(groups, base=IDS, seed=seed, family=[label for label in runs if label != IDS])
    shutil.rmtree(out / "evaluation", ignore_errors=True)
    gains = gains_of(groups, list(runs)[-1], seed)
    notes = [*footnotes(comparison), NOTE]
    facts = {"notes": [*notes, *map(str, gains)]}  # which the report shows below the table
    save_comparison(out / "evaluation", comparison, groups, facts=facts)
    chart.draw(comparison, out / "comparison.png")
    for table in (main_table(comparison), slice_table(comparison)):
        _print(table, console)
    for note in notes:
        console.print(f"- {note}")
    for gain in gains:
        console.print(str(gain), style="bold")
    console.print(_share(comparison, list(runs)[-1]))
    return {
        "test": {row.label: {name: one.mean for name, one in row.estimates.items()} for row in comparison.rows},
        "gains": [vars(gain) for gain in gains],
    }


def gains_of(groups: Sequence[Group], label: str, seed: int) -> list[Gain]:
    """The row ``label`` against ids and against item-knn; none where it is one of them."""
    from palate.evaluation.compare import compare

    by_label = {group.label: group for group in groups}
    gains = []
    for base in (IDS, KNN):
        if label == base:
            return []
        pair = compare([by_label[base], by_label[label]], base=base, seed=seed)
        one = pair.row(label).differences[pair.primary].estimate
        gains.append(Gain(label, base, one.mean, one.low, one.high))
    return gains


def _share(comparison: Comparison, label: str) -> str:
    mine, most = (comparison.row(name).estimates[comparison.primary].mean for name in (label, LABEL))
    return f"{label} reaches {mine:.4f} of the {most:.4f} that the oracle reaches ({mine / most:.0%})."


def _print(table: Table, console: Console) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD)
    for number, header in enumerate(table.headers):
        drawn.add_column(Text(header), justify="right" if number else "left")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)
