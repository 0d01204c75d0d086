"""A trained model with more items than it was trained on: they are known by their text and pictures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.rankers.items import ItemEncoder, Modality
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender

# What a model holds a row an item of, beside each modality's mask.
_ROWS = ("items.warm", "items.ids.weight")


def check_growable(model: Recommender) -> SequentialRanker:
    """Refuse a model that knows items by their ids alone.

    Raises:
        PalateError: with what to do instead.
    """
    if isinstance(model, SequentialRanker) and model.widths:
        return model
    if model.name == "mllm":
        raise PalateError(
            "a language model's bundle takes no new items", "Put them into the dataset and make its run again."
        )
    if model.name == "content-knn":
        raise PalateError(
            "a bundle of content-knn takes no new items: its lists were made of all items at once",
            "Put them into the dataset, encode it and train again; nothing of it takes long.",
        )
    raise PalateError(
        f"this '{model.name}' knows items by their ids alone: it has nothing to say of a new one",
        "Train sasrec or gru4rec with --modalities text (or id,text,image), or this one again with the new items.",
    )


@torch.no_grad()
def grow(model: SequentialRanker, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> SequentialRanker:
    """The same model with ``count`` more items, numbered behind the others; scores of the old ones stay as they are.

    A new item has no id of its own: like every item without training interactions it shares the vector ``unknown``
    (:class:`palate.rankers.items.ItemEncoder`). To people without a history it is the least popular.

    Args:
        features: by modality, float ``[count, width]`` and bool ``[count]``: which of them are there.

    Raises:
        PalateError: features that are absent or of another width; a plug-in's model that holds more a row an item.
    """
    old, config = model.num_items, model.config
    for name, width in model.widths.items():
        if name not in features or features[name][0].shape != (count, width):
            raise PalateError(f"the model reads {name} features of width {width}", "Encode the items as it was.")
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    items = {name.removeprefix("items."): one for name, one in state.items() if name.startswith("items.")}
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
    larger._table = torch.cat([model.table().cpu(), _vectors(model, items, features, count)])
    if model.popularity is not None:
        larger.popularity = torch.cat([model.popularity.cpu(), model.popularity.new_zeros(count).cpu()])
    return larger.eval()


def _vectors(
    model: SequentialRanker, trained: Mapping[str, Tensor], features: Mapping[str, tuple[Tensor, Tensor]], count: int
) -> Tensor:
    """Vectors ``[count, out_dim]`` of items that only their features tell of."""
    encoder = _encoder(model, trained, count)
    encoder.warm = torch.zeros(count + 1, dtype=torch.bool)
    for name, (vectors, present) in features.items():
        _fill(encoder, name, vectors, present)
    made: Tensor = encoder.eval()()
    return made[1:]


def _encoder(model: SequentialRanker, trained: Mapping[str, Tensor], count: int) -> ItemEncoder:
    """An encoder of ``count`` items with everything that was learnt but what belongs to single items."""
    config = model.config
    encoder = ItemEncoder(
        count, config.dim, config.modalities, model.widths, fusion=config.fusion, missing=config.missing,
        whiten=config.whiten,
    )  # fmt: skip
    fresh = encoder.state_dict()
    encoder.load_state_dict(
        {name: one if one.shape == fresh[name].shape else fresh[name] for name, one in trained.items()}
    )
    return encoder


def _fill(encoder: ItemEncoder, name: str, vectors: Tensor, present: Tensor) -> None:
    modality = encoder.features[name]
    assert isinstance(modality, Modality)
    padding = torch.zeros(1, vectors.shape[1])
    there = torch.cat([torch.zeros(1, dtype=torch.bool), present])
    modality.present = there
    standard = modality.standardise(torch.cat([padding, vectors.float()]))
    modality.vectors = standard.masked_fill(~there.unsqueeze(1), 0.0)


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
    config, count = model.config, len(has)
    trained = {
        name.removeprefix("items."): tensor.cpu()
        for name, tensor in model.state_dict().items()
        if name.startswith("items.")
    }
    encoder = _encoder(model, trained, count)
    if "id" in config.modalities:
        encoder.ids.weight[1:] = trained["ids.weight"][item]
        encoder.warm = torch.tensor([False, *(row["id"] for row in has)])
    for name in model.widths:
        rows = features[name].float().cpu().expand(count, -1)
        _fill(encoder, name, rows, torch.tensor([row[name] for row in has]))
    made: Tensor = encoder.eval()()
    return made[1:]
