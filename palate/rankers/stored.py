"""Rankers on disk: ``config.json`` and ``.safetensors``, nothing that can run code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError
from palate.features.fields import Vocabulary
from palate.rankers.config import SequentialConfig
from palate.rankers.neighbours import NeighbourScores
from palate.storage.files import read_json, write_json
from palate.storage.small_files import read_object
from palate.storage.tensors import load_tensors

if TYPE_CHECKING:
    from palate.rankers.sequential import SequentialRanker

C = TypeVar("C", bound=Config)
S = TypeVar("S", bound="SequentialRanker")
REMEDY = "Train it again, or copy the folder whole."
AGAIN = "Train the run again."


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


def save_sequential(
    model: SequentialRanker, folder: Path, ids: Tensor | None = None, vectors: Tensor | None = None
) -> None:
    """Write into an existing folder what :func:`load_sequential` reads.

    Args:
        ids: the whole table of ids of a model that has a share of it.
        vectors: the items' vectors, ``model.table()``, where they have been made already.
    """
    facts: dict[str, Any] = {
        "ranker": model.name,
        "config": model.config.model_dump(mode="json"),
        "num_items": model.num_items,
        "widths": model.widths,
    }
    if model.fields is not None:
        facts["fields"] = model.fields.to_json()
    write_json(folder / "config.json", facts)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if ids is not None:
        del weights["items.ids.own.weight"]
        weights["items.ids.weight"] = ids
    save_file(weights, folder / "weights.safetensors")
    items = {"items": model.table().cpu().contiguous() if vectors is None else vectors}
    if model.popularity is not None:
        items["popularity"] = model.popularity.cpu().contiguous()
    save_file(items, folder / "items.safetensors")
    if model.neighbours is not None:
        model.neighbours.save(folder)


def load_sequential(kind: type[S], folder: Path, device: str) -> S:
    """The model in eval mode; a damaged folder or one of another ranker is a clear error."""
    facts, config = options_of(kind, folder)
    weights = load_tensors(folder / "weights.safetensors", AGAIN)
    items = load_tensors(folder / "items.safetensors", AGAIN, padded=("popularity",))
    try:
        model = kind(config, int(facts["num_items"]), facts["widths"])
        model.load_state_dict(weights)
        if "fields" in facts:
            model.fields = Vocabulary.from_json(facts["fields"])
        check_items(items, model.num_items)
        model._table = items["items"].to(device)
    except PalateError:
        raise
    except Exception as error:
        raise PalateError(
            f"{folder} is damaged ({type(error).__name__}: {' '.join(str(error).split())[:400]})", AGAIN
        ) from None
    model.popularity = items.get("popularity")
    model.neighbours = NeighbourScores.load(folder, model.num_items)
    return model.to(device).eval()


def options_of(kind: type[S], folder: Path) -> tuple[dict[str, Any], SequentialConfig]:
    """What ``config.json`` says, and the options in it."""
    facts = read_object(folder / "config.json", AGAIN)
    if "config" not in facts:
        raise PalateError(f"{folder} is damaged (config.json holds no options)", AGAIN)
    return facts, kind.Config.parse(facts["config"], where=str(folder / "config.json"))


def check_items(tensors: Mapping[str, Tensor], num_items: int) -> None:
    """Refuse item vectors and counts of another catalogue, or of another kind than are saved."""
    for name, dimensions in {"items": 2, "popularity": 1}.items():
        one = tensors["items"] if name == "items" else tensors.get(name)
        if one is not None and (one.ndim != dimensions or len(one) != num_items + 1 or one.dtype != torch.float32):
            raise ValueError(f"'{name}' is {one.dtype} {list(one.shape)} for {num_items} items")
