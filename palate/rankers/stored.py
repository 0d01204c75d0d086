"""How a ranker lies on disk: ``config.json`` and ``model.safetensors``, nothing that can run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import save_file
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError
from palate.storage.files import read_json, write_json
from palate.storage.tensors import load_tensors

C = TypeVar("C", bound=Config)
REMEDY = "Train it again, or copy the folder whole."


def write_model(folder: Path, name: str, num_items: int, config: Config, tensors: Mapping[str, Tensor]) -> None:
    """Write into an existing folder what :func:`read_model` reads."""
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / "model.safetensors")
    write_json(folder / "config.json", {"name": name, "num_items": num_items, "config": config.model_dump(mode="json")})


def read_model(folder: Path, name: str, config: type[C]) -> tuple[int, C, dict[str, Tensor]]:
    """Number of items, options and tensors; a folder of another ranker or a damaged one is a clear error."""
    facts = read_json(folder / "config.json")
    if not isinstance(facts, dict) or facts.get("name") != name or not isinstance(facts.get("num_items"), int):
        raise PalateError(f"{folder} holds no '{name}' model", REMEDY)
    tensors = load_tensors(folder / "model.safetensors", REMEDY, padded=("counts",))
    options = config.parse(facts.get("config", {}), where=str(folder / "config.json"))
    return facts["num_items"], options, tensors
