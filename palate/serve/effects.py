"""What a score is made of, as differences of scores: without each item of the history, without a modality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from palate.bundle.append_items import part_vectors
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.serve import schema

# A dense score matrix of one pass is kept below this many numbers (64 MiB of float32).
_SCORES = 2**24
# Vectors [width] and whether the item has them, by modality.
ItemFeatures = Mapping[str, tuple[Tensor, bool]]


@dataclass(frozen=True)
class ScoreAndRank:
    """How an item stands after a history.

    Attributes:
        score: as the model gives it.
        above: score above the mean of all items. Only differences within a row mean anything, so this, not the score,
            is compared from one history to another.
        rank: its place, from 1, among all items that are not left out.
    """

    score: float
    above: float
    rank: int


def scores_and_ranks(
    model: Recommender, histories: Sequences, item: int, left_out: Sequence[int]
) -> list[ScoreAndRank]:
    """How ``item`` stands after each history; ``left_out`` are ranked nowhere. Equal scores stand in index order."""
    rows = max(1, _SCORES // (model.num_items + 1))
    others = [one for one in left_out if one != item]
    found = []
    for start in range(0, len(histories), rows):
        scores = model.score(histories[start : start + rows]).cpu()
        means = scores[:, 1:].double().mean(1)
        scores[:, [0, *others]] = -torch.inf
        mine = scores[:, item : item + 1]
        ranks = 1 + (scores > mine).sum(1) + (scores[:, :item] == mine).sum(1)
        found += [
            ScoreAndRank(score, score - mean, rank)
            for score, mean, rank in zip(mine[:, 0].tolist(), means.tolist(), ranks.tolist(), strict=True)
        ]
    return found


def without_each(history: Sequences, most: int) -> tuple[Sequences, list[int]]:
    """A single history, then that history without each of its newest ``most`` items; and the places of these items."""
    length = len(history.values)
    places = np.arange(max(0, length - most), length)
    kept = np.ones((1 + len(places), length), np.bool_)
    kept[1 + np.arange(len(places)), places] = False
    return history.take(np.zeros(len(kept), np.int64)).only(kept.ravel()), places.tolist()


@torch.no_grad()
def modality_effects(
    model: SequentialRanker, history: Sequences, item: int, features: ItemFeatures
) -> list[schema.ModalityEffect]:
    """What the item's own id, text and picture do to its score; the history stays as it is.

    An item without a modality is scored with what the model learnt to put in its place, so a modality's effect is the
    difference between this item and the same item had nobody given it a picture (a text, an id of its own). What is
    taken apart is the product of query and item; what neighbours add does not depend on it, and is shown by itself
    (:meth:`palate.rankers.neighbours.NeighbourScores.effects`).

    Args:
        history: a single one.
        features: of the item, for every feature modality of the model.

    Raises:
        PalateError: features that the model reads are not there.
    """
    if not len(history.values):
        raise PalateError("a newcomer is answered by popularity", "Give a history.")
    for name in model.widths:
        if name not in features:
            raise PalateError(f"there are no {name} features of the item", "Give those that the model reads.")
    scores = model.queries(history)
    query = scores.queries[0].cpu()
    here = {name: bool(features[name][1]) for name in model.widths}
    if "id" in model.config.modalities:
        here["id"] = bool(model.items.warm[item])
    names = [name for name in model.config.modalities if here[name]]
    vectors_of = {name: features[name][0] for name in model.widths}
    vectors = part_vectors(model, item, vectors_of, [here, *({**here, name: False} for name in names)])
    if model.config.similarity == "cosine":
        vectors = nn.functional.normalize(vectors, dim=1)
    products = vectors @ query
    effects = dict(zip(names, (products[0] - products[1:]).tolist(), strict=True))
    return [
        schema.ModalityEffect(modality=name, present=here[name], effect=effects.get(name, 0.0))
        for name in model.config.modalities
    ]
