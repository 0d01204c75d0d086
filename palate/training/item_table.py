"""Whether each worker keeps the whole table of ids, or a share of its rows."""

from __future__ import annotations

from palate.errors import PalateError
from palate.rankers.config import TrainedConfig
from palate.rankers.sharded_ids import RowShare
from palate.runs.workers import Workers
from palate.training.config import TrainerConfig


def share_of_rows(
    config: TrainedConfig, trainer: TrainerConfig, workers: Workers, warm_start: object
) -> RowShare | None:
    """The rows of the id table that this worker is to keep; None for all of them.

    Raises:
        PalateError: the table is to be sharded, and there is none, or another option needs all of it.
    """
    if trainer.item_table == "dense":
        return None
    why = None
    if "id" not in config.modalities:
        why = "no item has an id (--modalities without id)"
    elif warm_start is not None:
        why = "--warm-start copies whole tables"
    elif trainer.item_rows == "never":
        why = "trainer.item_rows=never reads the whole table in every step"
    elif trainer.precision == "fp16":
        why = "trainer.precision=fp16 skips steps by the gradients of each worker (bf16 does not)"
    if why is not None:
        raise PalateError(
            f"trainer.item_table is 'sharded', but {why}", "Leave trainer.item_table out, or change the other option."
        )
    return RowShare(workers.index, workers.count)
