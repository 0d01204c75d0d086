"""What items are compared by: a model's own vectors, and the features of texts and pictures that a bundle holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from palate.bundle.load import Bundle
from palate.errors import PalateError, suggest
from palate.features.fields import FIELDS
from palate.storage.tensors import check_finite


class ItemVectors:
    """Opens the bundle's feature files at once and reads them as they are needed: a bundle that takes this one's place
    on the disk later does not change what is read here.

    Args:
        own: float ``[num_items + 1, dim]``, the model's vectors, or None.
    """

    def __init__(self, bundle: Bundle, own: Tensor | None) -> None:
        self.own = own
        self._files: dict[str, Any] = {}
        for name, facts in bundle.facts["features"].items():
            if facts.get("file"):
                try:
                    self._files[name] = safe_open(bundle.folder / facts["file"], framework="pt")
                    _check(bundle.folder / facts["file"], self._files[name], len(bundle.items))
                except (OSError, SafetensorError, ValueError) as error:
                    raise PalateError(
                        f"{bundle.folder / facts['file']} is damaged ({error})", "Make the bundle again."
                    ) from None
        self._units: dict[str, tuple[Tensor, Tensor]] = {}
        self._lock = threading.Lock()

    @property
    def features(self) -> list[str]:
        """Names of the features that items can be compared by: all that are there but the codes of fields."""
        return sorted(name for name in self._files if name != FIELDS)

    def row(self, name: str, index: int) -> tuple[Tensor, bool]:
        """One item's features, float32 ``[width]``, and whether it has any.

        Raises:
            PalateError: these features are not in the bundle.
        """
        file = self._file(name)
        present = bool(file.get_slice("present")[index : index + 1].item())
        return file.get_slice("vectors")[index : index + 1][0].float(), present

    def unit(self, by: str) -> tuple[Tensor, Tensor]:
        """Vectors of length one, float32 ``[num_items + 1, dim]``, and which items have one, bool ``[num_items + 1]``.

        Args:
            by: ``model``, or the name of features.
        """
        with self._lock:
            if by not in self._units:
                if by == "model":
                    if self.own is None:
                        raise PalateError("the model has no item vectors", "Compare by text or image.")
                    vectors, present = self.own, torch.ones(len(self.own), dtype=torch.bool)
                elif by == FIELDS:
                    raise PalateError("fields are no vectors to compare items by", suggest(by, self.features))
                else:
                    file = self._file(by)
                    vectors, present = file.get_tensor("vectors"), file.get_tensor("present").bool()
                self._units[by] = (torch.nn.functional.normalize(vectors.float(), dim=1), present)
            return self._units[by]

    def _file(self, name: str) -> Any:
        if name not in self._files:
            raise PalateError(f"the bundle holds no {name} features", suggest(name, ["model", *self._files]))
        return self._files[name]


def _check(path: Path, file: Any, num_items: int) -> None:
    """Refuse features that are not one row of finite numbers for each item."""
    vectors, present = file.get_tensor("vectors"), file.get_tensor("present")
    if vectors.ndim != 2 or len(vectors) != num_items + 1 or present.shape != (num_items + 1,):
        raise ValueError(f"'vectors' is {list(vectors.shape)} and 'present' {list(present.shape)}")
    check_finite(path, {"vectors": vectors}, "Make the bundle again.")
