"""What a store of vectors and one of words say of themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class DescribedFeatures:
    """Facts of the features of a catalogue's items.

    Attributes:
        info: the content of ``store.json``.
        present: bool ``[num_items + 1]``: which items have a feature; row 0 is padding.
    """

    info: dict[str, Any]
    present: npt.NDArray[np.bool_]

    @property
    def modality(self) -> str:
        return str(self.info["modality"])

    @property
    def encoder(self) -> str:
        """Name of the encoder."""
        return str(self.info["encoder"]["name"])

    @property
    def fingerprint(self) -> str:
        """Hash of encoder, options, contents and vectors: equal fingerprints mean equal features."""
        return str(self.info["fingerprint"])

    @property
    def coverage(self) -> float:
        """Share of the catalogue's items that have a feature, 0 to 1."""
        return float(self.present[1:].mean()) if len(self.present) > 1 else 0.0

    def coverage_of(self, items: npt.NDArray[np.integer[Any]]) -> float:
        """Share of the given item indices (a dataset's interactions, say) that have a feature."""
        return float(self.present[items].mean()) if len(items) else 0.0
