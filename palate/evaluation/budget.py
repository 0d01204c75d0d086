"""How many users and items are scored at a time, so that an evaluation keeps to a memory budget."""

from __future__ import annotations

from dataclasses import dataclass

from palate.errors import PalateError
from palate.recommender import Recommender

MEMORY_MB = 1024
# Users whose whole rows of scores are made at a time, and of whom blocks of items are scored: the more, the fewer times
# the vectors of a large catalogue are made.
BATCH, BLOCK_BATCH = 256, 1024
# A model that makes whole rows, and the ranking of them, hold at most this many matrices of 4-byte numbers at once.
_MATRICES = 4
# Narrower blocks of items would be all overhead.
_LEAST_ITEMS = 4096


@dataclass(frozen=True)
class Plan:
    """What is scored at a time.

    Attributes:
        users: cases in a batch.
        items: columns in a block, of which the padding is one; ``num_items + 1`` for whole rows.
        memory: bytes that a model may keep for speed beside the blocks.
    """

    users: int
    items: int
    memory: int


def cases_at_once(recommender: Recommender, batch_size: int | None, memory_mb: int, sampled: bool) -> int:
    """How many cases are ranked at a time: by :func:`plan`, or where candidates are sampled, what the model prefers."""
    if not sampled:
        return plan(recommender, batch_size, memory_mb).users
    return batch_size or recommender.batch_size or BATCH


def plan(recommender: Recommender, batch_size: int | None, memory_mb: int = MEMORY_MB) -> Plan:
    """Whole rows of ``batch_size`` users if they fit; else blocks of items, or, for a model that only makes whole rows,
    fewer users.

    Args:
        batch_size: Users scored at a time, at most; by default what the model prefers, or else 256 (whole rows) or
            1,024 (blocks).
        memory_mb: For matrices of scores, in MiB; the model itself and the data come on top. One user's row of scores
            and one block of 4,096 items are scored even if they take more.

    Raises:
        PalateError: a batch of nobody, or no memory.
    """
    if batch_size is not None and batch_size < 1:
        raise PalateError(f"batch_size is {batch_size}", "Give at least 1.")
    if memory_mb < 1:
        raise PalateError(f"a memory budget of {memory_mb} MB holds no scores", "Give at least 1.")
    width, memory = recommender.num_items + 1, memory_mb * 2**20
    cells = memory // (4 * _MATRICES)
    users = batch_size or recommender.batch_size or BATCH
    if users * width <= cells:
        return Plan(users, width, memory)
    if not recommender.scores_in_blocks:
        return Plan(min(users, max(1, cells // width)), width, memory)
    users = min(batch_size or BLOCK_BATCH, max(1, cells // _LEAST_ITEMS))
    return Plan(users, min(width, max(_LEAST_ITEMS, cells // users)), memory)
