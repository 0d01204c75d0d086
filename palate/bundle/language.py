"""What a bundle of a language model needs besides: its pictures and summaries without the folders they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from palate.bundle.items import BundleItems
from palate.bundle.pictures import FOLDER
from palate.errors import PalateError
from palate.runs.run import Run
from palate.storage.files import read_json, write_json
from palate.storage.remote import is_url
from palate.storage.small_files import read_object
from palate.storage.tables import read_parquet

_ITEMS = "items.parquet"
# Relative to the model's own folder.
_INSIDE = f"../{FOLDER}"


def needs_pictures(run: Run) -> bool:
    """Whether a run's prompts show pictures."""
    return run.info["model"] == "mllm" and _show_pictures(run.model_folder)


def _show_pictures(model: Path) -> bool:
    found: Any = read_object(model / "config.json")
    for key in ("config", "prompt", "images"):
        found = found.get(key) if isinstance(found, dict) else None
    return found not in (None, "none")


def check_prompt_pictures(bundle: Path, *, elsewhere: bool) -> None:
    """Refuse a bundle of a language model whose prompts show pictures that are at a URL.

    Args:
        elsewhere: whether it is from another place than this machine: then it has no say in what is read here at all.
    """
    if not _show_pictures(bundle / "model"):
        return
    images = read_object(bundle / "model" / "items.json").get("images")
    inside = isinstance(images, str) and (bundle / "model" / images).resolve().is_relative_to(bundle.resolve())
    if is_url(images) or (elsewhere and not inside):
        raise PalateError(
            f"{bundle} has the pictures of its prompts outside of it ({images})", "Make it again with --with-images."
        )


def notes_on(model: Path, *, shared: bool) -> list[str]:
    """What a person should know before a language model's bundle is handed on."""
    notes = []
    rows = model / "summaries.jsonl"
    if rows.is_file():
        with rows.open(encoding="utf-8") as file:
            count = sum(1 for line in file if line.strip())
        notes.append(f"{count:,} preferences that were written of people are in it, without their names")
    base = read_json(model / "config.json")["config"]["base"]["name"]
    if shared and Path(base).is_dir():
        notes.append(f"its base model is the folder {base}: whoever gets the bundle needs that model under that path")
    return notes


def carry_language_model(model: Path, items: BundleItems, *, copied: bool, keep_root: bool) -> None:
    """Let the copied ``model`` folder of a language model find its pictures in the bundle, if they are there.

    Args:
        copied: whether the pictures were copied into the bundle.
        keep_root: whether the folder that held the pictures may be recorded.
    """
    for store in model.glob("summaries.json"):
        # Where further summaries are looked up is a folder of the machine that trained.
        write_json(store, {key: value for key, value in read_json(store).items() if key != "store"})
    if copied:
        frame = read_parquet(model / _ITEMS)
        names = [name and name.removeprefix(f"{FOLDER}/") for name in items.pictures[1:]]
        frame.with_columns(pl.Series("image", names, pl.String)).write_parquet(model / _ITEMS)
    if copied or not keep_root:
        write_json(model / "items.json", {"images": _INSIDE})
        (model.parent / FOLDER).mkdir(exist_ok=True)
