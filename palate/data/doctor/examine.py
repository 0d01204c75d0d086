"""All checks in turn, and the report they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from palate.data.dataset import Dataset
from palate.data.doctor import content, dislikes, ids, impressions, order, pictures, population, splits, times
from palate.data.doctor.finding import Finding, Level
from palate.engines.base import Engine
from palate.engines.local import LOCAL

Check = Callable[[Dataset], list[Finding]]

# In the order in which they are reported. What looks items up comes after unknown_items, which stops the rest.
CHECKS: tuple[Check, ...] = (
    ids.undescribed_items,
    ids.left_out,
    splits.split_integrity,
    times.no_times,
    times.time_order,
    times.time_ties,
    order.id_order,
    times.future,
    splits.repeated_targets,
    splits.cold_targets,
    population.power,
    population.thin_users,
    population.thin_items,
    population.popularity,
    population.duplicate_interactions,
    population.duplicate_titles,
    dislikes.dislikes,
    impressions.impressions,
    content.missing_text,
    content.missing_pictures,
)


@dataclass(frozen=True)
class DoctorReport:
    """What the doctor found.

    Attributes:
        dataset: Name of the dataset.
        counts: Users, items and interactions.
        findings: In the order of the checks.
    """

    dataset: str
    counts: dict[str, int]
    findings: list[Finding]

    def worst(self) -> Level:
        """The gravest level among the findings."""
        return max((finding.level for finding in self.findings), key=list(Level).index, default=Level.OK)

    def passed(self, strict: bool = False) -> bool:
        """Whether there is no error (and, if strict, no warning)."""
        return self.worst() in ((Level.OK, Level.NOTE) if strict else (Level.OK, Level.NOTE, Level.WARNING))

    def __getitem__(self, check: str) -> Finding:
        """The first finding of a check."""
        return next(finding for finding in self.findings if finding.check == check)

    def to_dict(self) -> dict[str, Any]:
        """The report for machines: the keys are part of the interface."""
        levels = {str(level): sum(one.level is level for one in self.findings) for level in Level}
        return {
            "dataset": self.dataset,
            "counts": self.counts,
            "worst": str(self.worst()),
            "levels": levels,
            "findings": [finding.to_dict() for finding in self.findings],
        }


def examine(
    data: Dataset, *, look_at_pictures: bool = True, threads: int | None = None, engine: Engine = LOCAL
) -> DoctorReport:
    """Run every check.

    Args:
        look_at_pictures: Whether all pictures are decoded (a minute for some ten thousand).
        threads: Threads that decode; by default as many as there are processors, at most 8.
        engine: Where they are decoded; the report is the same.
    """
    findings = ids.unknown_items(data)
    if findings[0].level is not Level.ERROR:
        for check in CHECKS:
            findings += check(data)
        if look_at_pictures:
            findings += pictures.pictures(data, threads, engine)
    counts = {"users": data.num_users, "items": data.num_items, "interactions": len(data)}
    return DoctorReport(data.name, counts, findings)
