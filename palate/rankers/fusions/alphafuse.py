"""Frozen content beside free ids: each has its own half of the item's vector (after AlphaFuse, Hu et al. 2025, arXiv
2504.19218, where ids are learned in the null space of the language embeddings' principal components)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from palate.errors import PalateError
from palate.rankers.feature import Feature
from palate.rankers.field_bags import FIELDS, FieldBags
from palate.rankers.items import ItemEncoder, Modality


class AlphaFuse(ItemEncoder):
    """``x = [x_id, s_1 z_1, ..., s_M z_M]``: ``z_m`` the whitened leading principal components of a modality, frozen but
    for one learned scale ``s_m``, half of ``dim`` shared among them; the id has the other half to itself."""

    def __init__(self, num_items: int, dim: int, modalities: Sequence[str], *args: Any, **options: Any) -> None:
        if "id" not in modalities or len(modalities) < 2:
            raise PalateError(
                "fusion 'alphafuse' joins ids and content", "Give --modalities id,text, or another fusion."
            )
        self._share = dim // 2 // (len(modalities) - 1)
        if not self._share:
            raise PalateError(f"dim {dim} is too small for {len(modalities)} modalities", "Raise ranker.dim.")
        super().__init__(num_items, dim, modalities, *args, **options)

    @property
    def id_width(self) -> int:
        return self.dim - self._share * (len(self.names) - 1)

    def make(self, name: str, width: int) -> Feature:
        if name == FIELDS:
            return FieldBags(width, self.num_items, self._share, self.missing, self.feature_dropout)
        if width < self._share:
            raise PalateError(f"the {name} features are narrower than {self._share}", "Lower ranker.dim.")
        kept = Modality(width, self.num_items, self._share, self.missing, self.feature_dropout, self._share)
        kept.project = nn.Identity()
        return kept

    def build(self) -> None:
        self.scales = nn.ParameterDict({name: nn.Parameter(torch.tensor(0.1)) for name in self.features})

    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(
            [part if name == "id" else self.scales[name] * part for name, part in zip(self.names, parts, strict=True)],
            dim=1,
        )
