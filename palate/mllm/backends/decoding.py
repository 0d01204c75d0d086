"""How a local model generates: what is done to its logits, and the tokens that end an answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from palate.mllm.lm.chat_model import ChatModel


def generator(seed: int, *what: str) -> torch.Generator:
    """A generator that depends on the seed and ``what`` it is for, and on nothing else."""
    hashed = hashlib.sha256("\0".join([str(seed), *what]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(hashed[:8], "big") >> 1)


class Sampling:
    """Turns the greedy choice into sampling at a temperature, with one generator per row.

    ``argmax(logits / T + Gumbel noise)`` is a draw from ``softmax(logits / T)`` (Gumbel 1954), so the choice of a row
    depends on its own generator and not on who shares its batch.
    """

    def __init__(self, temperature: float, generators: Sequence[torch.Generator]) -> None:
        self.temperature, self.generators = temperature, generators

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Logits float ``[B, vocabulary]`` -> the same with noise."""
        noise = torch.stack(
            [torch.empty(logits.shape[1]).exponential_(generator=one).log().neg() for one in self.generators]
        )
        return logits.float() / self.temperature + noise.to(logits.device)


class NoRepeatNgram:
    """Keeps an answer from looping, and from ending at once. The prompt may be quoted.

    Args:
        prompt: its length in tokens, padding included.
        ends: tokens that end an answer.
        size: the number of tokens in a row that may not come a second time; 2 or more.
        shortest: tokens of an answer before it may end.
    """

    def __init__(self, prompt: int, ends: Sequence[int], size: int = 3, shortest: int = 0) -> None:
        self.prompt, self.ends, self.size, self.shortest = prompt, list(ends), size, shortest

    def __call__(self, ids: Tensor, logits: Tensor) -> Tensor:
        """Token ids int64 ``[B, so far]`` and logits ``[B, vocabulary]`` -> logits with forbidden tokens at -inf."""
        logits = logits.clone()
        written = ids[:, self.prompt :].tolist()
        if len(written[0]) < self.shortest:
            logits[:, self.ends] = -torch.inf
        for number, row in enumerate(written):
            lead = row[len(row) - self.size + 1 :]
            again = [
                row[start + self.size - 1]
                for start in range(len(row) - self.size + 1)
                if row[start : start + self.size - 1] == lead and row[start + self.size - 1] not in self.ends
            ]
            logits[number, again] = -torch.inf
        return logits


def end_tokens(model: ChatModel) -> list[int]:
    """Every token that ends an answer: the checkpoint's, the tokenizer's, and the one that its chat template writes."""
    found: list[int] = []
    for source in (getattr(model.core, "generation_config", None), model.tokenizer):
        ids = getattr(source, "eos_token_id", None)
        found += [] if ids is None else [int(ids)] if isinstance(ids, int) else [int(one) for one in ids]
    turn = model.chat_template.end_of_turn
    return list(dict.fromkeys([*found, *([] if turn is None else [turn])]))


@contextmanager
def plain_defaults(core: Any) -> Iterator[None]:
    """Without a checkpoint's own settings of sampling (repetition penalty, top-p ...): ours are part of the answers'
    identity, its are not."""
    own = core.generation_config
    core.generation_config = type(own)()
    try:
        yield
    finally:
        core.generation_config = own
