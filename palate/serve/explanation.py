"""An explanation as people read it, made from differences of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from palate.cascade.cascade import Cascade
from palate.errors import PalateError
from palate.rankers.blend import Blend
from palate.rankers.content_knn import ContentKNN
from palate.rankers.item_knn import ItemKNN
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.serve import schema
from palate.serve.explain import ScoreAndRank, modality_effects, scores_and_ranks, without_each
from palate.serve.likeness import neighbours_of

if TYPE_CHECKING:
    from palate.serve.served import Served

# Scores that an explanation may cost: of a fast model, and of one that prompts a language model for each.
_EXPLAINED, _EXPLAINED_SLOWLY = 50, 8


def explain(model: Served, request: schema.ExplainRequest) -> schema.Explained:
    """What moved a score. Takes as long as a pass over as many histories as this one has items.

    Raises:
        KeyError: the model does not know the item.
    """
    history, unknown = model.bundle.known(request.history)
    places = [place for place, one in enumerate(request.history) if model.items.index_of(one) is not None]
    index = model.index_of(request.item)
    notes: list[str] = []
    asked, left_out = without_each(history, _most(model, history, notes))
    now, *then = _standings(model, asked, index, history)
    return schema.Explained(
        model=model.name,
        version=model.version,
        item=model.item(index),
        score=now.score,
        above_mean=None if model.slow else now.above,
        rank=None if model.slow else now.rank,
        history=[
            schema.Moved(
                **model.seen(history[place]),
                position=places[place],
                effect=now.above - without.above,
                rank_without=None if model.slow else without.rank,
            )
            for place, without in zip(left_out, then, strict=True)
        ],
        modalities=_parts(model, history, index, notes),
        neighbours=_neighbours(model, history, places, index),
        notes=notes,
        unknown=unknown,
    )


def _most(model: Served, history: list[int], notes: list[str]) -> int:
    """How many items are left out in turn."""
    most = _EXPLAINED_SLOWLY if model.slow else _EXPLAINED
    if isinstance(model.model, SequentialRanker):
        most = min(most, model.model.config.max_length)
    if _answers_newcomers_apart(model.model) and len(history) == 1:
        notes.append("Without its only item the history would be a newcomer's, whose scores are of another kind.")
        return 0
    if len(history) > most:
        notes.append(f"Only the newest {most} of {len(history)} items were left out one by one.")
    return most


def _answers_newcomers_apart(model: Recommender) -> bool:
    """Whether scores without a history are of another kind than those with one: popularity."""
    parts = model.parts if isinstance(model, Blend) else (model,)
    return any(isinstance(part, SequentialRanker | ItemKNN | ContentKNN) for part in parts)


def _standings(model: Served, asked: list[list[int]], index: int, history: list[int]) -> list[ScoreAndRank]:
    if not isinstance(model.model, Cascade):
        return scores_and_ranks(model.model, asked, index, history)
    # What decides in a cascade is the second stage, which answers in log-odds: numbers that can be compared.
    scores = model.model.second.score(asked, torch.full((len(asked), 1), index))[:, 0].tolist()
    return [ScoreAndRank(score, score, 0) for score in scores]


def _parts(model: Served, history: list[int], index: int, notes: list[str]) -> list[schema.Part] | None:
    if not isinstance(model.model, SequentialRanker):
        return None
    try:
        features = {name: model.vectors.row(name, index) for name in model.model.widths}
        effects = modality_effects(model.model, history, index, features)
    except PalateError as error:
        notes.append(f"The modalities are not taken apart: {error.message}.")
        return None
    return [schema.Part(modality=one.modality, present=one.present, effect=one.effect) for one in effects]


def _neighbours(model: Served, history: list[int], places: list[int], index: int) -> list[schema.Neighbour] | None:
    """What the newest items of the history add, each once for every place that it stands in.

    Args:
        places: of the items of ``history``, in the history as it was sent.
    """
    neighbours = neighbours_of(model.model)
    if neighbours is None:
        return None
    by_lag: dict[int, list[schema.SourceEffect]] = {}
    for one in neighbours.effects(history, index):
        effect = schema.SourceEffect(source=one.source, cosine=one.cosine, effect=one.effect)
        by_lag.setdefault(one.lag, []).append(effect)
    found = [
        schema.Neighbour(
            **model.seen(history[-lag]),
            position=places[-lag],
            lag=lag,
            effect=sum(one.effect for one in effects),
            sources=effects,
            shared=[
                schema.SharedField(field=one.field, values=one.values)
                for one in model.shared_fields(history[-lag], index)
            ],
        )
        for lag, effects in by_lag.items()
    ]
    return sorted(found, key=lambda one: -one.effect)
