"""One forward of alignment: pairs under the policy and the reference, and their loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from palate.mllm.alignment.loss import PairLoss
from palate.mllm.alignment.pairs import PairData
from palate.mllm.finetune.collate import numbers_of
from palate.mllm.finetune.option_loss import AnswerLogits, CaseCollator
from palate.mllm.finetune.trainer import LossSum, StepLoss
from palate.mllm.lm.chat_model import IGNORED


class CaseNumbers:
    """A collator that leaves numbers of cases as they are: which items a case rejects depends on its step.

    Args:
        each: pairs (rows of the loss) per case.
    """

    def __init__(self, each: int) -> None:
        self.each = each

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        numbers, learnt = numbers_of(rows)
        # Trainer counts what a step learns from.
        counted = torch.full((len(numbers) * self.each,), 0 if learnt else IGNORED)
        return {"rows": torch.tensor(numbers), "labels": counted, "shift_labels": counted}


class AlignmentLoss(StepLoss):
    """The loss of the pairs that a step meets, and the means of their diagnostics.

    Args:
        data: the pairs of a step.
        loss: made of them.
        logits: the policy's.
        packed: read a case's prompts as one row.
        watch_every: diagnostics that cost another forward are computed at every N-th.
    """

    def __init__(self, data: PairData, loss: PairLoss, logits: AnswerLogits, *, packed: bool, watch_every: int) -> None:
        self.data, self.loss, self.logits = data, loss, logits
        self.packed, self.watch_every = packed, watch_every
        self.sums: dict[str, float] = defaultdict(float)
        self.counts: dict[str, int] = defaultdict(int)

    def __call__(self, trainer: Any, model: Any, batch: dict[str, Any]) -> LossSum:
        now, forward = self.data(trainer.state.global_step), trainer.forward_number()
        cases = batch["rows"].cpu()
        collate = CaseCollator(self.logits.chat_model, now.examples, self.packed)
        prompts = collate([{"row": int(case)} for case in cases])
        right = prompts["labels"].view(len(cases), -1).to(trainer.args.device)
        watched, clean = forward % self.watch_every == 0, None
        if self.loss.noise is not None:
            if watched:  # no noise reaches a model in evaluation mode
                model.eval()
                with torch.no_grad():
                    clean = self.logits(model, prompts).reshape(*right.shape, -1)
                model.train()
            self.loss.noise.draw(forward)
        logits = self.logits(model, prompts).reshape(*right.shape, -1)
        learnt = len(cases) if bool((batch["labels"] != IGNORED).all()) else 0  # no pairs of a batch of fillers
        cases, logits, right = cases[:learnt], logits[:learnt], right[:learnt]
        clean = None if clean is None else clean[:learnt]
        losses, facts = self.loss(now, cases, logits, right, forward, clean=clean, watched=watched)
        for key, value in facts.items() if learnt else ():
            self.sums[key] += value
            self.counts[key] += 1
        return LossSum(losses.sum(), len(losses), prompts["read"])

    def facts(self) -> dict[str, float]:
        state = self.state()
        self.sums.clear()
        self.counts.clear()
        return {key: total / state["counts"][key] for key, total in state["sums"].items()}

    def state(self) -> dict[str, Any]:
        from accelerate.utils import gather_object

        sums: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for worker_sums, worker_counts in gather_object([(dict(self.sums), dict(self.counts))]):
            for key, value in worker_sums.items():
                sums[key] += value
                counts[key] += worker_counts[key]
        return {"sums": dict(sums), "counts": dict(counts)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.sums.update(state["sums"])
        self.counts.update(state["counts"])
