"""Which items are similar: by vectors, by the neighbours that a model keeps, or by a list of a source."""

from __future__ import annotations

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.rankers.blend import Blend
from palate.rankers.content_knn import ContentKNN
from palate.rankers.item_knn import ItemKNN
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.topk import best_items


def similar_by_vectors(vectors: Tensor, present: Tensor, item: int, k: int) -> tuple[list[int], list[float]]:
    """The ``k`` items with the largest cosine with ``item``, itself and padding left out.

    Args:
        vectors: float ``[num_items + 1, dim]``, of length 1.
        present: bool ``[num_items + 1]``; others are not compared.
    """
    cosine = (vectors @ vectors[item]).masked_fill(~present, -torch.inf)
    return _best(cosine, item, k)


def comparing(model: Recommender) -> ItemKNN | ContentKNN | None:
    """The ranker that keeps lists of similar items: the model, or the first such part of a blend."""
    parts = model.parts if isinstance(model, Blend) else (model,)
    return next((part for part in parts if isinstance(part, ItemKNN | ContentKNN)), None)


def similar_by_neighbours(
    model: Recommender, item: int, k: int, allowed: Tensor | None = None
) -> tuple[list[int], list[float]]:
    """The ``k`` nearest neighbours of a model that keeps such lists (by who took the items, or by their content).

    Args:
        allowed: bool ``[num_items + 1]``, items that may be named; None: all.
    """
    found = comparing(model)
    if found is None:
        raise PalateError(
            f"'{model.name}' does not compare items", "Ask another model, or compare by text or image if it has these."
        )
    scores = found.alike(item)
    scores = scores.masked_fill(scores <= 0, -torch.inf)
    if allowed is not None:
        scores.masked_fill_(~allowed.to(scores.device), -torch.inf)
    return _best(scores, item, k)


def neighbours_of(model: Recommender) -> NeighbourScores | None:
    """The neighbours that a neural ranker adds to its scores."""
    return model.neighbours if isinstance(model, SequentialRanker) else None


def similar_by_list(
    one: NeighbourList, item: int, k: int, allowed: Tensor | None = None
) -> tuple[list[int], list[float]]:
    """The first ``k`` of an item's list that are allowed; fewer where the list is shorter."""
    items, values = torch.as_tensor(one.items[item]), torch.as_tensor(one.values[item])
    kept = items > 0
    if allowed is not None:
        kept &= allowed[items.long()]
    return items[kept][:k].tolist(), values[kept][:k].tolist()


def _best(scores: Tensor, item: int, k: int) -> tuple[list[int], list[float]]:
    scores[[0, item]] = -torch.inf
    items, values = best_items(scores.unsqueeze(0), min(k, len(scores) - 1))
    valid = items[0] > 0
    return items[0][valid].tolist(), values[0][valid].tolist()
