"""Append items to a recommender: they are known by their texts, pictures and fields alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from palate.bundle.neighbours import lists_of
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import CO_OCCURRENCE
from palate.rankers.append import check_appendable, composed
from palate.rankers.blend import Blend
from palate.rankers.content_knn import ContentKNN
from palate.rankers.registry import rankers_that
from palate.rankers.sequential import SequentialRanker
from palate.rankers.trained import TrainedRanker
from palate.recommender import Recommender


def check_can_append(model: Recommender) -> SequentialRanker | ContentKNN:
    """Refuse a model that knows items by their ids alone (no text, picture or field, and no neighbours by these), and a
    plug-in that cannot append items.

    Raises:
        PalateError: with what to do instead.
    """
    compares = any(one.source != CO_OCCURRENCE for one in lists_of(model))
    if isinstance(model, SequentialRanker) and (model.widths or compares):
        check_appendable(model)
        return model
    if isinstance(model, ContentKNN) and compares:
        return model
    if model.name == "mllm":
        raise PalateError(
            "a language model's bundle takes no new items", "Put them into the dataset and make its run again."
        )
    if isinstance(model, Blend):
        raise PalateError(
            "a blend takes no new items: its weights were chosen for parts that know these ones",
            "Train its parts again on data with the new items, and blend those.",
        )
    if isinstance(model, ContentKNN):
        raise PalateError(
            "this 'content-knn' compares items by the training log alone: it has nothing to say of a new one",
            "Train it again with a content source, such as lexical.",
        )
    if isinstance(model, TrainedRanker) and not model.reads_ids:
        raise PalateError(
            f"'{model.name}' divides probability among the items of its catalogue: new ones would change the others' "
            "scores",
            "Train it again on data with the new items.",
        )
    if not type(model).__module__.startswith("palate."):
        raise PalateError(
            f"the ranker '{model.name}', a plug-in, takes no new items", "Train it again with the new items."
        )
    raise PalateError(
        f"this '{model.name}' knows items by their ids alone: it has nothing to say of a new one",
        f"Train {rankers_that(lambda one: issubclass(one, SequentialRanker))} with --modalities text (or "
        "id,text,image) or --neighbours lexical, or this one again with the new items.",
    )


def append_to_model(
    model: SequentialRanker | ContentKNN,
    features: Mapping[str, tuple[Tensor, Tensor]],
    lists: Sequence[NeighbourList],
    count: int,
) -> SequentialRanker | ContentKNN:
    """The same model with ``count`` more items, which the ranker itself appends; its lists have them already.

    Raises:
        PalateError: the scores of the other items would not stay as they are.
    """
    if isinstance(model, ContentKNN):
        counts = torch.cat([model.counts, model.counts.new_zeros(count)])
        return type(model)(lists, counts, model.config)
    larger = model.append_items(features, count)
    _check_unchanged(model, larger, count)
    if model.neighbours is not None:
        larger.neighbours = model.neighbours.with_lists(lists)
    return larger


def _check_unchanged(model: SequentialRanker, larger: SequentialRanker, count: int) -> None:
    """Without their neighbours, which find new items among them, both have to score the old items alike."""
    old = model.num_items
    histories = Sequences.from_lists([[1], [old, max(1, old // 2)]])
    expected, scores = (one.without_neighbours(histories).cpu() for one in (model, larger))
    alike = scores.shape == (2, old + count + 1) and torch.allclose(scores[:, 1 : old + 1], expected[:, 1:], 1e-3, 1e-3)
    if larger.num_items != old + count or not alike:
        raise PalateError(
            f"the ranker '{model.name}' scores other items differently once new ones are added", "Train it again."
        )


@torch.no_grad()
def part_vectors(
    model: SequentialRanker,
    item: int,
    features: Mapping[str, Tensor],
    has: Sequence[Mapping[str, bool]],
) -> Tensor:
    """One item's vector as it would be had it only some of its modalities, float32 ``[len(has), out_dim]``.

    Args:
        features: the item's vector ``[width]`` of every feature modality; looked at where a row has it.
        has: by modality, ``id`` among them where the model has ids, what each row is to be made of.
    """
    count = len(has)
    here = {name: torch.tensor([row[name] for row in has]) for name in model.widths}
    described = {name: (features[name].expand(count, -1), here[name]) for name in model.widths}
    own = torch.tensor([row.get("id", False) for row in has])
    return composed(model, described, own, item)
