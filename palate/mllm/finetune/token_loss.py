"""Fine-tuning on the answer's tokens: TRL's loss, with the head computed at the answers only.

TRL's fused head leaves out positions without a label on GPUs with Triton; elsewhere it scores all of them, some 250 for
the two that matter, against the whole vocabulary. Here ``logits_to_keep`` picks them on every device. The loss is the
same (tests compare the two).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy

from palate.mllm.finetune.trainer import LossSum, StepLoss
from palate.mllm.lm.chat_model import IGNORED


def answer_positions(labels: Tensor) -> Tensor:
    """Positions whose next token is learnt in some row: int64 ``[P]`` for labels ``[B, tokens]``.

    >>> import torch
    >>> answer_positions(torch.tensor([[-100, -100, 5, 6], [-100, 7, 8, -100]])).tolist()
    [0, 1, 2]
    """
    return (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0]


def answer_loss(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the labelled tokens, in fp32, and how many they are."""
    labels = inputs["labels"]
    positions = answer_positions(labels)
    if not len(positions):  # nothing is learnt from this batch, and the model still takes part in the step
        positions = positions.new_zeros(1)
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "use_cache")}
    logits = model(**rest, use_cache=False, logits_to_keep=positions).logits  # [B, P, vocabulary]
    targets = labels[:, 1:][:, positions]
    loss = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return loss, (targets != IGNORED).sum()


class TokenLoss(StepLoss):
    """Cross-entropy of the answers' tokens among all tokens there are."""

    def __call__(self, trainer: Any, model: Any, batch: dict[str, Tensor]) -> LossSum | None:
        return LossSum(*answer_loss(model, batch), batch["attention_mask"].sum()) if trainer.picks else None
