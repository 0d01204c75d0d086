"""The oracle: the demo's generator as a recommender, and its row in the table, which shows what was possible at all."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from torch import Tensor

from palate.console import print_table
from palate.data.dataset import Dataset, Part
from palate.demo.models import CONTINUED, DPO, IDS, KNN, NEAR, RODPO
from palate.demo.runner import Demo
from palate.demo.shop.truth import Truth, load_truth
from palate.errors import PalateError
from palate.evaluation.compare import Comparison, Group, compare
from palate.evaluation.evaluate import evaluate
from palate.evaluation.outputs import load_groups, save_comparison
from palate.evaluation.saved import load_table
from palate.evaluation.tables import footnotes, main_table
from palate.evaluation.users import UserSample
from palate.recommender import Histories, Recommender, as_sequences

LABEL, TASTE = "oracle", "oracle without popularity"
METRICS, K = ("ndcg", "recall", "hitrate", "coverage"), 10
NOTE = (
    "The oracle is no model: it ranks by the probabilities that the purchases were drawn with (taste, likings, the "
    "moment), which no model learns from. What lies between it and 1 is chance."
)
_KEPT = ("remarks", "cascade")  # what a table says of itself beyond its figures
TASTE_NOTE = f"'{TASTE}' knows the same, but not how liked an item is by everybody."


class Oracle(Recommender):
    """Scores items by the logarithm of the generator's own probability of each at the moment of a case.

    A history is matched to the validation or test case that has it. Where cases have the same history, their
    probabilities are averaged. Items of the history have probability 0, as have items that were not on sale yet.

    Args:
        data: a demo dataset.
        truth: what is stored beside it.
    """

    name = "oracle"

    def __init__(self, data: Dataset, truth: Truth) -> None:
        self.num_items = data.num_items
        self._truth, self._users = truth, data.rows_user
        self._rows: dict[bytes, list[int]] = defaultdict(list)
        for cases, part in ((data.cases("valid"), Part.VALID), (data.cases("test"), Part.TEST)):
            rows = np.flatnonzero(data.parts == part)
            first = dict(zip(data.rows_user[rows[::-1]].tolist(), rows[::-1].tolist(), strict=True))
            for user, history in zip(cases.users.tolist(), cases.histories, strict=True):
                self._rows[_key(history)].append(first[user])

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        """Log-probabilities; see :meth:`palate.recommender.Recommender.score`.

        Raises:
            PalateError: a history of no case, of which the generator knows nothing.
        """
        scores = torch.stack([self._log_probability(history) for history in as_sequences(histories)])
        return scores if candidates is None else scores.gather(1, candidates)

    def _log_probability(self, history: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Tensor:
        rows = self._rows.get(_key(history))
        if rows is None:
            raise PalateError(
                "the oracle knows only the demo's own validation and test cases",
                "Evaluate it on the demo's dataset, with whole histories.",
            )
        worth = self._truth.utility(rows, self._users[rows])
        worth[:, history] = -np.inf
        each = torch.log_softmax(torch.from_numpy(worth).double(), dim=1)
        mean: Tensor = torch.logsumexp(each, dim=0) - np.log(len(rows))
        return mean.float()

    def save(self, folder: Path) -> NoReturn:
        """Refused: what it knows is the dataset's truth."""
        raise PalateError("the oracle is no model that could be saved", "It is made from the demo's truth.npz.")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Refused, as :meth:`save` is."""
        raise PalateError("the oracle is no model that could be saved", "It is made from the demo's truth.npz.")


def _key(history: np.ndarray[tuple[int], np.dtype[np.int32]]) -> bytes:
    return np.ascontiguousarray(history, np.int32).tobytes()


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


def add_oracle(demo: Demo) -> None:
    """Join the oracle's row to the table that ``palate evaluate`` saved, and say what content was worth.

    The models' figures stay as they are. In ``demo.json`` are afterwards ``test``, the metrics by row, and ``gains``.
    """
    folder = demo.out / "evaluation"
    models = [row.label for row in load_table(folder).models if row.label != LABEL]
    best = NEAR if NEAR in models else models[-1]
    groups = load_groups(folder)
    gains = gains_of(groups, ((best, IDS), (best, KNN), (RODPO, CONTINUED), (DPO, CONTINUED)), demo.seed)
    family = [label for label in models if label != IDS]
    comparison = join_oracles(demo, folder, {LABEL: {}}, [NOTE, *map(str, gains)], family)
    shutil.copyfile(folder / "chart.png", demo.out / "comparison.png")
    demo.console.print(f"- {NOTE}")
    for gain in gains:
        demo.console.print(str(gain), style="bold")
    last, most = (comparison.row(label).estimates[comparison.primary].mean for label in (best, LABEL))
    demo.console.print(f"{best} reaches {last:.4f}, {last / most:.0%} of the oracle's {most:.4f}.")
    demo.facts["test"] = {row.label: {name: one.mean for name, one in row.estimates.items()} for row in comparison.rows}
    demo.facts["gains"] = [vars(gain) for gain in gains]


def join_oracles(
    demo: Demo, folder: Path, oracles: Mapping[str, Mapping[str, Any]], notes: Sequence[str], family: Sequence[str]
) -> Comparison:
    """A saved table with the rows of oracles, which are added and printed once, under the table's own protocol.

    Args:
        oracles: label -> what such an oracle does not know, as attributes of :class:`Truth` with other values.
        notes: below the table, behind its own.
        family: rows whose p-values are adjusted together.
    """
    table, groups = load_table(folder), load_groups(folder)
    missing = [label for label in oracles if label not in table.labels]
    protocol = table.facts["protocol"]
    for label in missing:
        data, truth = demo.data(), load_truth(demo.dataset)
        result = evaluate(
            Oracle(data, replace(truth, **oracles[label])),
            data,
            protocol=protocol,
            candidates=groups[0].results[0].candidates or "uniform",
            seed=demo.seed,
            users=None if table.users is None else UserSample(table.users.drawn, table.users.seed),
            description=label,
            metrics=list(dict.fromkeys(name.partition("@")[0] for name in table.models[0].metrics)),
            ks=sorted({int(k) for name in table.models[0].metrics if (k := name.partition("@")[2])}),
        )
        groups.append(Group(label, (result,), (demo.seed,)))
    comparison = compare(groups, base=table.base, primary=table.primary, seed=demo.seed, family=family)
    more: dict[str, Any] = {name: table.facts[name] for name in _KEPT if name in table.facts}
    comparison = replace(comparison, facts={**comparison.facts, **more, "bounds": list(oracles)})
    if missing:
        below = {"notes": [*footnotes(comparison), *notes]}  # which the report shows below the table
        save_comparison(folder, comparison, groups, facts=below, replace=True)
        print_table(main_table(comparison))
    return comparison


def gains_of(groups: Sequence[Group], pairs: Sequence[tuple[str, str]], seed: int) -> list[Gain]:
    """The primary metric of the first of each pair minus the second; without pairs whose rows are not there."""
    by_label = {group.label: group for group in groups}
    gains = []
    for label, base in pairs:
        if label != base and label in by_label and base in by_label:
            pair = compare([by_label[base], by_label[label]], base=base, seed=seed)
            one = pair.row(label).differences[pair.primary].estimate
            gains.append(Gain(label, base, one.mean, one.low, one.high))
    return gains
