"""Maximal marginal relevance: lists whose items are good and unlike one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor


def diversify(scores: Sequence[float], vectors: Tensor, k: int, diversity: float) -> list[int]:
    """Choose ``k`` of the ``n`` best items one after the other.

    The next is the one with the largest ``(1 - diversity) * relevance - diversity * similarity``, where relevance is
    the score scaled to 0..1 among the ``n``, and similarity the largest cosine with an item chosen before (Carbonell
    and Goldstein, "The use of MMR, diversity-based reranking", SIGIR 1998).

    Args:
        scores: best first.
        vectors: float ``[n, dim]``.

    Returns:
        Places in ``scores``, in the order of choice.

    >>> diversify([3.0, 2.9, 1.0], torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), k=2, diversity=0.5)
    [0, 2]
    >>> diversify([3.0, 2.9, 1.0], torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), k=2, diversity=0.0)
    [0, 1]
    """
    return list(islice(in_diverse_order(scores, vectors, diversity), k))


def in_diverse_order(scores: Sequence[float], vectors: Tensor, diversity: float) -> Iterator[int]:
    """The same choice without an end: places in ``scores``, each computed when it is asked for."""
    if not scores:
        return
    raw = torch.tensor(scores)
    spread = (raw.max() - raw.min()).clamp_min(1e-12)
    relevance = (raw - raw.min()) / spread
    unit = torch.nn.functional.normalize(vectors.float(), dim=1)
    similarity = torch.zeros_like(relevance)
    free = torch.ones_like(relevance, dtype=torch.bool)
    for number in range(len(scores)):
        worth = (1 - diversity) * relevance - (diversity * similarity if number else 0)
        best = int(torch.where(free, worth, -torch.inf).argmax())
        yield best
        cosine = unit @ unit[best]
        similarity = torch.maximum(similarity, cosine) if number else cosine
        free[best] = False
