"""Fine-tuning on the answers that are allowed, weighed against each other: what scoring compares, and nothing else.

The other loss (:mod:`palate.mllm.finetune.token_loss`) weighs an answer against all words there are, and a model that
would rather say something else first learns to say Yes or No at all. This one is the cross-entropy of the right answer
among ``logit_yes, logit_no`` (or the letters of ``choose``): for ``yes-no``, ``softplus(-s)`` of a target and
``softplus(s)`` of another item, ``s`` being the score of MLLM-MSR (arXiv 2408.09698). It needs no tokens of an answer,
so that the prompts of a case, which differ in their candidate only, can be packed into one row
(:mod:`palate.mllm.scoring.packed`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from palate.errors import PalateError, one_line
from palate.mllm.finetune.collate import numbers_of
from palate.mllm.finetune.examples import Examples
from palate.mllm.finetune.trainer import LossSum, StepLoss
from palate.mllm.lm.chat_model import IGNORED, ChatModel
from palate.mllm.scoring.agreement import disagreement
from palate.mllm.scoring.head import option_logits
from palate.mllm.scoring.image_cache import ImageFeatureCache
from palate.mllm.scoring.packed import pack, takes_masks, unpacked
from palate.mllm.scoring.prefix import Shared, share
from palate.mllm.scoring.scorer import Scorer

# Entries of a batch beside the model's arguments.
_OWN = ("ends", "labels", "shift_labels", "read")


class CaseCollator:
    """From numbers of cases to tensors: the model's arguments, where prompts end, and which answer is right.

    Args:
        packed: the prompts of a case as one row.
    """

    def __init__(self, model: ChatModel, examples: Examples, packed: bool) -> None:
        self.model, self.examples = model, examples
        self.packed, self.lay_out = packed, pack if packed else unpacked
        self.dtype = model.core.dtype

    def __call__(self, rows: Sequence[Mapping[str, int]]) -> dict[str, Tensor]:
        """``ends`` int64 ``[B, prompts]``; ``labels`` likewise, the place of the right answer among those allowed, or
        ``IGNORED`` where nothing is learnt.

        ``shift_labels`` is ``labels`` again, under the name by which Trainer counts what a step learns from.
        """
        numbers, learnt = numbers_of(rows)
        cases = [self.examples.case(number) for number in numbers]
        shared = [share(self.model, chats) for chats, _ in cases]
        batch, ends = self.lay_out(self.model, shared)
        labels = torch.tensor([right for _, right in cases]).view(ends.shape)
        if not learnt:
            labels.fill_(IGNORED)
        read = torch.tensor(sum(self._read(one) for one in shared))
        # Pictures come in fp32 from every processor; not every vision tower casts them itself.
        cast = {
            name: value.to(self.dtype) if torch.is_floating_point(value) else value for name, value in batch.items()
        }
        return {**cast, "ends": ends, "labels": labels, "shift_labels": labels, "read": read}

    def _read(self, case: Shared) -> int:
        """Tokens of a case that go through the model."""
        return case.tokens if self.packed else sum(map(len, case.wholes))


def arguments(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """The entries of a batch that the model takes, on its device."""
    return {key: value.to(device) for key, value in batch.items() if key not in _OWN}


def logits_of(model: Any, chat_model: ChatModel, inputs: Mapping[str, Any], ends: Tensor, tokens: Tensor) -> Tensor:
    """Logits of the allowed answers after each prompt of a batch, with gradients: float32 ``[B, prompts, answers]``.

    Args:
        model: what is called: ``chat_model``'s, or a wrapper around it (distributed training).
        inputs: the model's arguments.
        ends: int64 ``[B, prompts]``, the last token of each prompt.
        tokens: int64 ``[answers]``, the first token of each answer.
    """
    return option_logits(chat_model, {**inputs, "use_cache": False}, ends, tokens, run=model)[0]


def can_pack(model: ChatModel, examples: Examples) -> bool:
    """Whether packed prompts score as they do on their own; warns where they should but do not.

    Tried on a few cases: the first, the longest (attention of some families reaches so far and no further), and one
    with pictures (that of others differs there).

    Raises:
        PalateError: the model scores differently in training than in evaluation, packed or not.
    """
    cases = _cases_to_compare(examples)
    why = ""
    if takes_masks(model):
        try:
            compared = [_apart(model, examples, case, packed=True) for case in cases]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # masks and positions of families that are not laid out for it raise what they like
            why = f" ({one_line(error)})"
        else:
            if all(found <= allowed for found, allowed in compared):
                return True
            why = f" ({max(found for found, _ in compared):.3g})"
    for case in cases:
        with model.explained_errors():
            found, allowed = _apart(model, examples, case, packed=False)
        if not found <= allowed:  # nor if it is no number
            raise PalateError(
                f"'{model.name}' ({model.family}) scores differently in training than in evaluation ({found:.3g})",
                "Use --loss tokens, or a model of a family that is tested (docs/mllm-models.md).",
            )
    if why:
        warnings.warn(
            f"'{model.name}' ({model.family}) answers differently{why} where prompts are packed; each is read on its "
            "own instead, which is slower.",
            stacklevel=2,
        )
    return False


def _cases_to_compare(examples: Examples) -> list[int]:
    longest = int(np.argmax(examples.sizes)) // examples.each
    cases = range(len(examples.questions))
    pictured = next((case for case in cases if any(chat.pictures for chat in examples.case(case)[0])), 0)
    return sorted({0, longest, pictured})


def _apart(model: ChatModel, examples: Examples, case: int, *, packed: bool) -> tuple[float, float]:
    """How far training's logits of a case are from the scorer's, and how far they may be."""
    chats, answers = examples.case(case)[0], examples.answers

    def naive(rows: int) -> Tensor:
        return Scorer(model, rows=rows, reuse=False).logits(chats, answers)

    def found() -> Tensor:
        batch = CaseCollator(model, examples, packed)([{"row": case}])
        return AnswerLogits(model, examples)(model.model, batch).reshape(len(chats), -1).cpu()

    training = model.model.training
    model.model.eval()
    try:
        with torch.inference_mode():
            return disagreement(model, plain=lambda: naive(32), short=found, again=lambda: naive(1))
    finally:
        model.model.train(training)


class AnswerLogits:
    """Logits of the answers that examples allow, with gradients.

    Args:
        remember: the features of pictures stay what they are: compute them once per picture.
    """

    def __init__(self, chat_model: ChatModel, examples: Examples, *, remember: bool = False) -> None:
        self.chat_model = chat_model
        self.tokens = chat_model.first_tokens(examples[0][0], examples.answers)
        self.pictures = ImageFeatureCache(chat_model) if remember else None

    def __call__(self, model: Any, batch: Mapping[str, Any]) -> Tensor:
        """float32 ``[B, prompts, answers]`` of a batch of :class:`CaseCollator`; ``model``: see :func:`logits_of`."""
        inputs = arguments(batch, self.chat_model.device)
        if self.pictures is not None:
            inputs = self.pictures.encode_images(inputs)
        return logits_of(model, self.chat_model, inputs, batch["ends"], self.tokens)


class OptionLoss(StepLoss):
    """Cross-entropy of the right answer among those allowed."""

    def __init__(self, logits: AnswerLogits) -> None:
        self.logits = logits

    def __call__(self, trainer: Any, model: Any, batch: dict[str, Any]) -> LossSum:
        logits, right = self.logits(model, batch), batch["labels"]
        total = cross_entropy(logits.flatten(0, 1), right.flatten(), reduction="sum", ignore_index=IGNORED)
        return LossSum(total, (right != IGNORED).sum(), batch["read"])
