"""Whether a training step makes the vectors of all items, or of those only that it reads."""

from __future__ import annotations

from torch import nn

from palate.errors import PalateError
from palate.objectives import Objective
from palate.objectives.cross_entropy import CrossEntropy
from palate.objectives.negatives import SampledObjective
from palate.rankers.append import overridden
from palate.rankers.items import ItemEncoder
from palate.rankers.sequential import SequentialRanker
from palate.rankers.sharded_ids import ShardedIds
from palate.training.config import TrainerConfig

# Smaller catalogues are read as a whole: that costs a fraction of the encoder's step.
_MANY_ITEMS = 50_000
# A row that is picked out costs about as much as this many rows of the whole table (measured on a CPU).
_COST_OF_ROW = 5


def read_by_rows(model: SequentialRanker, objective: Objective, config: TrainerConfig, targets: int) -> bool:
    """Whether steps with this objective read items by rows; if so, the ids' gradients become sparse.

    Args:
        targets: of one step.

    Raises:
        PalateError: it is always to be so, and cannot; a table that is sharded has no other way.
    """
    sharded = config.item_table == "sharded"
    if config.item_rows == "never":
        return False
    if why := _why_not(model, objective, config):
        if sharded:
            raise PalateError(
                f"trainer.item_table is 'sharded', but {why}",
                "Leave trainer.item_table out, or train with --objective sampled-softmax, say.",
            )
        if config.item_rows == "always":
            raise PalateError(f"trainer.item_rows is 'always', but {why}", "Leave trainer.item_rows out.")
        return False
    if not sharded and config.item_rows == "auto":
        assert isinstance(objective, SampledObjective)
        read = 2 * targets + objective.num_drawn(targets)
        if model.num_items < max(_MANY_ITEMS, _COST_OF_ROW * read):
            return False
    for module in row_tables(model, every=True):
        module.sparse = isinstance(objective, SampledObjective)
    return True


def _why_not(model: SequentialRanker, objective: Objective, config: TrainerConfig) -> str | None:
    kind, items = type(model), type(model.items)
    drawn = isinstance(objective, SampledObjective) and type(objective).__call__ is SampledObjective.__call__
    if not model.causal:
        return f"the ranker '{model.name}' is trained on masked items"
    if config.item_table == "sharded" and type(objective) is CrossEntropy:
        if model.config.repeat_bias:
            return "ranker.repeat_bias changes single scores of a whole softmax"
        if objective.config.precision != "float32":
            return f"objective.precision is {objective.config.precision}"
    elif not drawn:
        return f"the objective {type(objective).__name__} reads the whole catalogue"
    if "training_step" in overridden(kind, "SequentialRanker"):
        return f"the ranker '{model.name}' is trained by a step of its own"
    if "forward" in overridden(kind, "SequentialRanker"):
        return f"the ranker '{model.name}' reads its items in a way of its own"
    if not isinstance(model.items, ItemEncoder) or {"forward", "id_vectors"} & overridden(items, "ItemEncoder"):
        return f"{items.__name__} makes the vectors of all items at once"
    if config.item_table == "sharded" and not model.scores_in_blocks:
        return f"the ranker '{model.name}' scores in a way of its own"
    if config.betas[0] > config.betas[1]:
        return f"trainer.betas are {config.betas}, the first above the second"
    return None


def row_tables(model: nn.Module, every: bool = False) -> list[nn.Embedding]:
    """The id tables that are read and updated by rows (``every``: or could be)."""
    tables = [module.ids for module in model.modules() if isinstance(module, ItemEncoder) and "id" in module.names]
    chosen = [one for one in tables if every or isinstance(one, ShardedIds) or one.sparse]
    return [one.own if isinstance(one, ShardedIds) else one for one in chosen]
