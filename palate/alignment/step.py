"""One step of alignment: cross-entropy with dropout, and a preference loss on pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palate.alignment.config import AlignConfig
from palate.alignment.diagnostics import watch_pairs
from palate.alignment.pairs import PairBatch, PairDrawer, Places
from palate.alignment.reference import RandomState, Reference
from palate.features.hardness import Hardness
from palate.objectives import Batch, Loss, Objective, Scores
from palate.objectives.preference import Pairs, Preference
from palate.rankers.packing import PackedBatch
from palate.rankers.step import ObjectiveStep
from palate.runs.workers import Gather


class AlignStep:
    """Makes the loss of a batch: see :class:`palate.alignment.pairs.AlignConfig`.

    A difference between a policy under dropout and a clean reference would say more about the dropout than about
    preferences: either both are clean, or both are under the same masks.

    Args:
        objective: the cross-entropy part.
        preference: the preference part; None leaves it out.
        pairs: draws them.
        reference: frozen; objectives that need none are still measured against it.
        hardness: one number per pair, for objectives that need it.
        gather: joins a tensor over workers.
    """

    def __init__(
        self,
        config: AlignConfig,
        objective: Objective,
        preference: Preference | None,
        pairs: PairDrawer,
        reference: Reference | None,
        hardness: Hardness | None = None,
        gather: Gather | None = None,
    ) -> None:
        self.config, self.preference, self.pairs = config, preference, pairs
        self.usual = ObjectiveStep(objective)
        self.reference, self.hardness, self.gather = reference, hardness, gather

    def __call__(self, model: nn.Module, packed: PackedBatch, batch: Batch, places: Places, number: int) -> Loss | None:
        parts: list[Tensor] = []
        facts: dict[str, float] = {}
        preference = self.preference if self.config.weight else None
        shared = preference is not None and self.config.dropout == "shared"
        state = RandomState.of(packed.device) if shared else None
        scores: Scores | None = model(packed) if shared or self.config.cross_entropy else None
        if scores is not None and self.config.cross_entropy:
            usual = self.usual.loss(scores, batch)
            parts.append(self.config.cross_entropy * usual.value * batch.share)
            facts |= {"cross_entropy": float(usual.value.detach()), **usual.diagnostics}
        if preference is not None:
            drawn = self.pairs.draw(model, packed, batch, places, scores, shared)
            if drawn is not None:
                aligned = self._preference_loss(preference, drawn, batch, state, number)
                parts.append(self.config.weight * aligned.value)
                facts |= aligned.diagnostics
        return Loss(torch.stack(parts).sum(), facts) if parts else None

    def _preference_loss(
        self, preference: Preference, drawn: PairBatch, batch: Batch, state: RandomState | None, number: int
    ) -> Loss:
        scores = drawn.policy.at(drawn.items)
        watched = number % self.config.watch_every == 0
        known = None
        if self.reference is not None and (preference.needs_reference or watched):
            known = self.reference.scores(drawn.packed, drawn.token_places, state).take(drawn.rows)
        frozen = None if known is None or not preference.needs_reference else known.at(drawn.items)
        pairs = Pairs(
            scores[:, 0],
            scores[:, 1:],
            None if frozen is None else frozen[:, 0],
            None if frozen is None else frozen[:, 1:],
            drawn.rejected.valid,
            None if self.hardness is None else self.hardness.of(drawn.items[:, 0], drawn.items[:, 1:]),
            batch.generator,
            **({} if self.gather is None else {"gather": self.gather}),
        )
        facts = {}
        if watched:
            facts = watch_pairs(preference, pairs, drawn, known, batch.classes, self.pairs.future(drawn, batch))
        loss = preference(pairs)
        total = loss.losses.sum()
        rows_with_pairs = drawn.rejected.valid.any(1).sum()
        # The mean over the workers of what is minimised is the mean over the rows of all of them.
        by_worker = rows_with_pairs.view(1) if self.gather is None else self.gather(rows_with_pairs.view(1))
        value = total * len(by_worker) / by_worker.sum().clamp_min(1)
        own = {"preference": float(total.detach() / rows_with_pairs.clamp_min(1))} if len(drawn.rows) else {}
        return Loss(value, {**own, **loss.diagnostics, **facts})
