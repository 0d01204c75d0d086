"""A stored sequence ranker of which one process scores some items: it holds their vectors, and leaves the rest on disk.

The vectors of a history's items, which may be anywhere in the catalogue, are read from the mapped file row by row, and
so are the neighbours of its newest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.sharded_ids import NO_ROWS, sharded
from palate.rankers.stored import AGAIN, check_items, options_of
from palate.recommender import ItemShard, Shard
from palate.storage.small_files import check_regular
from palate.storage.tensors import check_finite

if TYPE_CHECKING:
    from palate.rankers.sequential import SequentialRanker

S = TypeVar("S", bound="SequentialRanker")


class StoredItems(nn.Module):
    """Takes the place of a model's :class:`palate.rankers.items.ItemEncoder`: finished vectors, read by rows.

    Args:
        vectors: float32 ``[num_items + 1, out_dim]``, mapped into memory; they stay there on every device.
    """

    warm: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self._vectors, self.out_dim = vectors, vectors.shape[1]
        self.register_buffer("warm", torch.ones(0, dtype=torch.bool), persistent=False)  # says where the model is

    def rows(self, index: Tensor) -> Tensor:
        """``[n, out_dim]``, the vectors of the items ``index`` (int64 ``[n]``)."""
        return self._vectors[index.cpu()].to(self.warm.device)


def load_shard(kind: type[S], folder: Path, shard: Shard, device: str) -> S:
    """The model in eval mode with the vectors of the shard's items, and without what only training needs of each item.

    Raises:
        PalateError: a damaged folder, one of another ranker, or a model whose scores are not made item by item.
    """
    facts, config = options_of(kind, folder)
    files = folder / "weights.safetensors", folder / "items.safetensors"
    try:
        for file in files:
            check_regular(file, AGAIN)
        with safe_open(files[0], framework="pt") as stored:
            weights = {name: stored.get_tensor(name) for name in stored.keys() if not name.startswith("items.")}  # noqa: SIM118
        found = load_file(files[1])
        with sharded(NO_ROWS):
            model = kind(config, int(facts["num_items"]), facts["widths"])
        check_items(found, model.num_items)
        model.items = StoredItems(found["items"])  # type: ignore[assignment]
        model.load_state_dict(weights)
        model = model.to(device).eval()
    except PalateError:
        raise
    except (OSError, SafetensorError, RuntimeError, TypeError, ValueError, KeyError) as error:
        raise PalateError(f"{folder} is damaged ({' '.join(str(error).split())[:400]})", AGAIN) from None
    if not model.scores_in_blocks:
        raise PalateError(f"the ranker '{kind.name}' scores all items at once", "Leave out --shards.")
    items = shard.items(model.num_items)
    own, popularity = found["items"][items.start : items.stop], found.get("popularity")
    check_finite(files[0], weights, AGAIN)
    check_finite(files[1], {"items": own, **({} if popularity is None else {"popularity": popularity[1:]})}, AGAIN)
    model.popularity, model._table = popularity, own.to(device)
    model.neighbours = NeighbourScores.load(folder, model.num_items, items)
    model.shard = ItemShard.part(shard, model.num_items)
    return model
