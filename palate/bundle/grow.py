"""A recommender with more items than it was made of: they are known by their text and pictures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from palate.bundle.neighbours import lists_of
from palate.errors import PalateError
from palate.features.neighbours import CO_OCCURRENCE, NeighbourList
from palate.rankers.blend import Blend
from palate.rankers.content_knn import ContentKNN
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender

# What a model holds a row an item of, beside each modality's mask.
_ROWS = ("items.warm", "items.ids.weight")


def check_growable(model: Recommender) -> SequentialRanker | ContentKNN:
    """Refuse a model that knows items by their ids alone: no texts, pictures or fields, and no neighbours by these.

    Raises:
        PalateError: with what to do instead.
    """
    compares = any(one.source != CO_OCCURRENCE for one in lists_of(model))
    if isinstance(model, SequentialRanker) and (model.widths or compares):
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
    raise PalateError(
        f"this '{model.name}' knows items by their ids alone: it has nothing to say of a new one",
        "Train sasrec or gru4rec with --modalities text (or id,text,image) or --neighbours lexical, or this one again "
        "with the new items.",
    )


def grow_model(
    model: SequentialRanker | ContentKNN,
    features: Mapping[str, tuple[Tensor, Tensor]],
    lists: Sequence[NeighbourList],
    count: int,
) -> SequentialRanker | ContentKNN:
    """The same model with ``count`` more items, see :func:`grow`; its lists of neighbours have them already."""
    if isinstance(model, ContentKNN):
        counts = torch.cat([model.counts, model.counts.new_zeros(count)])
        return ContentKNN(lists, counts, model.config)
    larger = grow(model, features, count)
    if model.neighbours is not None:
        larger.neighbours = model.neighbours.with_lists(lists)
    return larger


@torch.no_grad()
def grow(model: SequentialRanker, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> SequentialRanker:
    """The same model with ``count`` more items, numbered behind the others; scores of the old ones stay as they are.

    Without its neighbours, which :func:`grow_model` adds. A new item has no id of its own: like every item without
    training interactions it shares the vector ``unknown`` (:class:`palate.rankers.items.ItemEncoder`). To people
    without a history it is the least popular.

    Args:
        features: by modality, ``[count, width]`` as a store holds them and bool ``[count]``: which of them are there.

    Raises:
        PalateError: features that are absent or of another width; a model or a fusion that needs more of each item.
    """
    old, config = model.num_items, model.config
    for name, width in model.widths.items():
        one = features[name][0] if name in features else torch.zeros(0)
        if len(one) != count or not model.items.feature(name).accepts(one):
            raise PalateError(f"the model reads {name} features of width {width}", "Encode the items as it was.")
    # A fusion that makes an item's vector of other items' too refuses here.
    vectors = _composed(model, features, torch.zeros(count, dtype=torch.bool))
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    for name in _ROWS:
        if name in state:
            state[name] = torch.cat([state[name], state[name].new_zeros(count, *state[name].shape[1:])])
    for name in model.widths:
        key = f"items.features.{name}.present"
        state[key] = torch.cat([state[key], features[name][1]])
    larger = type(model)(config, old + count, model.widths)
    try:
        larger.load_state_dict(state)
    except RuntimeError as error:
        told = str(error).split("\n")[0]
        raise PalateError(f"the model '{model.name}' cannot take new items ({told})", "Train it again.") from None
    larger._table = torch.cat([model.table().cpu(), vectors])
    larger.fields = model.fields
    if model.popularity is not None:
        larger.popularity = torch.cat([model.popularity.cpu(), model.popularity.new_zeros(count).cpu()])
    return larger.eval()


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
    return _composed(model, described, own, item)


def _composed(
    model: SequentialRanker, features: Mapping[str, tuple[Tensor, Tensor]], own: Tensor, item: int = 0
) -> Tensor:
    """The model's own encoder makes the vectors, without its dropout."""
    training = model.items.training
    try:
        return model.items.eval().compose(features, own, item).cpu()
    finally:
        model.items.train(training)
