"""Auxiliary losses and facts of one forward pass, beside its hidden states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from palate.objectives.base import Scores


@dataclass
class AuxiliaryLosses:
    """Collects the penalties and facts of one forward pass.

    Each pass has a collector of its own, handed down as an argument, so that nothing is left in the modules: two
    passes before one backward, one of them in eval mode, do not disturb each other.

    Attributes:
        penalties: scalars of layers to minimise, with gradients.
        facts: numbers for the log, one per layer that gives them.
    """

    penalties: list[Tensor] = field(default_factory=list)
    facts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, penalty: Tensor, facts: Mapping[str, float]) -> None:
        """Add the penalty and the facts of one layer."""
        self.penalties.append(penalty)
        for name, value in facts.items():
            self.facts[name].append(value)

    def attach(self, scores: Scores) -> Scores:
        """The scores with the sum of the penalties and the mean of each fact; as they are without any."""
        if not self.penalties:
            return scores
        means = {name: sum(values) / len(values) for name, values in self.facts.items()}
        penalty = sum(self.penalties[1:], start=self.penalties[0])
        return replace(scores, penalty=penalty, facts={**scores.facts, **means})
