"""Weighted means of named numbers, which merge: those of several workers are one worker's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


def _zeros() -> dict[str, float]:
    return defaultdict(float)


@dataclass
class RunningMeans:
    """Means so far.

    Attributes:
        sums: of value times weight, by name.
        weights: by name; not every name comes with every step.

    >>> means = RunningMeans()
    >>> means.add({"loss": 2.0}, 3)
    >>> means.add({"loss": 1.0, "accuracy": 0.5}, 1)
    >>> means.values(), RunningMeans.merged([means, means]).weights["loss"]
    ({'loss': 1.75, 'accuracy': 0.5}, 8.0)
    """

    sums: dict[str, float] = field(default_factory=_zeros)
    weights: dict[str, float] = field(default_factory=_zeros)

    @classmethod
    def of(cls, sums: Mapping[str, float], weights: Mapping[str, float]) -> RunningMeans:
        return cls(defaultdict(float, sums), defaultdict(float, weights))

    @classmethod
    def merged(cls, parts: Iterable[RunningMeans]) -> RunningMeans:
        whole = cls()
        for part in parts:
            for name, value in part.sums.items():
                whole.sums[name] += value
                whole.weights[name] += part.weights[name]
        return whole

    def add(self, values: Mapping[str, float], weight: float) -> None:
        for name, value in values.items():
            self.sums[name] += weight * value
            self.weights[name] += weight

    def mean(self, name: str) -> float:
        """The mean so far of one number; 0 before there is any."""
        return self.sums.get(name, 0.0) / max(1.0, self.weights.get(name, 0.0))

    def values(self) -> dict[str, float]:
        return {name: value / max(1.0, self.weights[name]) for name, value in self.sums.items()}
