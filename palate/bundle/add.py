"""Add items to a bundle without training: their texts and pictures are encoded as those of the others were."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy import sparse
from torch import Tensor

from palate.bundle.append_items import append_to_model, check_can_append
from palate.bundle.card import write_card
from palate.bundle.export import FOLDER as ONNX
from palate.bundle.export import check_exportable, export_encoder
from palate.bundle.features import encoder_of
from palate.bundle.items import BundleItems
from palate.bundle.load import Bundle
from palate.bundle.manifest import CARD, NAME, write_manifest
from palate.bundle.neighbours import ContentSource, append_rows, append_to_lists, open_content_sources
from palate.bundle.new_items import NewItems, columns_read, read_items
from palate.bundle.pictures import write_picture
from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.encode import encode
from palate.features.encoders import Encoder
from palate.features.fields import FIELDS
from palate.features.neighbour_store import NeighbourList
from palate.features.neighbours import CO_OCCURRENCE
from palate.rankers.content_knn import ContentKNN
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.storage.files import atomic_folder
from palate.storage.remote import takes_urls


@dataclass(frozen=True)
class Added:
    """What :func:`add_items` made.

    Attributes:
        folder: the new bundle.
        ids: the new items, in index order.
        coverage: by modality and source of neighbours, how many of them have a feature.
        notes: what a person should know.
    """

    folder: Path
    ids: list[str]
    coverage: dict[str, int]
    notes: list[str]


@takes_urls("out")
def add_items(
    bundle: Bundle | Path | str,
    table: Path | str,
    out: Path | str,
    *,
    images: Path | str | None = None,
    clean_text: bool = False,
    item_columns: Mapping[str, str] | None = None,
    device: str = "cpu",
) -> Added:
    """Write a bundle that recommends new items as well; scores of the others stay as they are.

    Args:
        table: ``.csv``, ``.tsv`` or ``.parquet`` with ``item_id`` and the fields that the model and its encoders
            read; in a text table the values of a list are separated by ``|``.
        out: a new folder.
        images: folder of the new items' pictures; small copies of them go into the bundle. A Parquet table may hold
            the pictures itself.
        clean_text: take HTML tags and entities out of titles and texts, as it was done for the others.
        item_columns: our name -> the table's, e.g. ``{"item_id": "sku", "title": "name"}``; '' leaves the column out.
        device: for the encoders.

    Raises:
        PalateError: a model without content (popularity, item-knn, ids without neighbours by content), a bundle without
            the features that neighbours are compared by, an encoder that is not the one recorded, a table that is
            wrong, by row; a plugged-in ranker that cannot append items; an item of which there is neither text nor
            picture.
    """
    bundle, out = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle), Path(out)
    model = check_can_append(bundle.recommender)
    features = {name: bundle.facts["features"][name] for name in _modalities(model)}
    compared = open_content_sources(bundle)
    for name, facts in [*features.items(), *((one.source, one.facts) for one in compared)]:
        if facts["content"]["kind"] not in ("text", "image", FIELDS):
            encoder_of(name, facts)  # raises if there is none
    if bundle.facts.get("onnx"):
        check_exportable(bundle.facts["model"])
    read = [*features.values(), *(one.facts for one in compared)]
    needed = columns_read(bundle.items, read)
    new = read_items(Path(table), bundle.items, needed, _folder(images), clean_text, item_columns)
    with atomic_folder(out) as part:
        made, near = _describe(model, features, compared, new, device)
        there = {name: np.asarray(np.diff(one.indptr) > 0) for name, one in near.items() if sparse.issparse(one)}
        there |= {name: one[1] for name, one in (near | made).items() if not sparse.issparse(one)}
        _check_content(Path(table), new, there)
        count = len(new.frame)
        vectors = {
            one.source: near[one.source] if one.words is not None else one.of_vectors(*near[one.source])
            for one in compared
        }
        lists = append_to_lists(model, compared, vectors, count, len(bundle.items) - bundle.facts.get("added", 0))
        larger = append_to_model(model, {name: _tensors(one) for name, one in made.items()}, lists, count)
        rows = {features[name]["file"]: one for name, one in made.items()}
        rows |= {one.facts["file"]: near[one.source] for one in compared}
        names = _copy(bundle, part, larger, rows, new)
        frame = pl.concat([bundle.items.catalogue.frame, new.frame])
        items = BundleItems(Catalogue(frame, bundle.items.catalogue.root), [*bundle.items.pictures[1:], *names])
        facts = _facts(bundle, items, larger, part)
        write_manifest(part, facts)
        if bundle.facts.get("onnx"):
            facts["onnx"] = export_encoder(larger, part)
        write_card(part / CARD, write_manifest(part, facts))
        write_manifest(part, facts)
        Bundle.load(part)
    notes = [*new.notes, *_notes(model, made), *_notes_on_neighbours(model, lists, count)]
    ids = new.frame["item_id"].to_list()
    return Added(out, ids, {name: int(present.sum()) for name, present in there.items()}, notes)


def _describe(
    model: SequentialRanker | ContentKNN,
    features: Mapping[str, Mapping[str, Any]],
    compared: Sequence[ContentSource],
    new: NewItems,
    device: str,
) -> tuple[dict[str, EncodedRows], dict[str, Any]]:
    """What the new items have by modality, and by source of neighbours (CSR ``[count, terms]`` of words).

    A source may be what a modality is: vectors are made once.
    """
    dense = [(name, facts) for name, facts in features.items() if name != FIELDS]
    dense += [(one.source, one.facts) for one in compared if one.words is None]
    needed = {facts["fingerprint"]: (name, facts) for name, facts in dense}
    encoders = {key: encoder_of(name, facts, device) for key, (name, facts) in needed.items()}
    encoded = {key: _encode(encoders[key], facts, new) for key, (_, facts) in needed.items()}
    made = {
        name: _codes(model, new) if name == FIELDS else encoded[facts["fingerprint"]]
        for name, facts in features.items()
    }
    near = {
        one.source: one.of_texts(new.frame) if one.words is not None else encoded[one.facts["fingerprint"]]
        for one in compared
    }
    return made, near


def _modalities(model: SequentialRanker | ContentKNN) -> list[str]:
    """The modalities whose features make an item's vector."""
    return list(model.widths) if isinstance(model, SequentialRanker) else []


EncodedRows = tuple[np.ndarray[Any, Any], np.ndarray[Any, np.dtype[np.bool_]]]


def _folder(images: Path | str | None) -> Path | None:
    return None if images is None else Path(images)


def _encode(encoder: Encoder, facts: Mapping[str, Any], new: NewItems) -> EncodedRows:
    """Vectors ``[count, width]`` of the new items and which are there, made as ``palate encode`` makes them."""
    count, stored = len(new.frame), np.dtype(facts["dtype"])
    content = facts["content"]
    catalogue = Catalogue(new.frame, new.images or Path())
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


def _codes(model: SequentialRanker | ContentKNN, new: NewItems) -> EncodedRows:
    """Codes ``[count, slots]`` of the new items' fields; a value that the training did not have is none."""
    if not isinstance(model, SequentialRanker) or model.fields is None:
        raise PalateError("the model does not say what its fields hold", "Make the bundle again.")
    return model.fields.encode(new.frame)


def _check_content(table: Path, new: NewItems, there: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    known = np.any(list(there.values()), axis=0)
    if not known.all():
        row = new.rows[int(np.flatnonzero(~known)[0])]
        raise PalateError(
            f"{table}, row {row}: there is nothing of the item that the model reads ({', '.join(there)})",
            "Give it a text, a picture or a field's known value, or leave it out.",
        )


def _tensors(made: EncodedRows) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(made[0].astype(np.float32)), torch.from_numpy(made[1])  # codes are exact too, below 2^24


def _copy(
    bundle: Bundle, part: Path, larger: Recommender, rows: Mapping[str | None, Any], new: NewItems
) -> list[str | None]:
    """Lay out the new bundle's files; returns the names of the new items' pictures.

    Args:
        rows: what is appended to the files of features; None is the name of a file that the bundle does not have.
    """
    old = len(bundle.items)
    for name in bundle.facts["files"]:
        if name.startswith(("model/", f"{ONNX}/")) or name in (NAME, CARD) or name in rows:
            continue
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, part / name)
    (part / "model").mkdir()
    larger.save(part / "model")
    for path in (part / "model").glob("*.safetensors"):
        shutil.copymode(part / "model" / "config.json", path)  # safetensors writes them for their owner alone
    for file, made in rows.items():
        if file is not None:
            append_rows(bundle.folder / file, part / file, made)
    pictures = {place: write_picture(old + place + 1, path, part) for place, path in new.pictures.items()}
    return [pictures.get(place) for place in range(len(new.frame))]


def _facts(bundle: Bundle, items: BundleItems, larger: Recommender, part: Path) -> dict[str, Any]:
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


def _notes(model: SequentialRanker | ContentKNN, made: Mapping[str, EncodedRows]) -> list[str]:
    notes: list[str] = []
    if not isinstance(model, SequentialRanker):
        return notes
    for name, (_, present) in made.items():
        if lacking := int((~present).sum()):
            notes.append(
                f"{lacking} of {len(present)} new items have no {name}: what stands for it is {model.config.missing}"
            )
    if not made:
        notes.append(
            "the model itself knows items by their ids alone: all new items are the same to it, and only what their "
            "neighbours add tells them apart"
        )
    elif "id" in model.config.modalities and not model.config.id_dropout:
        notes.append(
            "the model was trained with ids and without ranker.id_dropout: it leans on ids, which new items lack, and "
            "may rank them low"
        )
    return notes


def _notes_on_neighbours(model: SequentialRanker | ContentKNN, lists: Sequence[NeighbourList], count: int) -> list[str]:
    if not lists:
        return []
    notes = []
    if any(one.source == CO_OCCURRENCE for one in lists):
        notes.append(f"new items have no neighbours by {CO_OCCURRENCE}: nobody has taken them yet")
    alone = int((~np.any([one.items[-count:].any(1) for one in lists], axis=0)).sum())
    if alone and not _modalities(model):
        notes.append(f"{alone} of {count} new items have no neighbours: nothing recommends them")
    return notes
