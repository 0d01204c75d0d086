"""How runs are evaluated: the options of ``palate evaluate``, checked once and used for every table and curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.engines.base import Engine
from palate.engines.local import LOCAL
from palate.errors import PalateError, suggest
from palate.evaluation.budget import MEMORY_MB
from palate.evaluation.candidates import Candidates, check_kind, sample_candidates
from palate.evaluation.compare import Group
from palate.evaluation.evaluate import DEFAULT_KS, Protocol, Split, cases_of, choose_metrics, evaluate
from palate.evaluation.groups import RunGroup
from palate.evaluation.item_facts import item_facts
from palate.evaluation.metrics import METRICS, parse_cut_off
from palate.evaluation.ranking import rank_targets
from palate.evaluation.ranking_task import RankTargets, ranking_by
from palate.evaluation.result import Result
from palate.evaluation.unseen import check_targets_unseen
from palate.evaluation.users import UserSample
from palate.names import comma_separated
from palate.rankers.registry import RANKERS, load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run

# What `palate evaluate` draws unless it is asked for something else.
_NEGATIVES, _CANDIDATES = 100, "uniform"
# Results of those runs that are too slow to be measured twice, by their folders.
SlowModels = Callable[[Sequence[RunGroup], Split], Mapping[Path, Result]]


@dataclass(frozen=True)
class EvaluationSettings:
    """A protocol with its metrics; the attributes are those of :func:`palate.evaluation.evaluate.evaluate`.

    Attributes:
        primary: the metric that decides; None: the first that is usual.
        device: where models answer.
        engine: where :meth:`evaluate` has the targets ranked.
    """

    protocol: Protocol = "full"
    exclude_seen: bool = True
    metrics: Sequence[str] | None = None
    ks: Sequence[int] = DEFAULT_KS
    primary: str | None = None
    candidates: Candidates | str = _CANDIDATES
    negatives: int = _NEGATIVES
    device: str = "cpu"
    seed: int = 0
    users: UserSample | None = None
    diversity_by: str | None = None
    calibration_by: str | None = None
    memory_mb: int = MEMORY_MB
    engine: Engine = LOCAL

    @classmethod
    def parse(cls, options: Mapping[str, Any], engine: Engine = LOCAL) -> EvaluationSettings:
        """Read the options' values, as the command line has them.

        Raises:
            PalateError: a value that means nothing, or a file of candidates that is not there.
        """
        protocol, candidates, metrics = options["protocol"], options["candidates"], options["metrics"]
        if protocol not in ("full", "sampled"):
            raise PalateError(f"there is no protocol '{protocol}'", suggest(protocol, ["full", "sampled"]))
        for option, value, usual in (
            ("--negatives", options["negatives"], _NEGATIVES),
            ("--candidates", candidates, _CANDIDATES),
        ):
            if protocol == "full" and value != usual:
                raise PalateError(
                    f"{option} {value} is about sampled candidates, and the protocol is full",
                    "Add --protocol sampled, or leave it out.",
                )
        engine.own_device(options["device"])
        from_file = protocol == "sampled" and candidates.endswith(".npz")
        made = Candidates.load(candidates) if from_file else check_kind(candidates)
        names = None if metrics is None else comma_separated(metrics)
        ks = _numbers(str(options["ks"]))
        kind: Protocol = "full" if protocol == "full" else "sampled"
        _check_primary(options["primary"], names, kind, ks)
        return cls(
            protocol=kind,
            exclude_seen=options["exclude_seen"],
            metrics=names,
            ks=ks,
            primary=options["primary"],
            candidates=made,
            negatives=options["negatives"],
            device=options["device"],
            seed=options["seed"],
            users=_sample(options),
            diversity_by=options.get("diversity_by"),
            calibration_by=options.get("calibration_by"),
            memory_mb=options.get("memory_mb", MEMORY_MB),
            engine=engine,
        )

    def evaluate(
        self, groups: Sequence[RunGroup], dataset: Dataset, split: Split, known: Mapping[Path, Result] | None = None
    ) -> list[Group]:
        """Every run of every group on identical cases and candidates; models are in memory one at a time.

        Args:
            known: results that are there already, by the folders of their runs.

        Raises:
            PalateError: also where one of the models cannot afford the protocol, before any is evaluated.
        """
        known = known or {}
        for run in (run for group in groups for run in group.runs):
            check_targets_unseen(run, dataset, split)
        self._check_metrics(dataset)
        drawn = self.with_candidates(dataset, split)
        if self.protocol == "full":
            drawn._check_affordable([group for group in groups if group.runs[0].folder not in known], dataset, split)
        return [
            Group(
                group.label,
                tuple(known.get(run.folder) or drawn._of_run(run, group.label, dataset, split) for run in group.runs),
                tuple(run.seed for run in group.runs),
            )
            for group in groups
        ]

    def with_candidates(self, dataset: Dataset, split: Split) -> EvaluationSettings:
        """These settings with the candidates themselves in place of how they are drawn.

        Raises:
            PalateError: the split has no cases, or the candidates are of other ones.
        """
        cases = cases_of(dataset, split)
        cases = cases if self.users is None else self.users.of(dataset, cases)
        candidates = self.candidates
        if self.protocol == "sampled" and not isinstance(candidates, Candidates):
            candidates = sample_candidates(dataset, split, negatives=self.negatives, kind=candidates, seed=self.seed)
        if isinstance(candidates, Candidates):
            candidates.check_dataset(dataset)
            candidates = candidates if self.users is None else candidates.of(cases)
            candidates.check(cases)
        return replace(self, candidates=candidates)

    def one(
        self,
        recommender: Recommender,
        dataset: Dataset,
        split: Split,
        *,
        run: Run,
        description: str | None = None,
        rank: RankTargets = rank_targets,
    ) -> Result:
        """One recommender, evaluated in the same way."""
        return evaluate(
            recommender,
            dataset,
            split=split,
            protocol=self.protocol,
            exclude_seen=self.exclude_seen,
            metrics=self.metrics,
            ks=self.ks,
            candidates=self.candidates,
            negatives=self.negatives,
            seed=self.seed,
            users=self.users,
            diversity_by=self.diversity_by,
            calibration_by=self.calibration_by,
            memory_mb=self.memory_mb,
            run=run,
            description=description,
            rank=rank,
        )

    def measured(self) -> list[str]:
        """Names of the figures per user, such as ``ndcg@10``, in the order of the results' columns."""
        return _measured(self.metrics, self.protocol, sorted(set(self.ks)))

    def _load(self, run: Run) -> Recommender:
        return load_recommender(run, device=self.engine.own_device(self.device))

    def _of_run(self, run: Run, label: str, dataset: Dataset, split: Split) -> Result:
        with ranking_by(self.engine, run, dataset.folder, self.device) as rank:
            description = f"{label}, seed {run.seed}"
            return self.one(self._load(run), dataset, split, run=run, description=description, rank=rank)

    def _check_metrics(self, dataset: Dataset) -> None:
        """What metrics need, refused before the first model is scored."""
        _check_primary(self.primary, self.metrics, self.protocol, self.ks)
        needs = [need for one in choose_metrics(self.metrics, self.protocol).values() for need in one.needs]
        item_facts(dataset, needs, self.diversity_by, self.calibration_by)

    def _check_affordable(self, groups: Sequence[RunGroup], dataset: Dataset, split: Split) -> None:
        """Models that may refuse to score the whole catalogue are asked for one case before any is evaluated."""
        for group in groups:
            run = group.runs[0]
            if RANKERS[run.info["model"]].whole_catalogue:
                continue
            try:
                self._load(run).score(cases_of(dataset, split).histories[:1])
            except PalateError as error:
                raise PalateError(
                    f"{group.label}: {error.message}", error.remedy or "Use --protocol sampled."
                ) from None


def _measured(metrics: Sequence[str] | None, protocol: Protocol, ks: Sequence[int]) -> list[str]:
    chosen = choose_metrics(metrics, protocol)
    found = [f"{name}@{k}" if one.at_k else name for name, one in chosen.items() for k in ks if not one.whole_set]
    return list(dict.fromkeys(found))


def _check_primary(primary: str | None, metrics: Sequence[str] | None, protocol: Protocol, ks: Sequence[int]) -> None:
    """Refuse metrics that do not exist, and a primary one that is not among those that are measured."""
    measured = _measured(metrics, protocol, ks)
    if primary is not None and primary not in measured:
        raise PalateError(f"the primary metric '{primary}' is not measured", suggest(primary, measured))
    if primary is not None and not METRICS[primary.partition("@")[0]].higher_is_better:
        raise PalateError(
            f"of '{primary}', the lower the better, and the primary metric decides by the highest",
            "Name another, such as ndcg@10; this one has a column all the same.",
        )


def _sample(options: Mapping[str, Any]) -> UserSample | None:
    users, seed = options.get("users"), options.get("users_seed")
    if users is None:
        if seed is not None:
            raise PalateError("--users-seed draws nobody without --users", "Give --users N.")
        return None
    return UserSample(users, options["seed"] if seed is None else seed)


def _numbers(text: str) -> list[int]:
    """``"5,10"`` -> ``[5, 10]``."""
    found = [parse_cut_off(part) for part in comma_separated(text)]
    numbers = [number for number in found if number is not None]
    if not numbers or len(numbers) < len(found):
        raise PalateError(f"--ks {text}: not a list of cut-offs", "Give numbers of at least 1, such as --ks 5,10,20.")
    return numbers
