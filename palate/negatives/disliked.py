"""What the user rated low: true negatives, where the log has ratings."""

from __future__ import annotations

from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig
from palate.negatives.row_sets import draw_members


class Disliked(NegativeStrategy):
    """``P(i) = 1 / D`` over the ``D`` items that the row's user dislikes; a draw that is not allowed is invalid."""

    source = "dislikes"
    reads = ()

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        assert context.dislikes is not None
        drawn, valid = draw_members(context.dislikes, config.num_negatives, context.generator)
        return RejectedItems(drawn, valid & context.permits(drawn))
