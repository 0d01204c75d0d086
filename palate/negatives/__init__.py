"""Negatives: how the items are chosen that were not the answer.

A strategy is one file here and one line below, or an entry point of the group ``palate.negatives``: a subclass of
:class:`palate.negatives.base.NegativeStrategy`. All that draws takes its names from here: the losses of rankers
(:mod:`palate.objectives.negatives`), alignment of rankers and of language models, fine-tuning, and sampled evaluation.
Draws for the batches of a ranker are made here, in tensors; different items for single cases are drawn by
:mod:`palate.data.negatives`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palate.registry import Registry

if TYPE_CHECKING:
    from palate.negatives.base import NegativeStrategy

NEGATIVES: Registry[type[NegativeStrategy]] = Registry(
    "negatives",
    {
        "uniform": "palate.negatives.uniform:Uniform",
        "popularity": "palate.negatives.popularity:PopularityNegatives",
        "in-batch": "palate.negatives.in_batch:InBatch",
        "hard": "palate.negatives.hard:Hard",
        "top-k": "palate.negatives.top_k:TopK",
        "mixed": "palate.negatives.mixed:Mixed",
        "disliked": "palate.negatives.disliked:Disliked",
        "shown": "palate.negatives.shown:Shown",
    },
    noun="negative strategy",
)
