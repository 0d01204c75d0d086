"""Rankers whose model stays in its mapped file, so that one process can score some of the items with it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from palate.rankers.fitted import FittedRanker
from palate.recommender import ItemShard, Shard


class MappedRanker(FittedRanker):
    """A ranker whose :meth:`load` leaves its tensors in their file, mapped into memory (but for
    :func:`palate.storage.tensors.in_memory`), and which has an :meth:`item_scorer`."""

    @classmethod
    def load_shard(cls, folder: Path, shard: Shard, device: str = "cpu") -> Self:
        """See :meth:`Recommender.load_shard`. Nothing is divided but the items that are scored."""
        model = cls.load(folder, device)
        model.shard = ItemShard.part(shard, model.num_items)
        return model
