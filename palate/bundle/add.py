"""Add items to a bundle without training: their texts and pictures are encoded as those of the others were."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from palate.bundle.card import write_card
from palate.bundle.export import FOLDER as ONNX
from palate.bundle.export import check_exportable, export_encoder
from palate.bundle.features import encoder_of
from palate.bundle.grow import check_growable, grow
from palate.bundle.items import BundleItems
from palate.bundle.load import Bundle
from palate.bundle.manifest import CARD, NAME, write_manifest
from palate.bundle.new_items import NewItems, columns_read, read_items
from palate.bundle.pictures import write_picture
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.encode import encode
from palate.features.encoders import Encoder
from palate.files import atomic_folder
from palate.rankers.field_bags import FIELDS
from palate.rankers.sequential import SequentialRanker


@dataclass(frozen=True)
class Added:
    """What :func:`add_items` made.

    Attributes:
        folder: the new bundle.
        ids: the new items, in index order.
        coverage: by modality, how many of them have a feature.
        notes: what a person should know.
    """

    folder: Path
    ids: list[str]
    coverage: dict[str, int]
    notes: list[str]


def add_items(
    bundle: Bundle | Path | str,
    table: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    device: str = "cpu",
) -> Added:
    """Write a bundle that recommends new items as well; scores of the others stay as they are.

    Args:
        table: ``.csv``, ``.tsv`` or ``.parquet`` with ``item_id`` and the fields that the model's encoders read; in a
            text table the values of a list are separated by ``|``.
        out: a new folder.
        images: folder of the new items' pictures; small copies of them go into the bundle.
        device: for the encoders.

    Raises:
        PalateError: a model without content (popularity, item-knn, ids only), an encoder that is not the one recorded,
            a table that is wrong, by row; an item of which there is neither text nor picture.
    """
    bundle, out = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle), Path(out)
    model = check_growable(bundle.recommender)
    features = {name: bundle.facts["features"][name] for name in model.widths}
    for name in features:
        if features[name]["content"]["kind"] not in ("text", "image", FIELDS):
            encoder_of(name, features[name])  # says why there is none
    if bundle.facts.get("onnx"):
        check_exportable(bundle.facts["model"])
    new = read_items(Path(table), bundle.items, columns_read(bundle.items, features), _folder(images))
    with atomic_folder(out) as part:
        encoders = {name: encoder_of(name, facts, device) for name, facts in features.items() if name != FIELDS}
        made = {
            name: _codes(model, new) if name == FIELDS else _encode(encoders[name], facts, new, _folder(images))
            for name, facts in features.items()
        }
        _check_content(Path(table), new, made)
        count = len(new.frame)
        larger = grow(model, {name: _tensors(one) for name, one in made.items()}, count)
        names = _copy(bundle, part, larger, made, new)
        frame = pl.concat([bundle.items.catalogue.frame, new.frame])
        items = BundleItems(Catalogue(frame, bundle.items.catalogue.root), [*bundle.items.pictures[1:], *names])
        facts = _facts(bundle, items, larger, part)
        write_manifest(part, facts)
        if bundle.facts.get("onnx"):
            facts["onnx"] = export_encoder(larger, part)
        write_card(part / CARD, write_manifest(part, facts))
        write_manifest(part, facts)
        Bundle.load(part)
    notes = [*new.notes, *_notes(model, made)]
    ids = new.frame["item_id"].to_list()
    return Added(out, ids, {name: int(present.sum()) for name, (_, present) in made.items()}, notes)


Made = tuple[np.ndarray[Any, Any], np.ndarray[Any, np.dtype[np.bool_]]]


def _folder(images: Path | str | None) -> Path | None:
    return None if images is None else Path(images)


def _encode(encoder: Encoder, facts: Mapping[str, Any], new: NewItems, images: Path | None) -> Made:
    """Vectors ``[count, width]`` of the new items and which are there, made as ``palate encode`` makes them."""
    count, stored = len(new.frame), np.dtype(facts["dtype"])
    content = facts["content"]
    catalogue = Catalogue(new.frame, images or Path())
    nothing = np.zeros((count, facts["width"]), stored), np.zeros(count, np.bool_)
    if content["kind"] == "image" and not new.pictures:
        return nothing
    if content["kind"] == "text" and not any(catalogue.texts(content["fields"])):
        return nothing
    empty = Dataset(
        catalogue=catalogue, user_ids=pl.Series([], dtype=pl.String), offsets=np.zeros(1, np.int64),
        items=np.zeros(0, np.int32), parts=np.zeros(0, np.uint8), timestamps=None, weights=None, manifest={},
    )  # fmt: skip
    text = content["kind"] == "text"
    with tempfile.TemporaryDirectory(prefix="palate-") as work:
        store = encode(
            empty,
            work,
            content["kind"],
            encoder=encoder,
            fields=content["fields"] if text else None,
            without=content.get("without") if text else None,
        )
        return np.array(store.vectors[1:]), np.array(store.present[1:])


def _codes(model: SequentialRanker, new: NewItems) -> Made:
    """Codes ``[count, slots]`` of the new items' fields; a value that the training did not have is none."""
    if model.fields is None:
        raise PalateError("the model does not say what its fields hold", "Make the bundle again.")
    return model.fields.encode(new.frame)


def _check_content(table: Path, new: NewItems, made: Mapping[str, Made]) -> None:
    known = np.any([present for _, present in made.values()], axis=0)
    if not known.all():
        row = new.rows[int(np.flatnonzero(~known)[0])]
        raise PalateError(
            f"{table}, row {row}: there is nothing of the item that the model reads ({', '.join(made)})",
            "Give it a text, a picture or a field's known value, or leave it out.",
        )


def _tensors(made: Made) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(made[0].astype(np.float32)), torch.from_numpy(made[1])  # codes are exact too, below 2^24


def _copy(
    bundle: Bundle, part: Path, larger: SequentialRanker, made: Mapping[str, Made], new: NewItems
) -> list[str | None]:
    """Lay out the new bundle's files; returns the names of the new items' pictures."""
    old = len(bundle.items)
    for name in bundle.facts["files"]:
        if name.startswith(("model/", f"{ONNX}/", "features/")) or name in (NAME, CARD):
            continue
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, part / name)
    (part / "model").mkdir()
    larger.save(part / "model")
    for path in (part / "model").glob("*.safetensors"):
        shutil.copymode(part / "model" / "config.json", path)  # safetensors writes them for their owner alone
    for name, (vectors, present) in made.items():
        file = bundle.facts["features"][name].get("file")
        if file is None:
            continue
        kept = load_file(bundle.folder / file)
        rows = {"vectors": vectors.astype(kept["vectors"].dtype), "present": present}
        (part / file).parent.mkdir(exist_ok=True)
        save_file({key: np.concatenate([kept[key], rows[key]]) for key in rows}, part / file)
    pictures = {place: write_picture(old + place + 1, path, part) for place, path in new.pictures.items()}
    return [pictures.get(place) for place in range(len(new.frame))]


def _facts(bundle: Bundle, items: BundleItems, larger: SequentialRanker, part: Path) -> dict[str, Any]:
    """``bundle.json`` of the larger bundle; the figures of the model are those of its training."""
    facts: dict[str, Any] = json.loads(
        json.dumps({k: v for k, v in bundle.facts.items() if k not in ("files", "onnx")})
    )
    added = len(items) - len(bundle.items)
    facts["added"] = facts.get("added", 0) + added
    facts["describe"] = larger.describe()
    facts["items"] |= {
        "count": len(items),
        "fingerprint": items.catalogue.fingerprint,
        "pictures": items.pictured,
        "columns": items.save(part),
    }
    return facts


def _notes(model: SequentialRanker, made: Mapping[str, Made]) -> list[str]:
    notes = []
    for name, (_, present) in made.items():
        if lacking := int((~present).sum()):
            notes.append(
                f"{lacking} of {len(present)} new items have no {name}: what stands for it is {model.config.missing}"
            )
    if "id" in model.config.modalities and not model.config.id_dropout:
        notes.append(
            "the model was trained with ids and without ranker.id_dropout: it leans on ids, which new items lack, and "
            "may rank them low"
        )
    return notes
