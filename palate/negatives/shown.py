"""What the user was shown beside the chosen item and did not take: true negatives, where there is feedback."""

from __future__ import annotations

import torch

from palate.negatives import NEGATIVES
from palate.negatives.base import NegativeStrategy, RejectedItems, SamplingContext
from palate.negatives.config import NegativesConfig
from palate.negatives.row_sets import draw_members


class Shown(NegativeStrategy):
    """``P(i) = 1 / S`` over the ``S`` items that were shown with the chosen one and not taken.

    A row without such items draws from the user's other requests, and one without those from ``shown_fallback``. With
    ``shown_share`` below 1 the other draws come from there, too.

    With ``shown = "above"`` only what was shown above a taken item counts, which was looked at: "Click > Skip Above",
    Joachims, Granka, Pan, Hembrooke and Gay, "Accurately interpreting clickthrough data as implicit feedback", 2005.
    """

    source = "impressions"
    for_cases = False
    reads = ()  # but what its fallback reads

    def draw(self, context: SamplingContext, config: NegativesConfig) -> RejectedItems:
        assert context.shown is not None
        assert context.shown_elsewhere is not None
        count, generator = config.num_negatives, context.generator
        classes, valid = draw_members(context.only_allowed(context.shown), count, generator)
        others, other_valid = draw_members(context.only_allowed(context.shown_elsewhere), count, generator)
        kept = torch.ones_like(valid)
        if config.shown_share < 1:
            dice = torch.rand(valid.shape, generator=generator, device=valid.device)
            kept = dice < config.shown_share
        here, there = valid & kept, other_valid & ~valid & kept
        drawn = torch.where(here, classes, others)
        found = here | there
        rest = torch.zeros_like(found)
        if config.shown_fallback != "none" and not bool(found.all()):
            fallback = NEGATIVES[config.shown_fallback]()
            instead = fallback.draw(context, config)
            drawn, rest = torch.where(found, drawn, instead.classes), instead.valid & ~found
        shares = {"from_request": here, "from_other_requests": there, "from_fallback": rest}
        facts = {name: float(mask.float().mean()) for name, mask in shares.items() if mask.numel()}
        return RejectedItems(drawn, found | rest, facts=facts)
