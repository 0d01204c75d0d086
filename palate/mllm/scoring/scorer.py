"""Scores of a few answers to a prompt, in fp32, with the shared prefix of a user's prompts read once.

MLLM-MSR (arXiv 2408.09698) asks "yes or no?" for every candidate. The score here is the log-odds of the
first answer token, ``logit_yes - logit_no``, computed in fp32 from the last hidden state: probabilities in half
precision tie. The prompts of a user's candidates share their beginning, which goes through the model once: short ones
are packed into one row (:mod:`palate.mllm.scoring.packed`), and of longer ones the beginning's keys and values serve
every candidate.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from palate.errors import one_line
from palate.mllm.lm.chat_model import ChatModel, Encoded, padded
from palate.mllm.prompts.chat import Chat
from palate.mllm.scoring.agreement import disagreement
from palate.mllm.scoring.head import option_logits
from palate.mllm.scoring.image_cache import ImageFeatureCache
from palate.mllm.scoring.packed import pack as packed_row
from palate.mllm.scoring.packed import reach, takes_masks
from palate.mllm.scoring.prefix import Shared, positions_of, share

# Below this many shared tokens a second forward costs more than it saves.
_WORTH = 16
# Tokens of prompts that are packed: each costs attention to all others, those that it must not see included.
_PACKED = 1024
# A prompt this much longer than those that were compared is compared again: some attention has a window.
_LONGER = 1.25

# A way to the logits ``[prompts, answers]`` of prompts that share their beginning.
Way = Callable[[Shared, Tensor], Tensor]


class Scorer:
    """Logits of the first token of each answer.

    Args:
        model: in evaluation mode while it scores.
        rows: prompts that go through the model at a time.
        reuse: read a shared beginning once. Off: every prompt is read as a whole.
        pack: read short prompts that share their beginning as one row, where the model's attention allows it.
        remember: encode each picture once for the life of this object; its weights must not change meanwhile.
    """

    def __init__(
        self, model: ChatModel, *, rows: int = 32, reuse: bool = True, pack: bool = True, remember: bool = False
    ) -> None:
        self.model, self.rows, self.reuse = model, rows, reuse
        self.image_features = ImageFeatureCache(model) if remember else None
        self.prompts = self.tokens = 0
        self.seconds = 0.0
        self._packs, self._reach = pack and takes_masks(model), reach(model)
        self._checked: dict[tuple[bool, bool], int] = {}

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
        # Candidates that show nothing of their own (a probe without pictures) are one prompt.
        different = {chat: number for number, chat in enumerate(dict.fromkeys(chats))}
        was_training = self.model.model.training
        self.model.model.eval()
        try:
            with self.model.no_gradients(), self.model.explained_errors():
                shared = share(self.model, list(different))
                self.model.check_length(max(map(len, shared.wholes)))
                found = self._logits(shared, tokens)
        finally:
            self.model.model.train(was_training)
        self.prompts += len(chats)
        self.seconds += time.perf_counter() - began
        return found[[different[chat] for chat in chats]]

    def log_odds(self, chats: Sequence[Chat], yes: str, no: str) -> Tensor:
        """``logit_yes - logit_no`` of each chat: float32 ``[chats]``."""
        both = self.logits(chats, (yes, no))
        return both[:, 0] - both[:, 1]

    def _logits(self, shared: Shared, tokens: Tensor) -> Tensor:
        # Workers with sharded weights read each prompt as it is: what one of them falls back to, the others would miss.
        plain = not self.reuse or self.model.sharded
        if plain or len(shared.wholes) == 1 or len(shared.prefix) < _WORTH:
            return self._naive(shared.wholes, tokens)
        longest = max(map(len, shared.wholes))
        if self._packs and len(shared.rests) <= self.rows and shared.tokens <= _PACKED and longest <= self._reach:
            found, why = self._tried(self._packed, shared, tokens)
            if not why:
                return found
            self._packs = False  # without a warning: the other way asks less of a family
        found, why = self._tried(self._reusing, shared, tokens)
        return self._fall_back(shared, tokens, why) if why else found

    def _tried(self, way: Way, shared: Shared, tokens: Tensor) -> tuple[Tensor, str]:
        """The logits by a shorter way, and what is wrong with it, if anything.

        It is compared with the plain way once with and once without pictures (transformers' families differ), and for
        longer prompts again.
        """
        kind = way == self._packed, any(whole.pictures for whole in shared.wholes)
        longest = max(map(len, shared.wholes))
        try:
            found = way(shared, tokens)
            if longest > _LONGER * self._checked.get(kind, 0):
                difference, allowed = self._disagreement(shared, found, tokens, way)
                if not difference <= allowed:  # nor if it is NaN
                    return found, f"scores differently ({difference:.3g})"
                self._checked[kind] = longest
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # masks, caches and positions of families not laid out for it raise what they like
            return torch.empty(0), f"fails ({one_line(error)})"
        return found, ""

    def _fall_back(self, shared: Shared, tokens: Tensor, what: str) -> Tensor:
        self.reuse = False
        found = self._naive(shared.wholes, tokens)  # fails here too where the short way is not to blame
        warnings.warn(
            f"'{self.model.name}' ({self.model.family}) {what} where the shared part of prompts is read once; every "
            "prompt is read as a whole instead, which is slower.",
            stacklevel=5,
        )
        return found

    def _disagreement(self, shared: Shared, found: Tensor, tokens: Tensor, way: Way) -> tuple[float, float]:
        """The difference of the shortest and the longest prompt from the plain way, and the one allowed.

        A packed row is compared as it was scored, with all prompts in it.
        """
        lengths = [len(whole) for whole in shared.wholes]
        rows = sorted({lengths.index(min(lengths)), lengths.index(max(lengths))})
        wholes = [shared.wholes[row] for row in rows]
        some = Shared(shared.prefix, [shared.rests[row] for row in rows], wholes)
        if self.model.core.dtype == torch.float32 and self.model.device.type == "cpu":
            return disagreement(self.model, lambda: self._naive(wholes, tokens), lambda: found[rows])
        with self._without_memory():  # features of pictures in fp32 are for the comparison alone
            return disagreement(
                self.model,
                plain=lambda: self._naive(wholes, tokens),
                short=lambda: way(shared, tokens)[rows] if way == self._packed else way(some, tokens),
                again=lambda: torch.cat([self._naive([whole], tokens) for whole in wholes]),
            )

    @contextmanager
    def _without_memory(self) -> Iterator[None]:
        """Without features kept from before."""
        kept, self.image_features = self.image_features, None
        try:
            yield
        finally:
            self.image_features = kept

    def _naive(self, rows: Sequence[Encoded], tokens: Tensor) -> Tensor:
        """Every prompt as a whole, in batches of similar length."""
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        out = torch.empty(len(rows), len(tokens))
        for start in range(0, len(rows), self.rows):
            some = order[start : start + self.rows]
            batch = self.model.collate([rows[number] for number in some], "right")
            self.tokens += int(batch["attention_mask"].sum())
            out[some] = self._read(batch, [len(rows[number]) for number in some], tokens)[0]
        return out

    def _packed(self, shared: Shared, tokens: Tensor) -> Tensor:
        """The shared prefix and the rest of every prompt as one row."""
        batch, ends = packed_row(self.model, [shared])
        self.tokens += shared.tokens
        return self._run(batch, ends, tokens)[0][0]

    def _reusing(self, shared: Shared, tokens: Tensor) -> Tensor:
        """The shared prefix once, then the rest of every prompt on top of its keys and values."""
        positions = positions_of(self.model, shared.wholes)
        prefix = self.model.collate([shared.prefix])
        read = len(shared.prefix)
        self.tokens += read
        more = _slice(positions[0] if positions else None, 0, read)
        first = self._read(prefix, [read], tokens, use_cache=True, **more)[1]
        out = torch.empty(len(shared.rests), len(tokens))
        order = sorted(range(len(shared.rests)), key=lambda number: len(shared.rests[number]))
        for start in range(0, len(order), self.rows):
            some = order[start : start + self.rows]
            rests = [shared.rests[number] for number in some]
            batch = self.model.collate(rests, "right")
            self.tokens += int(batch["attention_mask"].sum())
            ones = batch["attention_mask"].new_ones(len(some), read)
            batch["attention_mask"] = torch.cat([ones, batch["attention_mask"]], dim=1)
            cache = copy.deepcopy(first.past_key_values)  # the forward appends to it
            cache.batch_repeat_interleave(len(some))
            more = _stack([positions[number] for number in some], read, max(map(len, rests))) if positions else {}
            lengths = [len(rest) for rest in rests]
            out[some] = self._read(batch, lengths, tokens, use_cache=True, past_key_values=cache, **more)[0]
        return out

    def _read(
        self, batch: dict[str, Tensor], lengths: Sequence[int], tokens: Tensor, **more: Any
    ) -> tuple[Tensor, Any]:
        """Logits ``[B, answers]`` at the end of right-padded rows, on the CPU, and what the model returned."""
        more = {key: value.to(self.model.device) if isinstance(value, Tensor) else value for key, value in more.items()}
        logits, made = self._run(batch, torch.tensor(lengths)[:, None] - 1, tokens, **more)
        return logits[:, 0], made

    def _run(self, batch: dict[str, Tensor], ends: Tensor, tokens: Tensor, **more: Any) -> tuple[Tensor, Any]:
        """Logits ``[B, prompts, answers]`` at the ends (``[B, prompts]``) of prompts, on the CPU, and what the model
        returned."""
        core = self.model.core
        inputs: dict[str, Any] = {key: value.to(core.device) for key, value in batch.items()}
        for key, value in inputs.items():
            if value.is_floating_point():
                inputs[key] = value.to(core.dtype)
        if self.image_features is not None and not self.model.sharded:
            inputs = self.image_features.encode_images(inputs)
        logits, made = option_logits(self.model, {**inputs, "use_cache": False, **more}, ends, tokens)
        return logits.cpu(), made


def _slice(positions: Tensor | None, start: int, stop: int) -> dict[str, Tensor]:
    return {} if positions is None else {"position_ids": positions[:, None, start:stop]}


def _stack(positions: Sequence[Tensor], start: int, longest: int) -> dict[str, Tensor]:
    """Positions of the rest of each row: ``[3, B, longest]``; those of padding do not matter."""
    axes = [padded([row[axis, start:] for row in positions], 0, "right") for axis in range(positions[0].shape[0])]
    assert axes[0].shape[1] == longest
    return {"position_ids": torch.stack(axes)}
