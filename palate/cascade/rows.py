"""Cascades as rows of a table: re-ranked, blended, and the controls that give them a meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from palate.cascade.cascade import Cascade, check_catalogues
from palate.cascade.choose_weight import choose_blend
from palate.data.dataset import Dataset
from palate.errors import PalateError, suggest
from palate.evaluation.candidates import Candidates, sample_candidates
from palate.evaluation.compare import Group, primary_metric
from palate.evaluation.evaluate import Split, cases_of
from palate.evaluation.groups import RunGroup, find_group, group_runs
from palate.evaluation.ranking import rank_targets
from palate.evaluation.result import Result
from palate.evaluation.settings import EvaluationSettings
from palate.evaluation.statistics import Estimate, bootstrap
from palate.evaluation.unseen import check_targets_unseen
from palate.rankers.registry import RANKERS, load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.storage.remote import given


def parse_blend(text: str) -> float | Literal["valid"] | None:
    """What ``--blend`` says: a weight, ``valid`` (choose it there) or ``none``.

    >>> parse_blend("0.3"), parse_blend("valid"), parse_blend("none")
    (0.3, 'valid', None)
    """
    if text == "valid":
        return "valid"
    if text == "none":
        return None
    try:
        weight = float(text)
    except ValueError:
        raise PalateError(f"--blend {text}: no such weight", "Give a number from 0 to 1, valid or none.") from None
    if not 0 <= weight <= 1:
        raise PalateError(f"--blend {text}: a weight is from 0 to 1", "1 is the second stage alone, 0 the retriever.")
    return weight


@dataclass(frozen=True)
class CascadeTable:
    """The rows of a table with cascades, planned before anything is scored.

    Attributes:
        groups: the runs as given, then the retriever, if it was not among them.
        retriever: the group of the retriever alone.
        depth: how many items it proposes.
        blend: weight of the blended rows, ``valid`` to choose it, None for no such rows.
        sampled: candidates are sampled, so nothing is proposed: both stages score all of them, and are blended.
    """

    groups: tuple[RunGroup, ...]
    retriever: RunGroup
    depth: int
    blend: float | Literal["valid"] | None
    sampled: bool = False

    @classmethod
    def plan(
        cls,
        groups: Sequence[RunGroup],
        retriever: str,
        settings: EvaluationSettings,
        split: Split,
        *,
        depth: int,
        blend: str,
    ) -> CascadeTable:
        """Check the options.

        Raises:
            PalateError: candidates are given anyway and nothing is blended, no run needs a retriever, the retriever
                needs one itself, a weight that would be chosen on the cases it is judged by.
        """
        weight = parse_blend(blend)
        sampled = settings.protocol == "sampled"
        if sampled and weight is None:
            raise PalateError(
                "--retriever proposes from the whole catalogue, and sampled candidates need nobody to propose them",
                "Mix its scores in with --blend W, use --protocol full, or leave --retriever out.",
            )
        if weight == "valid" and split == "valid":
            raise PalateError(
                "--blend valid would choose the weight on the cases that it is judged by",
                "Give a weight, or evaluate --split test.",
            )
        if sampled and weight == "valid" and isinstance(settings.candidates, Candidates):
            raise PalateError(
                "--blend valid needs candidates of the validation split, and a file has those of one split",
                "Give a weight, or a way of drawing candidates.",
            )
        (alone,) = group_runs([retriever])
        if not _ranks_all(alone):
            raise PalateError(f"--retriever {retriever} needs a retriever itself", "Choose a fast run.")
        if all(map(_ranks_all, groups)):
            raise PalateError(
                "none of the runs needs a retriever: all of them rank the whole catalogue", "Leave --retriever out."
            )
        folder = alone.runs[0].folder.resolve()
        same = [group for group in groups if [run.folder.resolve() for run in group.runs] == [folder]]
        if not same:
            label = alone.label
            while label in [group.label for group in groups]:
                label += " (alone)"
            same = [RunGroup(label, alone.runs)]
            groups = [*groups, *same]
        for group in groups:
            for run in group.runs:
                check_catalogues(run, alone.runs[0])
        return cls(tuple(groups), same[0], depth, weight, sampled)

    @property
    def random(self) -> str:
        return f"random re-rank of {self.retriever.label}"

    def reranked(self, group: RunGroup) -> str:
        return group.label if self.sampled else f"{group.label} re-ranking {self.retriever.label}"

    def blended(self, group: RunGroup) -> str:
        return f"{group.label} blended"

    def labels(self) -> list[str]:
        """The rows in order: the retriever and its control, then the runs as given; sampled, all runs as given."""
        if self.sampled:
            blended = [self.blended(group) for group in self.groups if not _ranks_all(group)]
            return [*(group.label for group in self.groups), *blended]
        rows = [self.retriever.label, self.random]
        for group in self.groups:
            if group == self.retriever:
                continue
            slow = [self.reranked(group), *([self.blended(group)] if self.blend is not None else [])]
            rows += [group.label] if _ranks_all(group) else slow
        return rows

    def find(self, word: str | None) -> str:
        """The row that ``--base`` names; by default the retriever's."""
        labels = self.labels()
        if word is None:
            return self.retriever.label
        if word in labels:
            return word
        try:
            label = find_group(self.groups, word)
        except PalateError as error:
            raise PalateError(error.message, suggest(word, labels)) from None
        return label if label in labels else self.reranked(next(one for one in self.groups if one.label == label))

    def evaluate(
        self, dataset: Dataset, settings: EvaluationSettings, split: Split
    ) -> tuple[list[Group], dict[str, Any]]:
        """All rows on identical cases, and notes about them: ``remarks`` and ``cascade``."""
        for run in (run for group in [self.retriever, *self.groups] for run in group.runs):
            check_targets_unseen(run, dataset, split)
        retriever = load_recommender(self.retriever.runs[0], device=settings.device)
        fast = [group for group in self.groups if _ranks_all(group)]
        rows = {group.label: group for group in settings.evaluate(fast, dataset, split)}
        weights: dict[str, Any] = {}
        for group in self.groups:
            if group in fast:
                continue
            by_run = [self._cascade(group, run, retriever, dataset, settings, split) for run in group.runs]
            seeds = tuple(run.seed for run in group.runs)
            rows[self.reranked(group)] = Group(self.reranked(group), tuple(one[0] for one in by_run), seeds)
            if self.blend is not None:
                label = self.blended(group)
                rows[label] = Group(label, tuple(one[1] for one in by_run if one[1]), seeds)
                weights[label] = [one[2] for one in by_run]
        facts: dict[str, Any] = {"retriever": given(self.retriever.runs[0].folder), "blends": weights}
        if self.sampled:
            return [rows[label] for label in self.labels()], {"cascade": facts, "remarks": self._weights(weights)}
        ceiling = self._ceiling(retriever, dataset, settings, split)
        # The second stage scores nothing here, so any recommender may stand in for it.
        control = self._make(retriever, retriever, settings).variant("random")
        shuffled = settings.one(control, dataset, split, run=self.retriever.runs[0])
        rows[self.random] = Group(self.random, (shuffled,), (settings.seed,))
        facts |= {
            "depth": self.depth,
            "ceiling": {name: {"mean": one.mean, "low": one.low, "high": one.high} for name, one in ceiling.items()},
        }
        return [rows[label] for label in self.labels()], {
            "cascade": facts,
            "remarks": self._remarks(ceiling, weights, settings.seed),
        }

    def _make(self, retriever: Recommender, second: Recommender, settings: EvaluationSettings) -> Cascade:
        depth = retriever.num_items if self.sampled else self.depth  # both score every sampled candidate
        return Cascade(retriever, second, depth=depth, exclude_seen=settings.exclude_seen, seed=settings.seed)

    def _cascade(
        self,
        group: RunGroup,
        run: Run,
        retriever: Recommender,
        dataset: Dataset,
        settings: EvaluationSettings,
        split: Split,
    ) -> tuple[Result, Result | None, Any]:
        """Results of re-ranking and of blending with one run, and how the weight came about."""
        cascade = self._make(retriever, load_recommender(run, device=settings.device), settings)
        weight, how = self.blend, None
        if weight == "valid":
            metric = settings.primary or primary_metric(settings.measured())
            text = f"{group.label}, seed {run.seed}, validation"
            drawn = _validation_candidates(settings, dataset) if self.sampled else None
            chosen = choose_blend(
                cascade, dataset, metric=metric, users=settings.users, description=text, candidates=drawn
            )
            weight, how = chosen.weight, chosen.facts()
        text = f"{self.reranked(group)}, seed {run.seed}"
        reranked = settings.one(cascade, dataset, split, run=run, description=text)
        if weight is None:
            return reranked, None, None
        blended = settings.one(cascade.variant("blend", weight), dataset, split, run=run)
        # It found its lists scored; made alone it would have cost what re-ranking has.
        facts = {**blended.facts, "cost": reranked.facts["cost"]}
        return reranked, replace(blended, facts=facts), how or {"weight": weight}

    def _ceiling(
        self, retriever: Recommender, dataset: Dataset, settings: EvaluationSettings, split: Split
    ) -> dict[str, Estimate]:
        """How much of what is looked for is proposed at all, counted on the very lists that are proposed."""
        cases = cases_of(dataset, split)
        cases = cases if settings.users is None else settings.users.of(dataset, cases)
        lists = rank_targets(retriever, cases, exclude_seen=settings.exclude_seen, depth=self.depth).lists
        assert lists is not None
        found = [np.isin(targets, row) for targets, row in zip(cases.targets, lists, strict=True)]
        figures = {
            f"recall@{self.depth}": np.array([[one.mean() for one in found]]),
            f"hitrate@{self.depth}": np.array([[float(one.any()) for one in found]]),
        }
        return bootstrap(figures, seed=settings.seed)

    def _remarks(self, ceiling: dict[str, Estimate], weights: dict[str, Any], seed: int) -> list[str]:
        name, (recall, hit) = self.retriever.label, ceiling.values()
        run = self.retriever.runs[0]
        text = f"{recall.mean:.4f} [{recall.low:.4f}, {recall.high:.4f}]"
        if hit.mean != recall.mean:
            text += f" (hit rate {hit.mean:.4f})"
        notes = [
            f"Ceiling: recall@{self.depth} of {name} is {text}; what it does not propose, no re-ranking can show.",
            f"'{self.random}' shuffles the same {self.depth} items (seed {seed}): what a second stage that knows "
            "nothing would do.",
            f"All cascades re-rank one run of {name} (seed {run.seed}); how its seeds differ is in no interval.",
        ]
        return notes + self._weights(weights)

    def _weights(self, weights: dict[str, Any]) -> list[str]:
        notes = []
        for label, chosen in weights.items():
            parts = ", ".join(f"{one['weight']:g}" for one in chosen)
            how = f"chosen by {chosen[0]['metric']} on validation" if "metric" in chosen[0] else "given"
            notes.append(f"{label}: weight {parts} of the re-ranking run against {self.retriever.label}, {how}.")
        return notes


def _validation_candidates(settings: EvaluationSettings, dataset: Dataset) -> Candidates:
    assert isinstance(settings.candidates, str)
    return sample_candidates(
        dataset, "valid", negatives=settings.negatives, kind=settings.candidates, seed=settings.seed
    )


def _ranks_all(group: RunGroup) -> bool:
    kind = RANKERS[group.runs[0].info["model"]]
    return kind.whole_catalogue
