"""An explanation as people read it, made from differences of scores."""

from __future__ import annotations

from functools import cached_property

import torch

from palate.bundle.load import Bundle
from palate.cascade.cascade import Cascade
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.blend import Blend
from palate.rankers.content_knn import ContentKNN
from palate.rankers.item_knn import ItemKNN
from palate.rankers.sequential import SequentialRanker
from palate.rankers.trained import TrainedRanker
from palate.recommender import Recommender
from palate.serve import schema
from palate.serve.effects import ScoreAndRank, modality_effects, scores_and_ranks, without_each
from palate.serve.shared_fields import SharedFields
from palate.serve.shown_items import ShownItems
from palate.serve.similar_items import neighbours_of
from palate.serve.vectors import ItemVectors

# Scores that an explanation may cost: of a fast model, and of one that prompts a language model for each.
_EXPLAINED, _EXPLAINED_SLOWLY = 50, 8


class Explainer:
    """Explains the scores of one model.

    Args:
        name: of the model, and its version, as answers state them.
        model: what scores: the bundle's own recommender, or a cascade in front of it.
        vectors: features of the bundle's items.
    """

    def __init__(
        self, name: str, version: str, model: Recommender, bundle: Bundle, shown: ShownItems, vectors: ItemVectors
    ) -> None:
        self.name, self.version = name, version
        self.model, self.bundle, self.shown, self.vectors = model, bundle, shown, vectors
        self.slow = isinstance(model, Cascade)

    @cached_property
    def shared_fields(self) -> SharedFields:
        """What two items have in common."""
        return SharedFields(self.bundle.items.catalogue)

    def __call__(self, request: schema.ExplainRequest) -> schema.ExplainResponse:
        """What moved a score. Takes as long as a pass over as many histories as this one has items.

        Raises:
            KeyError: the model does not know the item.
        """
        items = self.bundle.items
        history, unknown = self.bundle.known(request.history)
        places = [place for place, one in enumerate(request.history) if items.index_of(one) is not None]
        index = items.index_of(request.item)
        if index is None:
            raise KeyError(request.item)
        notes: list[str] = []
        row = Sequences.from_lists([history])
        if request.history_times is not None and self.model.reads_times:
            row = row.at([self.bundle.known_times(request.history, request.history_times)], [request.asked])
        histories, left_out = without_each(row, self._most(history, notes))
        now, *then = self._scores_and_ranks(histories, index, history)
        return schema.ExplainResponse(
            model=self.name,
            version=self.version,
            item=self.shown.item(index),
            score=now.score,
            above_mean=None if self.slow else now.above,
            rank=None if self.slow else now.rank,
            history=[
                schema.HistoryEffect(
                    **self.shown.facts(history[place]),
                    position=places[place],
                    effect=now.above - without.above,
                    rank_without=None if self.slow else without.rank,
                )
                for place, without in zip(left_out, then, strict=True)
            ],
            modalities=self._modalities(row, index, notes),
            neighbours=self._neighbours(history, places, index),
            notes=notes,
            unknown=unknown,
        )

    def _most(self, history: list[int], notes: list[str]) -> int:
        """How many items are left out in turn."""
        most = _EXPLAINED_SLOWLY if self.slow else _EXPLAINED
        if isinstance(self.model, TrainedRanker):
            most = min(most, self.model.config.max_length)
        if _answers_newcomers_apart(self.model) and len(history) == 1:
            notes.append("Without its only item the history would be a newcomer's, whose scores are of another kind.")
            return 0
        if len(history) > most:
            notes.append(f"Only the newest {most} of {len(history)} items were left out one by one.")
        return most

    def _scores_and_ranks(self, histories: Sequences, index: int, history: list[int]) -> list[ScoreAndRank]:
        if not isinstance(self.model, Cascade):
            return scores_and_ranks(self.model, histories, index, history)
        # What decides in a cascade is the second stage, which answers in log-odds: numbers that can be compared.
        scores = self.model.second.score(histories, torch.full((len(histories), 1), index))[:, 0].tolist()
        return [ScoreAndRank(score, score, 0) for score in scores]

    def _modalities(self, history: Sequences, index: int, notes: list[str]) -> list[schema.ModalityEffect] | None:
        if not isinstance(self.model, SequentialRanker):
            return None
        try:
            features = {name: self.vectors.row(name, index) for name in self.model.widths}
            return modality_effects(self.model, history, index, features)
        except PalateError as error:
            notes.append(f"The modalities are not taken apart: {error.message}.")
            return None

    def _neighbours(self, history: list[int], places: list[int], index: int) -> list[schema.Neighbour] | None:
        """What the newest items of the history add, each once for every place that it stands in.

        Args:
            places: of the items of ``history``, in the history as it was sent.
        """
        neighbours = neighbours_of(self.model)
        if neighbours is None:
            return None
        by_lag: dict[int, list[schema.SourceEffect]] = {}
        for one in neighbours.effects(history, index):
            effect = schema.SourceEffect(source=one.source, cosine=one.cosine, effect=one.effect)
            by_lag.setdefault(one.lag, []).append(effect)
        found = [
            schema.Neighbour(
                **self.shown.facts(history[-lag]),
                position=places[-lag],
                lag=lag,
                effect=sum(one.effect for one in effects),
                sources=effects,
                shared=self.shared_fields(history[-lag], index),
            )
            for lag, effects in by_lag.items()
        ]
        return sorted(found, key=lambda one: -one.effect)


def _answers_newcomers_apart(model: Recommender) -> bool:
    """Whether scores without a history are of another kind than those with one: popularity."""
    parts = model.parts if isinstance(model, Blend) else (model,)
    return any(isinstance(part, TrainedRanker | ItemKNN | ContentKNN) for part in parts)
