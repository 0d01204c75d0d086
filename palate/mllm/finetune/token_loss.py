"""TRL's SFTTrainer with two changes: the head is asked at the answers only, and the order of examples is our own.

TRL's fused head leaves out positions without a label on GPUs with Triton; elsewhere it scores all of them, some 250 for
the two that matter, against the whole vocabulary. Here ``logits_to_keep`` picks them on every device. The loss is the
same (tests compare the two).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palate.mllm.finetune.collate import LengthBuckets
from palate.mllm.lm.chat_model import IGNORED


def answer_positions(labels: Tensor) -> Tensor:
    """Positions whose next token is learnt in some row: int64 ``[P]`` for labels ``[B, tokens]``.

    >>> answer_positions(torch.tensor([[-100, -100, 5, 6], [-100, 7, 8, -100]])).tolist()
    [0, 1, 2]
    """
    return (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0]


def answer_loss(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy of the labelled tokens, in fp32, and how many they are."""
    labels = inputs["labels"]
    kept = answer_positions(labels)
    rest = {name: value for name, value in inputs.items() if name not in ("labels", "use_cache")}
    logits = model(**rest, use_cache=False, logits_to_keep=kept).logits  # [B, P, vocabulary]
    wanted = labels[:, 1:][:, kept]
    loss = cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return loss, (wanted != IGNORED).sum()


@cache
def token_loss_trainer() -> type[Any]:
    """The trainer's class (TRL takes seconds to import)."""
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc,unused-ignore]
        """SFTTrainer for examples of known lengths.

        Attributes:
            learnt: ``[3]``: summed loss, tokens learnt and tokens read since it was last emptied.
        """

        def __init__(self, *args: Any, lengths: Sequence[int], **kwargs: Any) -> None:
            self.lengths = lengths
            super().__init__(*args, **kwargs)
            exact = torch.float32 if self.args.device.type == "mps" else torch.float64
            self.learnt = torch.zeros(3, dtype=exact, device=self.args.device)
            forward = inspect.signature(type(self.accelerator.unwrap_model(self.model).get_base_model()).forward)
            # A family that cannot keep some logits only, or has a loss of its own besides, is left to TRL.
            self.picks = "logits_to_keep" in forward.parameters and not self.aux_loss_enabled

        def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
            args = self.args
            size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            return LengthBuckets(self.lengths, size, args.seed, lambda: int(self.state.epoch or 0))

        def compute_loss(
            self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            read = inputs["attention_mask"].sum()
            if return_outputs or not self.picks:
                out = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
                tokens = (inputs["labels"][:, 1:] != IGNORED).sum()
                loss = out[0] if return_outputs else out
                share = 1.0 if num_items_in_batch is None else num_items_in_batch / tokens
                self._count(loss.detach() * tokens * share / self._workers(num_items_in_batch), tokens, read)
                return out
            total, tokens = answer_loss(model, inputs)
            self._count(total.detach(), tokens, read)
            # The mean over a step's tokens: Trainer counts them over all batches of the step and all devices.
            loss = total / (tokens if num_items_in_batch is None else num_items_in_batch)
            return loss * self._workers(num_items_in_batch)

        def facts(self) -> dict[str, float]:
            """Numbers for the log since this was last called, besides the loss."""
            return {}

        def kept(self) -> dict[str, Any]:
            """What a checkpoint holds for :meth:`facts`."""
            return {}

        def restore(self, kept: Mapping[str, Any]) -> None:
            """Go on from what :meth:`kept` gave."""

        def _workers(self, num_items_in_batch: Any) -> int:
            """By how much the loss is scaled up because gradients are averaged over devices."""
            counted = self.args.average_tokens_across_devices and num_items_in_batch is not None
            return int(self.accelerator.num_processes) if counted else 1

        def _count(self, loss: Tensor, learnt: Tensor | int, read: Tensor) -> None:
            if self.model.training:
                for place, one in enumerate((loss, learnt, read)):
                    self.learnt[place] += one

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Checkpoints need none; a run says what it is itself."""

    return AnswerTrainer
