"""One forward of alignment: pairs under the policy and the reference, and what a preference objective says of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.features.hardness import Hardness
from palate.mllm.alignment.noise import AdapterNoise
from palate.mllm.alignment.scores import Kind, items_of, log_probability, scores_of
from palate.mllm.finetune.examples import Examples
from palate.mllm.finetune.option_loss import CaseCollator, option_loss_trainer
from palate.objectives.preference import Pairs, Preference, describe, pair_weights
from palate.runs.workers import Gather

_LOGITS = 0x6C6F6769


@dataclass(frozen=True)
class Round:
    """The pairs that some steps learn from.

    Attributes:
        examples: the prompts.
        reference: float32 ``[cases, prompts, answers]``, the reference's logits.
        later: bool ``[cases, 1 + others]``, in the order of ``questions.candidates``: what the user takes later in
            training.
    """

    examples: Examples
    reference: Tensor
    later: Tensor


class RowCollator:
    """Numbers of cases stay numbers: which items a case rejects depends on the step it is met at.

    Args:
        each: pairs (rows of the loss) a case.
    """

    def __init__(self, each: int) -> None:
        self.each = each

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        numbers = torch.tensor([int(row["row"]) for row in rows])
        counted = torch.zeros(len(rows) * self.each, dtype=torch.long)  # Trainer counts what a step learns from
        return {"rows": numbers, "labels": counted, "shift_labels": counted}


@dataclass
class AlignStep:
    """What a trainer of alignment needs besides a model.

    Attributes:
        kind: which scores are compared.
        preference: the objective.
        hardness: a number a pair, for objectives that want it.
        round_of: the round of a step; it makes a new one when its time has come.
        packed: a case's prompts as one row.
        noise: on the adapter, or None.
        seed: of the noise on logits.
        watch_every: numbers that cost another forward are made at every so many.
        gather: joins what several workers found.
        worker: this one's number.
    """

    kind: Kind
    preference: Preference
    hardness: Hardness | None
    round_of: Callable[[int], Round]
    packed: bool
    noise: AdapterNoise | None
    seed: int
    watch_every: int
    gather: Gather | None = None
    worker: int = 0

    def pairs(self, now: Round, cases: Tensor, logits: Tensor, right: Tensor, forward: int) -> Pairs:
        """Pairs of the given cases from the policy's logits ``[B, prompts, answers]``.

        Args:
            cases: int64 ``[B]``.
            right: int64 ``[B, prompts]``.
            forward: its number: what is drawn depends on it.
        """
        device = logits.device
        chosen, rejected = scores_of(self.kind, logits, right)
        frozen = scores_of(self.kind, now.reference[cases.cpu()].to(device), right)
        seed = int(np.random.default_rng([self.seed, _LOGITS, forward, self.worker]).integers(2**62))
        known = self.preference.needs_reference
        pairs = Pairs(
            chosen,
            rejected,
            frozen[0] if known else None,
            frozen[1] if known else None,
            hardness=self._hardness(now, cases.cpu(), right.cpu(), device),
            generator=torch.Generator(device).manual_seed(seed),
        )
        return pairs if self.gather is None else replace(pairs, gather=self.gather)

    def _hardness(self, now: Round, cases: Tensor, right: Tensor, device: torch.device) -> Tensor | None:
        if self.hardness is None or not self.preference.needs_hardness:
            return None
        return pair_hardness(self.hardness, self.kind, listed_items(now.examples, cases), right).to(device)

    @torch.no_grad()
    def watch(self, now: Round, cases: Tensor, pairs: Pairs, clean: Tensor, right: Tensor) -> dict[str, float]:
        """Numbers of one forward, from clean logits ``[B, prompts, answers]``.

        ``chosen_drift``: mean of ``log pi - log pi_ref`` of the target's right answer, in nats. ``negatives_later``:
        share of the rejected items that the user takes later in training, and ``gradient_later``: the share of the
        preference gradient that they carry (item pairs).
        """
        frozen = now.reference[cases.cpu()].to(clean.device)
        drift = log_probability(clean, right) - log_probability(frozen, right)
        facts = {"chosen_drift": float(drift[:, 0].mean())}
        weights = pair_weights(self.preference, pairs)  # workers call this together
        if self.kind == "item":
            later = now.later[cases.cpu(), 1:].to(weights.device)
            facts["negatives_later"] = float(later.float().mean())
            facts["gradient_later"] = float((weights * later).sum() / weights.sum().clamp_min(1e-30))
        return facts


def listed_items(examples: Examples, cases: Tensor) -> Tensor:
    """int64 ``[B, 1 + others]``: candidates of cases in the order in which prompts show them."""
    questions = examples.questions
    if examples.prompter.options.task == "choose":
        return torch.tensor([list(questions.listed(int(case))[0]) for case in cases])
    return torch.from_numpy(questions.candidates[cases.numpy()].astype(np.int64))


def pair_hardness(hardness: Hardness, kind: Kind, items: Tensor, right: Tensor) -> Tensor:
    """Hardness of the pairs of :func:`~palate.mllm.alignment.scores.scores_of`: float32 ``[P, N]``."""
    found = hardness.of(*items_of(kind, items, right))
    return found.mean(1, keepdim=True) if kind == "answer" else found


@cache
def align_trainer() -> type[Any]:
    """The trainer's class (TRL takes seconds to import)."""

    class AlignTrainer(option_loss_trainer()):  # type: ignore[misc,unused-ignore]
        """The same sampler, counts and forward; the loss is a preference's.

        Attributes:
            step: what a forward is made into; set before training, for it needs to know the trainer's workers.
            learnt: ``[3]``: summed loss, pairs and tokens read since it was last emptied.
        """

        step: AlignStep

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.forwards = 0  # of the current step of the optimiser
            self.at = -1
            self.sums: dict[str, float] = defaultdict(float)
            self.counts: dict[str, int] = defaultdict(int)

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            step, now, forward = self.step, self.step.round_of(self.state.global_step), self._number()
            cases = inputs["rows"]
            collate = CaseCollator(self.chat_model, now.examples, step.packed)
            batch = collate([{"row": int(case)} for case in cases])
            right = batch["labels"].view(len(cases), -1).to(self.args.device)
            watched = forward % step.watch_every == 0
            clean = None
            if step.noise is not None:
                if watched:  # no noise reaches a model in evaluation mode
                    model.eval()
                    with torch.no_grad():
                        clean = self._logits(model, batch, right)
                    model.train()
                step.noise.draw(forward)
            logits = self._logits(model, batch, right)
            pairs = step.pairs(now, cases, logits, right, forward)
            found = step.preference(pairs)
            told = dict(found.diagnostics)
            if watched:
                told |= self._watched(step, now, cases, pairs, logits if clean is None else clean, right)
            if clean is not None:
                seen = step.pairs(now, cases, clean, right, forward)
                told |= describe(seen, step.preference.config.beta)
            elif step.noise is not None:
                told = {key: value for key, value in told.items() if key not in describe(pairs, 1.0)}
            self._note(told)
            total = found.losses.sum()
            self._count(total.detach(), len(found.losses), batch["read"])
            loss = total / (len(found.losses) if num_items_in_batch is None else num_items_in_batch)
            loss = loss * self._workers(num_items_in_batch)
            return (loss, logits) if return_outputs else loss

        def _logits(self, model: Any, batch: Mapping[str, Any], right: Tensor) -> Tensor:
            logits: Tensor = self.answers_to(model, batch)
            return logits.reshape(*right.shape, -1)

        def _watched(
            self, step: AlignStep, now: Round, cases: Tensor, pairs: Pairs, clean: Tensor, right: Tensor
        ) -> dict[str, float]:
            told = step.watch(now, cases, pairs, clean.detach(), right)
            if step.noise is not None and not math.isnan(ratio := step.noise.ratio()):
                told["noise_ratio"] = ratio
            return told

        def _number(self) -> int:
            """A number of this forward that a resumed run finds again."""
            step = self.state.global_step
            self.forwards = self.forwards + 1 if self.at == step else 0
            self.at = step
            return int(step * self.args.gradient_accumulation_steps + self.forwards)

        def _note(self, told: Mapping[str, float]) -> None:
            for key, value in told.items():
                self.sums[key] += value
                self.counts[key] += 1

        def kept(self) -> dict[str, Any]:
            """Sums and counts over all workers, which call this together."""
            from accelerate.utils import gather_object

            sums: dict[str, float] = defaultdict(float)
            counts: dict[str, int] = defaultdict(int)
            for told in gather_object([(dict(self.sums), dict(self.counts))]):
                for key, value in told[0].items():
                    sums[key] += value
                    counts[key] += told[1][key]
            return {"sums": dict(sums), "counts": dict(counts)}

        def restore(self, kept: Mapping[str, Any]) -> None:
            if self.accelerator.is_main_process:  # they are everybody's
                self.sums.update(kept["sums"])
                self.counts.update(kept["counts"])

        def facts(self) -> dict[str, float]:
            kept = self.kept()
            means = {key: total / kept["counts"][key] for key, total in kept["sums"].items()}
            self.sums.clear()
            self.counts.clear()
            return means

    return AlignTrainer
