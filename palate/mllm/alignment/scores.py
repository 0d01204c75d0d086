"""From the logits of allowed answers to the pairs that preference objectives see.

HaNoRec (arXiv 2511.18740) and DPO compare ``log pi(y|x)``. Of two answers to one prompt the normaliser cancels in the
difference, so logits do. Of two items (two prompts) ``s(x, y) = logit_yes - logit_no`` stands for the log-probability:
``Delta = (s+ - s-) - (s_ref+ - s_ref-)``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Kind = Literal["item", "answer", "choose"]


def scores_of(kind: Kind, logits: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of chosen and of rejected.

    Args:
        logits: ``[B, prompts, answers]``; of ``item`` and ``answer`` the target's prompt comes first and the answers
            are yes and no; of ``choose`` there is one prompt.
        right: int64 ``[B, prompts]``, the place of the right answer.

    Returns:
        ``[P]`` and ``[P, N]``: ``item``: one row per case, its other items rejected; ``answer``: one row per prompt,
        the other answer rejected; ``choose``: one row per case, all other letters rejected.

    >>> logits = torch.tensor([[[3.0, 1.0], [0.5, 1.0]]])
    >>> scores_of("item", logits, torch.tensor([[0, 1]]))
    (tensor([2.]), tensor([[-0.5000]]))
    >>> scores_of("answer", logits, torch.tensor([[0, 1]]))
    (tensor([3., 1.]), tensor([[1.0000],
            [0.5000]]))
    """
    if kind == "item":
        odds = logits[..., 0] - logits[..., 1]
        return odds[:, 0], odds[:, 1:]
    flat, chosen = logits.flatten(0, 1), right.flatten()
    # All answers but the right one, in their order.
    others = torch.arange(flat.shape[1] - 1, device=flat.device).expand(len(flat), -1)
    others = others + (others >= chosen[:, None])
    return flat.gather(1, chosen[:, None])[:, 0], flat.gather(1, others)


def items_of(kind: Kind, items: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The items behind :func:`scores_of`'s rows: whose likeness is the hardness of a pair.

    An ``answer`` pair has one item in its prompt. We take it as the target against that item; for the target's own
    prompt, as the target against each of the others (the mean counts), as the paper averages over a sample's pairs.

    Args:
        items: int64 ``[B, 1 + others]``, the target first; of ``choose``, as they are listed.

    Returns:
        int64 ``[P]`` and ``[P, M]``; ``M`` is 1 + others - 1 for all kinds.
    """
    if kind == "item":
        return items[:, 0], items[:, 1:]
    if kind == "choose":
        return scores_of("choose", items[:, None], right)
    count = items.shape[1]
    others = items[:, 1:].repeat_interleave(count, dim=0).view(len(items), count, count - 1).clone()
    for place in range(1, count):
        others[:, place] = items[:, place, None]
    return items[:, :1].expand(-1, count).flatten(), others.flatten(0, 1)


def log_probability(logits: Tensor, right: Tensor) -> Tensor:
    """``log softmax`` of the right answers among those allowed: ``[B, prompts]``."""
    return logits.log_softmax(-1).gather(-1, right[..., None])[..., 0]
