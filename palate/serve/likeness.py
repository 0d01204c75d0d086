"""Which items are alike: in a model's own vectors, or in the features of texts and pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.rankers.blend import Blend
from palate.rankers.item_knn import ItemKNN
from palate.recommender import Recommender
from palate.serve.index import top


def alike_by_vectors(vectors: Tensor, present: Tensor, item: int, k: int) -> tuple[list[int], list[float]]:
    """The ``k`` items with the largest cosine with ``item``, itself and padding left out.

    Args:
        vectors: float ``[num_items + 1, dim]``, of length 1.
        present: bool ``[num_items + 1]``; others are not compared.
    """
    cosine = (vectors @ vectors[item]).masked_fill(~present, -torch.inf)
    return _best(cosine, item, k)


def alike_by_users(model: Recommender, item: int, k: int) -> tuple[list[int], list[float]]:
    """The ``k`` nearest neighbours of a model that compares items by who took them."""
    compares = by_users(model)
    if compares is None:
        raise PalateError(
            f"'{model.name}' does not compare items", "Ask another model, or compare by text or image if it has these."
        )
    scores = compares.score([[item]])[0]
    return _best(scores.masked_fill(scores <= 0, -torch.inf), item, k)


def by_users(model: Recommender) -> ItemKNN | None:
    """The item-knn that a model is or, in a blend, has as a part."""
    parts = model.parts if isinstance(model, Blend) else (model,)
    return next((part for part in parts if isinstance(part, ItemKNN)), None)


def _best(scores: Tensor, item: int, k: int) -> tuple[list[int], list[float]]:
    scores[[0, item]] = -torch.inf
    items, values = top(scores.unsqueeze(0), min(k, len(scores) - 1))
    kept = items[0] > 0
    return items[0][kept].tolist(), values[0][kept].tolist()
