"""A trained ranker with more items than it was trained on: the new ones are known by texts, pictures and fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.rankers.items import ItemEncoder

if TYPE_CHECKING:
    from palate.rankers.sequential import SequentialRanker

R = TypeVar("R", bound="SequentialRanker")

# What a model holds a row of per item, beside each modality's mask.
_ROWS = ("items.warm", "items.ids.weight")
_REMEDY = "Train it again on data with the new items, or let its class override append_items."


def check_appendable(model: SequentialRanker) -> None:
    """Refuse a plugged-in ranker that makes its items' vectors in a way of its own: what :func:`append_items` would
    compose for a new item would be something else.

    Raises:
        PalateError: saying which method it is.
    """
    kind, items = type(model), type(model.items)
    if "append_items" in overridden(kind, "SequentialRanker"):
        return
    if not isinstance(model.items, ItemEncoder):
        raise PalateError(
            f"the ranker '{model.name}' makes its items' vectors by a {items.__name__} of its own", _REMEDY
        )
    own = sorted({"table", "set_features"} & overridden(kind, "SequentialRanker"))
    if "compose" not in overridden(items, "ItemEncoder"):
        own += sorted({"forward", "id_vectors"} & overridden(items, "ItemEncoder"))
    if own:
        raise PalateError(
            f"the ranker '{model.name}' makes its items' vectors in its own way ({own[0]}), so it takes no new ones",
            _REMEDY,
        )


def overridden(kind: type, base: str) -> set[str]:
    """Names that the classes below Palate's own base class define."""
    names: set[str] = set()
    for one in kind.__mro__:
        if one.__name__ == base and one.__module__.startswith("palate."):
            return names
        names |= set(vars(one))
    return names


@torch.no_grad()
def append_items(model: R, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> R:
    """See :meth:`palate.rankers.sequential.SequentialRanker.append_items`."""
    check_appendable(model)
    old, config = model.num_items, model.config
    for name, width in model.widths.items():
        one = features[name][0] if name in features else torch.zeros(0)
        if len(one) != count or not model.items.feature(name).accepts(one):
            raise PalateError(f"the model reads {name} features of width {width}", "Encode the items as it was.")
    # A fusion that makes an item's vector of other items' too refuses here.
    vectors = composed(model, features, torch.zeros(count, dtype=torch.bool))
    state = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    for name in _ROWS:
        if name in state:
            state[name] = torch.cat([state[name], state[name].new_zeros(count, *state[name].shape[1:])])
    try:
        for name in model.widths:
            key = f"items.features.{name}.present"
            state[key] = torch.cat([state[key], features[name][1]])
        larger = type(model)(config, old + count, model.widths)
        if type(larger.items) is not type(model.items):
            raise TypeError(f"its items are a {type(larger.items).__name__} when it is made again")
        larger.load_state_dict(state)
    except (RuntimeError, KeyError, TypeError, AttributeError) as error:
        why = str(error).split("\n")[:2][-1].strip()
        raise PalateError(f"the ranker '{model.name}' cannot take new items ({why})", _REMEDY) from None
    larger._table = torch.cat([model.table().cpu(), vectors])
    larger.fields = model.fields
    if model.popularity is not None:
        larger.popularity = torch.cat([model.popularity.cpu(), model.popularity.new_zeros(count).cpu()])
    return larger.eval()


@torch.no_grad()
def composed(
    model: SequentialRanker, features: Mapping[str, tuple[Tensor, Tensor]], own: Tensor, item: int = 0
) -> Tensor:
    """Vectors ``[n, out_dim]`` by the model's own encoder, without its dropout; see :meth:`ItemEncoder.compose`."""
    training = model.items.training
    try:
        return model.items.eval().compose(features, own, item).cpu()
    finally:
        model.items.train(training)
