"""The modality probe of runs: the same users and candidates, scored with right, with swapped and without pictures."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from palate.console import Table, counted
from palate.data.dataset import Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.evaluation.evaluate import Split, cases_of
from palate.evaluation.groups import RunGroup
from palate.evaluation.ranks import Floats
from palate.evaluation.tables import as_markdown, estimate_json, interval_text
from palate.evaluation.users import UserSample
from palate.mllm.diagnostics.audit_run import as_shown
from palate.mllm.diagnostics.probe import CONDITIONS, GAINS, ProbeRow, ProbeScores, by_user, summarise
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import Prompter
from palate.mllm.recommender import MLLMConfig, MLLMRecommender, read_config
from palate.progress import track
from palate.recommender import Recommender
from palate.runs.dataset import check_dataset
from palate.runs.run import Run
from palate.storage.remote import given

_SWAPS = 0x70726F62


@dataclass(frozen=True)
class ProbeReport:
    """How much runs depend on the pictures of candidates.

    Attributes:
        rows: one per run (or runs of several seeds).
        facts: dataset, users, candidates, pictures, and of every row its runs, prompts and cost.
    """

    rows: list[ProbeRow]
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Everything; figures that cannot be known are null."""
        facts = dict(self.facts)
        made = facts.pop("rows")
        return {
            **facts,
            "base": self.rows[0].label,
            "rows": [
                {
                    "label": row.label,
                    "seeds": list(row.seeds),
                    **made[row.label],
                    "figures": {name: estimate_json(one) for name, one in row.figures.items()},
                    "differences": {
                        name: {**estimate_json(one), "p": one.p_value if math.isfinite(one.p_value) else None}
                        for name, one in row.differences.items()
                    },
                    "paired_seeds": row.paired,
                }
                for row in self.rows
            ],
        }

    def tables(self) -> list[Table]:
        """For people: how far scores move, what that does to the ranking, and how runs differ."""
        unit = "log-probability" if self.facts["task"] == "choose" else "logits"
        shifts = [
            [row.label, *(interval_text(row.figures[name]) for name in _SHIFTS), _correlation(row)] for row in self.rows
        ]
        aucs = [[row.label, *(interval_text(row.figures[name]) for name in _AUCS)] for row in self.rows]
        made = [
            Table(
                f"How far scores move without the right picture ({unit}, mean over candidates)",
                ["run", *(f"{name} [95%]" for name in ("other", "missing", "other / sd", "missing / sd")), "order"],
                shifts,
            ),
            Table("AUC by the picture shown", ["run", *(f"{name} [95%]" for name in _AUCS.values())], aucs),
        ]
        compared = [row for row in self.rows if row.differences]
        if compared:
            names = ("shift_other", "auc_right", *GAINS)
            made.append(
                Table(
                    f"Minus {self.rows[0].label}, user by user",
                    ["run", "shift (other) [95%]", *(f"{_AUCS[name]} [95%]" for name in names[1:])],
                    [[row.label, *(interval_text(row.differences[name]) for name in names)] for row in compared],
                )
            )
        return made

    def notes(self) -> list[str]:
        """Notes below the tables."""
        facts = self.facts
        data, pictures = facts["dataset"], facts["pictures"]
        notes = [
            f"Data: {data['name']} ({data['fingerprint']}), {facts['split']} split, {counted(facts['users'], 'user')}. "
            "Ties count against the model.",
            f"{pictures['items']:,} items with a picture stand for each other (seed {facts['seed']}); "
            f"{pictures['share']:.1%} of the candidates have one.",
            "sd: spread of the right scores among a user's candidates. order: rank correlation (Spearman) of a user's "
            "candidates with the right and with another item's picture.",
        ]
        if pictures["alike"]:
            notes.append(f"{counted(pictures['alike'], 'item')} got a picture that is the same file as the right one.")
        if facts["left_out"]:
            notes.append(f"{counted(facts['left_out'], 'user')} without a pictured candidate left out.")
        omitting = [row.label for row in self.rows if facts["rows"][row.label]["missing_image"] == "omit"]
        if omitting:
            notes.append(f"Missing pictures are said to be missing, in words, by {', '.join(omitting)}.")
        alone = [row.label for row in self.rows if facts["rows"][row.label]["pictures_alone"]]
        if alone:
            notes.append(
                f"{', '.join(alone)} shows candidates by their pictures alone: without them all are alike, and what is "
                "said of missing ones means nothing."
            )
        notes += [
            f"{row.label} shares no seed with {self.rows[0].label}: their means over seeds are compared."
            for row in self.rows
            if not row.paired
        ]
        return notes

    def to_markdown(self) -> str:
        return as_markdown(self.tables(), self.notes())


_SHIFTS = ("shift_other", "shift_missing", "shift_other_sd", "shift_missing_sd")
_AUCS = {
    "auc_right": "right",
    "auc_other": "other",
    "auc_missing": "missing",
    "auc_right_minus_other": "right - other",
    "auc_right_minus_missing": "right - missing",
}


def _correlation(row: ProbeRow) -> str:
    return interval_text(row.figures["rank_correlation"])


def probe_runs(
    groups: Sequence[RunGroup],
    dataset: Dataset,
    load: Callable[[Run], Recommender],
    *,
    split: Split = "test",
    users: UserSample | None = None,
    negatives: int = 20,
    kind: str = "uniform",
    seed: int = 0,
) -> ProbeReport:
    """Score the candidates of every run three times: with their own, another item's, and no picture.

    The users and candidates are those of ``palate evaluate --protocol sampled`` with the same options. Pictures change
    hands within the candidates that have one, the same way for every run, and in the candidate's place only: items of
    the history keep theirs. With ``choose`` all candidates of a list change at once.

    Args:
        groups: rows of the report; the first is what the others are compared with.
        load: how a run's model is loaded; models are in memory one at a time.
        seed: of candidates, of the swap of pictures, and of the intervals.

    Raises:
        PalateError: before any model is loaded: runs that show no pictures of candidates, or that do not fit together.
    """
    configs = {run.folder: _checked(run, dataset) for group in groups for run in group.runs}
    tasks = {config.prompt.task for config in configs.values()}
    if len(tasks) > 1:
        raise PalateError(
            "runs of the tasks yes-no and choose score in different units", "Probe the runs of each task by themselves."
        )
    (task,) = tasks
    everyone = cases_of(dataset, split)
    cases = everyone if users is None else users.of(dataset, everyone)
    drawn = sample_candidates(dataset, split, negatives=negatives, kind=kind, seed=seed).of(cases)
    shown, targets = as_shown(drawn, task)
    first: Swap | None = None
    values: dict[str, list[Mapping[str, Floats]]] = {}
    rows: dict[str, Any] = {}
    selected: list[int] = []
    for group in groups:
        values[group.label], costs = [], []
        for run in group.runs:
            recommender = load(run)
            if not isinstance(recommender, MLLMRecommender):
                raise PalateError(f"the model of {run.folder} does not speak", "Give a run of `palate mllm`.")
            swap = Swap.of(recommender.prompter.items, shown, seed)
            if first is None:
                first = swap
                selected = [number for number, items in enumerate(shown) if not first.instead.keys().isdisjoint(items)]
            elif swap.instead != first.instead:
                raise PalateError(
                    f"{run.folder} cannot show the same pictures as {groups[0].runs[0].folder}",
                    "Probe runs of one catalogue, with its pictures in their place.",
                )
            if dataset.folder is not None:
                recommender.set_data_folder(dataset.folder)
            histories = cases.histories.take(selected)
            scored = _score(recommender, swap, histories, [(shown[one], targets[one]) for one in selected], group.label)
            values[group.label].append(by_user(scored))
            costs.append(recommender.cost())
            del recommender
        rows[group.label] = _row_facts(group, configs[group.runs[0].folder], costs)
    assert first is not None
    offered = [item for number in selected for item in shown[number]]
    facts = {
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "split": split,
        "task": task,
        "seed": seed,
        "users": len(selected),
        "left_out": len(cases) - len(selected),
        "drawn": None if users is None else {"drawn": len(cases), "of": len(everyone), "seed": users.seed},
        "candidates": {**drawn.facts, "fingerprint": drawn.fingerprint},
        "pictures": {
            "items": len(first.instead),
            "share": sum(item in first.instead for item in offered) / len(offered),
            "alike": first.alike,
        },
        "rows": rows,
    }
    seeds = {group.label: [run.seed for run in group.runs] for group in groups}
    return ProbeReport(summarise(values, seeds, seed), facts)


def _checked(run: Run, dataset: Dataset) -> MLLMConfig:
    """The run's options, if its prompts show pictures of candidates."""
    if run.info["model"] != MLLMRecommender.name:
        raise PalateError(
            f"{run.folder} is a run of '{run.info['model']}', which sees no pictures", "Give runs of `palate mllm`."
        )
    check_dataset(run, dataset)
    config = read_config(run.model_folder)
    if config.prompt.images not in ("candidate", "both"):
        raise PalateError(
            f"the prompts of {run.folder} show no pictures of candidates (images: {config.prompt.images})",
            "Probe runs made with --images candidate or --images both.",
        )
    return config


@dataclass(frozen=True)
class Swap:
    """Whose picture each item gets instead of its own.

    Attributes:
        instead: item -> another item, of all candidates that have a picture.
        alike: how many of them get a picture that is byte for byte their own.
    """

    instead: dict[int, int]
    alike: int

    @classmethod
    def of(cls, items: Items, shown: Sequence[Sequence[int]], seed: int) -> Swap:
        """The swap among the candidates in ``shown`` that have a picture.

        Raises:
            PalateError: there are not two of them.
        """
        offered = sorted({item for row in shown for item in row})
        pictures = {item: picture for item in track(offered, "Pictures") if (picture := items.picture(item))}
        if len(pictures) < 2:
            raise PalateError(
                f"{len(pictures)} of the candidates have a picture that can be shown, and swapping takes two",
                "Ask about more users, or bring the pictures back to where they were.",
            )
        instead = derangement(list(pictures), seed)
        prints = {item: picture.fingerprint for item, picture in pictures.items()}
        return cls(instead, sum(prints[item] == prints[other] for item, other in instead.items()))


def derangement(items: Sequence[int], seed: int) -> dict[int, int]:
    """Each item to another one and none to itself: along a ring, drawn uniformly by seed.

    >>> derangement([7, 9], seed=0)
    {7: 9, 9: 7}
    """
    order = np.random.default_rng([seed, _SWAPS]).permutation(np.array(sorted(items))).tolist()
    ring = dict(zip(order, [*order[1:], order[0]], strict=True))
    return {item: ring[item] for item in sorted(ring)}


def with_candidates(recommender: MLLMRecommender, items: Items) -> MLLMRecommender:
    """The same model, whose prompts show candidates (not the history) by other pictures.

    Its scorer is shared: it keeps features of pictures by their pixels.
    """
    made = copy.copy(recommender)
    old = recommender.prompter
    made.prompter = Prompter(old.items, old.options, old.templates, candidates=items)
    return made


def _score(
    recommender: MLLMRecommender,
    swap: Swap,
    histories: Sequences,
    rows: Sequence[tuple[list[int], set[int]]],
    label: str,
) -> list[ProbeScores]:
    recommender.check_ready(histories)
    items = recommender.prompter.items
    shows = {
        "right": items,
        "other": items.with_pictures(swap.instead),
        "missing": items.with_pictures(dict.fromkeys(swap.instead)),
    }
    models = {name: with_candidates(recommender, shows[name]) for name in CONDITIONS}
    found = []
    for number, (candidates, places) in enumerate(track(rows, label)):
        history = histories.take([number])
        scores = {name: _of(model, history, candidates) for name, model in models.items()}
        is_target = np.zeros(len(candidates), dtype=bool)
        is_target[list(places)] = True
        pictured = np.array([item in swap.instead for item in candidates])
        found.append(ProbeScores(**scores, targets=is_target, pictured=pictured))
    return found


def _of(recommender: MLLMRecommender, history: Sequences, candidates: Sequence[int]) -> Floats:
    found = recommender.score(history, torch.tensor([candidates]))[0].double().numpy()
    if not np.isfinite(found).all():
        raise PalateError("the model gave scores that are not numbers (NaN)", "Train it again with a lower rate.")
    return np.asarray(found)


def _row_facts(group: RunGroup, config: MLLMConfig, costs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "runs": [given(run.folder) for run in group.runs],
        "images": config.prompt.images,
        "missing_image": config.prompt.missing_image,
        "pictures_alone": config.prompt.item_text == "none" and not config.prompt.item_summaries,
        "cost": {name: round(sum(cost[name] for cost in costs), 3) for name in costs[0]},
    }
