"""The state to resume from, written whole or not at all and read without unpickling code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from palate.errors import PalateError
from palate.storage.files import atomic_file

FILE = "checkpoints/last.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; the previous checkpoint stays until the new one is complete."""
    with atomic_file(folder / FILE) as part:
        torch.save(state, part)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The last complete checkpoint of a run, or None."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PalateError(f"{path} cannot be read ({error})", "Remove it and train from the start.") from None
    return state
