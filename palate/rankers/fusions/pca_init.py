"""Ids that start as the principal components of the content and are free from there (as LLM2BERT4Rec, Harte et al.
2023, arXiv 2309.11255, starts its item embeddings); the content's projections are added as in ``sum``."""

from __future__ import annotations

import torch

from palate.rankers.fusions.sum import Sum
from palate.rankers.items import Modality, whitening


class PCAInit(Sum):
    """``sum`` with another start: an id begins at 0.02 times the content's whitened leading components."""

    @torch.no_grad()
    def initialise(self) -> None:
        found = [one for one in map(self.feature, self.features) if isinstance(one, Modality)]
        if not found or "id" not in self.names:
            return
        known = torch.stack([one.present for one in found]).any(0)
        joined = torch.cat([one.vectors / one.vectors.shape[1] ** 0.5 for one in found], dim=1)
        centred = joined - joined[known].mean(0)
        width = min(self.dim, centred.shape[1])
        self.ids.weight[known, :width] = 0.02 * (centred @ whitening(centred[known], width))[known]
