"""One model as it is served: ids from outside to item indices and back, and everything that its bundle answers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from palate.bundle.load import Bundle
from palate.bundle.manifest import sha256
from palate.cascade.cascade import Cascade
from palate.data.item_filter import combine
from palate.errors import PalateError, suggest
from palate.features.neighbour_store import NeighbourList
from palate.rankers.trained import TrainedRanker
from palate.recommender import Recommender
from palate.serve import schema
from palate.serve.batching import MicroBatcher
from palate.serve.business.applied import applied
from palate.serve.business.model_rules import ModelRules
from palate.serve.config import ServeConfig
from palate.serve.engine import Ask, Engine, Found, engine_of
from palate.serve.explanation import Explainer
from palate.serve.exposure import Exposure, training_counts
from palate.serve.field_values import summarise_fields
from palate.serve.ordering import order_items
from palate.serve.request_filters import Chosen, ConditionMasks, choose_items
from palate.serve.search import Search
from palate.serve.shown_items import ShownItems
from palate.serve.similar_items import (
    comparing,
    neighbours_of,
    similar_by_list,
    similar_by_neighbours,
    similar_by_vectors,
)
from palate.serve.telemetry import Telemetry
from palate.serve.vectors import ItemVectors

# A diverse list is chosen from this many times as many items, but from these at least and at most.
_POOL_TIMES, _POOL_LEAST, _POOL_MOST = 5, 50, 500
# Beyond this many of the best items nothing is sought that a cap lets in: the answer is filled with what it held back.
_CAPPED_MOST = 2_000


class Served:
    """A bundle that answers.

    Args:
        name: by which requests choose it.
        bundle: ids, titles, pictures and features.
        model: what scores: the bundle's own, or a cascade in front of it.
        retriever: name of the model that proposes, of a cascade.
    """

    def __init__(
        self,
        name: str,
        version: str,
        bundle: Bundle,
        config: ServeConfig,
        telemetry: Telemetry,
        model: Recommender | None = None,
        retriever: str | None = None,
    ) -> None:
        self.name, self.version, self.bundle, self.retriever = name, version, bundle, retriever
        self.items, self.model = bundle.items, model or bundle.recommender
        self.shown = ShownItems(self.items, config)
        self.engine: Engine = engine_of(self.model, config.index == "faiss")
        self.vectors = ItemVectors(bundle, self.engine.vectors)
        self.condition_masks = ConditionMasks(self.items.catalogue, self.items.fields)
        self.business: ModelRules | None = None
        self.exposure = Exposure(name, telemetry, training_counts(self.model))
        # Nothing here may hold on to this object itself: a model that was replaced goes as soon as nobody asks it.
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"model-{name}")
        # A cascade answers one after the other: a batch would make the first wait for the last.
        size = 1 if self.slow else config.max_batch
        turn = threading.Lock()
        self._found: MicroBatcher[Ask, Found] = MicroBatcher(
            self.engine.find, pool, size, config.max_waiting, lambda n: telemetry.batch(name, n), turn
        )
        # On the same thread, one at a time: between two explanations a batch of recommendations has its turn.
        explainer = Explainer(name, version, self.model, bundle, self.shown, self.vectors)
        self.explainer = explainer
        self._explained: MicroBatcher[schema.ExplainRequest, schema.ExplainResponse] = MicroBatcher(
            lambda requests: [explainer(one) for one in requests], pool, 1, config.max_waiting, turn=turn
        )

    @property
    def slow(self) -> bool:
        """Whether an answer takes long enough to be worth avoiding."""
        return isinstance(self.model, Cascade)

    # -- what it is ----------------------------------------------------------------------------------------------

    @cached_property
    def facts(self) -> schema.ModelFacts:
        """The answer of ``/v1/models``."""
        facts = self.bundle.facts
        options = facts["run"].get("options") or {}
        learnt = isinstance(self.bundle.recommender, TrainedRanker) or self.slow
        objective = (options.get("alignment") or {}).get("objective") or options.get("objective") if learnt else None
        return schema.ModelFacts(
            name=self.name,
            kind=str(facts["model"]),
            version=self.version,
            items=len(self.items),
            modalities=[str(one) for one in facts.get("describe", {}).get("modalities", [])],
            objective=objective if isinstance(objective, str) else None,
            retriever=self.retriever,
            metrics=_figures(facts["metrics"]),
            features=sorted({*self.vectors.features, *self._lists}),
            neighbours=_sources(self.model),
            fields=self.items.fields,
            explains=True,
            reads_times=self.model.reads_times,
            diversifies=self.engine.vectors is not None,
            compares=self.engine.vectors is not None or comparing(self.model) is not None,
        )

    @cached_property
    def _lists(self) -> dict[str, NeighbourList]:
        """The lists of the model's neighbours, by source."""
        neighbours = neighbours_of(self.model)
        return {} if neighbours is None else {one.source: one for one in neighbours.lists}

    def index_of(self, item_id: str) -> int:
        """The index of an item id.

        Raises:
            KeyError: the model does not know it.
        """
        index = self.items.index_of(item_id)
        if index is None:
            raise KeyError(item_id)
        return index

    def warm_up(self) -> None:
        """Make what is made once, so that no request waits for it."""
        _ = self.shown.pictured, self.facts, self.search
        if self._lists:
            _ = self.explainer.shared_fields
        if not self.slow:
            (found,) = self.engine.find([Ask([1], 1)])
            if not np.isfinite(found.scores).all():
                raise PalateError(f"the scores of '{self.name}' are NaN or infinite", "Train it again.")

    # -- answers -------------------------------------------------------------------------------------------------

    async def recommend(
        self, request: schema.RecommendRequest, request_id: str, variant: str | None = None
    ) -> schema.RecommendResponse:
        """The best items after a history, under the filters of a request and the business rules.

        Args:
            request_id: what the answer is called by feedback.
            variant: what the answer states as the choice of split traffic.
        """
        rules = self.business  # the same for the whole answer
        history, unknown = self.bundle.known(request.history)
        chosen = await self._chosen(request, rules)
        if request.diversity and self.engine.vectors is None:
            raise PalateError(
                f"'{self.name}' has no item vectors by which items are alike", "Leave out diversity, or ask another."
            )
        pool = request.k
        if request.diversity:
            pool = max(pool, min(pool * _POOL_TIMES, _POOL_MOST), _POOL_LEAST)
        if rules is not None:
            pool = max(pool, rules.pool(request.k))
        times = None
        if request.history_times is not None and self.model.reads_times:
            times = self.bundle.known_times(request.history, request.history_times)
        ask = Ask(
            history, pool, chosen.denied, request.exclude_seen, chosen.allowed, chosen.share, times, request.asked
        )
        while True:
            found = await self._found(ask)
            arguments = request.k, request.diversity, ask, found, self.engine.vectors, rules
            long = request.diversity or (rules is not None and rules.caps)
            done = await asyncio.to_thread(order_items, *arguments) if long else order_items(*arguments)
            # Where a cap held back all others, there may be more.
            if not done.short or len(found.items) < ask.k or ask.k >= min(_CAPPED_MOST, len(self.items)):
                break
            ask = replace(ask, k=min(8 * ask.k, _CAPPED_MOST))
        scores = dict(zip(found.items, found.scores, strict=True))
        return schema.RecommendResponse(
            model=self.name,
            version=self.version,
            request_id=request_id,
            variant=variant,
            items=[
                schema.ScoredItem(**self.shown.facts(item, request.fields), score=scores.get(item))
                for item in done.items
            ],
            unknown=list(dict.fromkeys(unknown + chosen.unknown)),
            used=len(history),
            rules=applied(rules, self.items, found.items, done) if rules and request.explain_rules else None,
        )

    async def _chosen(self, request: schema.FilteredRequest, rules: ModelRules | None) -> Chosen:
        arguments = request, self.bundle, self.condition_masks, rules
        if request.only or request.without:  # new conditions are looked up in the whole catalogue
            return await asyncio.to_thread(choose_items, *arguments)
        return choose_items(*arguments)

    async def explain(self, request: schema.ExplainRequest) -> schema.ExplainResponse:
        """Why an item has its score: :class:`palate.serve.explanation.Explainer`."""
        return await self._explained(request)

    def similar(self, request: schema.SimilarRequest) -> schema.SimilarResponse:
        """The items most like one that filters and business rules leave. Reads features: ask on a thread."""
        index, k, by = self.index_of(request.item), request.k, request.by
        if by != "model" and by not in self.facts.features:
            choices = ["model", *self.facts.features]
            raise PalateError(f"'{self.name}' cannot compare items by {by}", suggest(by, choices))
        chosen = choose_items(request, self.bundle, self.condition_masks, self.business)
        mask = combine(len(self.items), [chosen.allowed], chosen.denied)
        allowed = None if mask is None else torch.from_numpy(mask)
        if by == "model" and self.engine.vectors is None:
            items, scores = similar_by_neighbours(self.model, index, k, allowed)
        elif by in self._lists and by not in self.vectors.features:
            items, scores = similar_by_list(self._lists[by], index, k, allowed)
        else:
            vectors, present = self.vectors.unit(by)
            if not bool(present[index]):
                raise PalateError(f"'{request.item}' has no {by}", "Compare by something else.")
            items, scores = similar_by_vectors(vectors, present if allowed is None else present & allowed, index, k)
        return schema.SimilarResponse(
            model=self.name,
            version=self.version,
            item=self.shown.item(index),
            by=by,
            items=[
                schema.ScoredItem(**self.shown.facts(one), score=score)
                for one, score in zip(items, scores, strict=True)
            ],
            unknown=list(dict.fromkeys(chosen.unknown)),
        )

    # -- looking around ------------------------------------------------------------------------------------------

    @cached_property
    def fields(self) -> schema.Fields:
        """The answer of ``/v1/fields``. Counts all values: ask on a thread."""
        return schema.Fields(fields=summarise_fields(self.items.catalogue))

    @cached_property
    def search(self) -> Search:
        return Search(self.items.catalogue, self._popularity())

    def _popularity(self) -> npt.NDArray[np.float32]:
        """What newcomers would be shown, as far as the model knows without effort."""
        if self.slow:
            return np.zeros(len(self.items) + 1, np.float32)
        return cast(npt.NDArray[np.float32], self.model.score([[]])[0].cpu().float().numpy())

    def picture(self, item_id: str) -> Path | None:
        """The file of the item's picture; None: it has none, or none that this bundle vouches for. Ask on a thread."""
        index = self.items.index_of(item_id)
        if index is None or not self.shown.pictured[index]:
            return None
        path, name = self.bundle.picture(index), self.items.pictures[index]
        if name is None or path is None:
            return path
        # Another bundle may be there by now: pictures are named by number, and this would be another item's.
        same = path.is_file() and sha256(path) == self.bundle.facts["files"][name]["sha256"]
        return path if same else None


def _sources(model: Recommender) -> list[schema.NeighbourSource] | None:
    neighbours = neighbours_of(model)
    if neighbours is None:
        return None
    return [schema.NeighbourSource(source=source, **facts) for source, facts in neighbours.describe().items()]


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    """A few numbers of a bundle's card: the validation, and the primary metric of each table."""
    figures: dict[str, Any] = {}
    validation = (metrics.get("validation") or {}).get("metrics")
    if validation:
        figures["validation"] = validation
    for table in metrics.get("test") or []:
        primary = table.get("metrics", {}).get(table.get("primary"))
        if primary:
            name = f"{table.get('split', 'test')} {table['primary']} ({table.get('protocol', '')})"
            figures[name] = {key: primary[key] for key in ("mean", "low", "high") if key in primary}
    return figures
