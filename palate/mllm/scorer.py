"""The Scorer: how likely a model finds each of a few answers, in fp32, with a user's prompts read only once.

MLLM-MSR (arXiv 2408.09698) asks "yes or no?" for every candidate. The score here is the log-odds of the
first answer token, ``logit_yes - logit_no``, computed in fp32 from the last hidden state: probabilities in half
precision tie. All candidates of a user share the beginning of their prompts, which goes through the model once; its
keys and values serve every candidate.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from palate.mllm.chat import Chat
from palate.mllm.eyes import Eyes
from palate.mllm.head import option_logits
from palate.mllm.model import ChatModel, Encoded, padded
from palate.mllm.prefix import Shared, places_of, share

# Below this many shared tokens a second forward costs more than it saves.
_WORTH = 16
# How far the two ways of reading a prompt may differ before the short one is given up: logits in fp32, differences
# between answers in half precision (what moves all logits alike moves no score), per unit of
# their size, or 1.
# bfloat16 keeps 8 bits: a rounding is off by 2^-8 / sqrt(3) = 0.2% on average, and 80 layers that round the residual
# stream twice each, at random, by 0.2% * sqrt(160) = 3%; two readings differ by 4% of the differences' size, and
# rounding within the layers adds as much again. Three times that is an error, not noise. float16 keeps 3 bits more.
_CLOSE = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.25 / 8}
_LARGE = 10.0  # a model's logits are about so large; where they are larger, so are errors of fp32


class Scorer:
    """Logits of the first token of given answers.

    Args:
        model: in evaluation mode while it scores.
        rows: prompts that go through the model at a time.
        reuse: read a shared beginning once. Off: every prompt is read as a whole (the naive way).
        remember: look at a picture once, for as long as this object lives; its weights must not change meanwhile.
    """

    def __init__(self, model: ChatModel, *, rows: int = 32, reuse: bool = True, remember: bool = False) -> None:
        self.model, self.rows, self.reuse = model, rows, reuse
        self.eyes = Eyes(model) if remember else None
        self.prompts = self.tokens = 0
        self.seconds = 0.0
        self._checked: set[bool] = set()

    def logits(self, chats: Sequence[Chat], answers: Sequence[str]) -> Tensor:
        """Logits of the first token of each answer after each chat: float32 ``[chats, answers]``, on the CPU.

        Raises:
            PalateError: two answers begin with the same token, which makes them indistinguishable here; a prompt is
                longer than what the model reads.
        """
        if not chats:
            return torch.empty(0, len(answers))
        began = time.perf_counter()
        tokens = self.model.first_tokens(chats[0], answers)
        was_training = self.model.model.training
        self.model.model.eval()
        try:
            with torch.inference_mode():
                shared = share(self.model, chats)
                self.model.check_length(max(map(len, shared.wholes)))
                found = self._logits(shared, tokens)
        finally:
            self.model.model.train(was_training)
        self.prompts += len(chats)
        self.seconds += time.perf_counter() - began
        return found

    def log_odds(self, chats: Sequence[Chat], yes: str, no: str) -> Tensor:
        """``logit_yes - logit_no`` of each chat: float32 ``[chats]``."""
        both = self.logits(chats, (yes, no))
        return both[:, 0] - both[:, 1]

    def _logits(self, shared: Shared, tokens: Tensor) -> Tensor:
        if not self.reuse or len(shared.wholes) == 1 or len(shared.prefix) < _WORTH:
            return self._naive(shared.wholes, tokens)
        found = self._reusing(shared, tokens)
        kind = any(whole.pictures for whole in shared.wholes)
        if kind not in self._checked:  # once with and once without pictures: transformers' families differ
            self._checked.add(kind)
            apart, allowed = self._apart(shared, found, tokens)
            if not apart <= allowed:  # nor if it is no number
                warnings.warn(
                    f"'{self.model.name}' ({self.model.family}) scores differently ({apart:.3g}) where the shared part "
                    "of prompts is read once; every prompt is read as a whole instead, which is slower.",
                    stacklevel=4,
                )
                self.reuse = False
                return self._naive(shared.wholes, tokens)
        return found

    def _apart(self, shared: Shared, found: Tensor, tokens: Tensor) -> tuple[float, float]:
        """How far the shortest and the longest prompt score from the naive way, and how far they may."""
        lengths = [len(whole) for whole in shared.wholes]
        rows = sorted({lengths.index(min(lengths)), lengths.index(max(lengths))})
        return self.apart(self._naive([shared.wholes[row] for row in rows], tokens), found[rows])

    def apart(self, naive: Tensor, other: Tensor) -> tuple[float, float]:
        """How far two readings ``[prompts, answers]`` of the same prompts lie apart, and how far they may."""
        dtype = self.model.core.dtype
        if dtype == torch.float32:
            size = float(naive.abs().max()) / _LARGE
        else:
            naive, other = (one - one.mean(dim=1, keepdim=True) for one in (naive, other))
            size = float(naive.abs().max())
        return float((naive - other).abs().max()), _CLOSE.get(dtype, _CLOSE[torch.bfloat16]) * max(1.0, size)

    def _naive(self, rows: Sequence[Encoded], tokens: Tensor) -> Tensor:
        """Every prompt as a whole, in batches of similar length."""
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        out = torch.empty(len(rows), len(tokens))
        for start in range(0, len(rows), self.rows):
            some = order[start : start + self.rows]
            batch = self.model.collate([rows[number] for number in some], "right")
            self.tokens += int(batch["attention_mask"].sum())
            hidden = self._forward(batch).last_hidden_state
            last = _at_the_end(hidden, [len(rows[number]) for number in some])
            out[some] = option_logits(self.model, last, tokens).cpu()
        return out

    def _reusing(self, shared: Shared, tokens: Tensor) -> Tensor:
        """The shared beginning once, then what is left of every prompt on top of its keys and values."""
        places = places_of(self.model, shared.wholes)
        prefix = self.model.collate([shared.prefix])
        read = len(shared.prefix)
        self.tokens += read
        first = self._forward(prefix, use_cache=True, **_slice(places[0] if places else None, 0, read))
        out = torch.empty(len(shared.rests), len(tokens))
        order = sorted(range(len(shared.rests)), key=lambda number: len(shared.rests[number]))
        for start in range(0, len(order), self.rows):
            some = order[start : start + self.rows]
            rests = [shared.rests[number] for number in some]
            batch = self.model.collate(rests, "right")
            self.tokens += int(batch["attention_mask"].sum())
            ones = batch["attention_mask"].new_ones(len(some), read)
            batch["attention_mask"] = torch.cat([ones, batch["attention_mask"]], dim=1)
            memory = copy.deepcopy(first.past_key_values)  # the forward appends to it
            memory.batch_repeat_interleave(len(some))
            more = _stack([places[number] for number in some], read, max(map(len, rests))) if places else {}
            hidden = self._forward(batch, use_cache=True, past_key_values=memory, **more).last_hidden_state
            last = _at_the_end(hidden, [len(rest) for rest in rests])
            out[some] = option_logits(self.model, last, tokens).cpu()
        return out

    def _forward(self, batch: dict[str, Tensor], **more: Any) -> Any:
        """The model below its head."""
        core = self.model.core
        there: dict[str, Any] = {key: value.to(core.device) for key, value in batch.items()}
        for key, value in there.items():
            if value.is_floating_point():
                there[key] = value.to(core.dtype)
        if self.eyes is not None:
            there = self.eyes.look(there)
        more = {key: value.to(core.device) if isinstance(value, Tensor) else value for key, value in more.items()}
        return core.base_model(**there, **{"use_cache": False, **more})


def _at_the_end(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
    """The last real position of right-padded rows: ``[B, longest, width]`` -> ``[B, width]``."""
    last = torch.tensor(lengths, device=hidden.device) - 1
    return hidden[torch.arange(len(last), device=hidden.device), last]


def _slice(places: Tensor | None, start: int, stop: int) -> dict[str, Tensor]:
    return {} if places is None else {"position_ids": places[:, None, start:stop]}


def _stack(places: Sequence[Tensor], start: int, longest: int) -> dict[str, Tensor]:
    """Positions of what is left of each row: ``[3, B, longest]``; those of padding do not matter."""
    axes = [padded([row[axis, start:] for row in places], 0, "right") for axis in range(places[0].shape[0])]
    assert axes[0].shape[1] == longest
    return {"position_ids": torch.stack(axes)}
