"""How runs are judged: the options of ``palate evaluate``, checked once and used for every table and curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.engines.base import Engine
from palate.engines.local import LOCAL
from palate.errors import PalateError, suggest
from palate.evaluation.budget import MEMORY_MB
from palate.evaluation.candidates import Candidates, check_kind
from palate.evaluation.compare import Group
from palate.evaluation.evaluate import Protocol, Split, evaluate
from palate.evaluation.groups import RunGroup, check_primary, evaluate_groups, measured_metrics
from palate.evaluation.ranking_task import ranking_by
from palate.evaluation.result import Result
from palate.evaluation.users import UserSample
from palate.rankers.registry import load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run

# What `palate evaluate` draws unless it is asked for something else.
_NEGATIVES, _CANDIDATES = 100, "uniform"
# Results of those runs that are too slow to be measured twice, by their folders.
SlowModels = Callable[[Sequence[RunGroup], Split], Mapping[Path, Result]]


@dataclass(frozen=True)
class Measure:
    """A protocol with its metrics; the attributes are those of :func:`palate.evaluation.evaluate.evaluate`.

    Attributes:
        engine: where :meth:`evaluate` has the targets ranked.
    """

    protocol: Protocol
    exclude_seen: bool
    metrics: list[str] | None
    ks: list[int]
    primary: str | None
    candidates: Candidates | str
    negatives: int
    device: str
    seed: int
    users: UserSample | None = None
    diversity_by: str | None = None
    calibration_by: str | None = None
    memory_mb: int = MEMORY_MB
    engine: Engine = LOCAL

    @classmethod
    def parse(cls, options: Mapping[str, Any], engine: Engine = LOCAL) -> Measure:
        """Read the options' values, as the command line has them.

        Raises:
            PalateError: a value that means nothing, or a file of candidates that is not there.
        """
        if options.get("retriever"):
            raise PalateError(
                "a comparison has no cascades", "Leave out 'retriever'; `palate evaluate` takes it with finished runs."
            )
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
        if options.get("engine", "local") != "local":
            raise PalateError(
                "a comparison is evaluated in one process", "Leave 'engine' out; `palate evaluate` takes it."
            )
        engine.own_device(options["device"])
        from_file = protocol == "sampled" and candidates.endswith(".npz")
        made = Candidates.load(candidates) if from_file else check_kind(candidates)
        names = None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()]
        ks = _numbers(str(options["ks"]))
        kind: Protocol = "full" if protocol == "full" else "sampled"
        check_primary(options["primary"], names, kind, ks)
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
        """Every run of every group on identical cases; ``known``: results that are there, by the folders of runs."""
        return evaluate_groups(
            groups,
            dataset,
            lambda run: load_recommender(run, device=self.engine.own_device(self.device)),
            split=split,
            protocol=self.protocol,
            exclude_seen=self.exclude_seen,
            metrics=self.metrics,
            ks=self.ks,
            primary=self.primary,
            candidates=self.candidates,
            negatives=self.negatives,
            seed=self.seed,
            users=self.users,
            diversity_by=self.diversity_by,
            calibration_by=self.calibration_by,
            memory_mb=self.memory_mb,
            known=known,
            ranking=lambda run: ranking_by(self.engine, run, dataset.folder, self.device),
        )

    def measured(self) -> list[str]:
        """Names of the figures per user, such as ``ndcg@10``."""
        return measured_metrics(self.metrics, self.protocol, sorted(set(self.ks)))

    def one(
        self, recommender: Recommender, dataset: Dataset, split: Split, *, run: Run, description: str | None = None
    ) -> Result:
        """One recommender, judged in the same way."""
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
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise PalateError(f"--ks {text}: not a list of cut-offs", "Give numbers of at least 1, such as --ks 5,10,20.")
    return [int(part) for part in parts]
