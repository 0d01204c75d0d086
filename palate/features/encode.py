"""Encode a catalogue's texts or pictures into a FeatureStore: batched, resumable, and honest about what is missing."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.console import agreeing, counted, print_note
from palate.data.dataset import Dataset
from palate.engines.base import Engine
from palate.engines.local import LOCAL
from palate.errors import PalateError, suggest
from palate.features.chunks import Chunks, clear
from palate.features.content import MODALITIES, Contents, Modality, image_contents, text_contents, text_fields
from palate.features.encode_pieces import EncoderFacts, EncodeTask, stored_dtype
from palate.features.encoders import DEFAULTS, Encoder, EncoderOptions, Precision, make_encoder
from palate.features.folders import command_of, refuse_existing, store_folder
from palate.features.reuse import find_earlier, is_outdated
from palate.features.store import FeatureStore, write_store
from palate.storage.exhausted import reserve
from palate.storage.files import digest, read_json
from palate.storage.leftovers import sweep
from palate.storage.lock import alone
from palate.storage.remote import takes_urls

_EXAMPLES = 5


@takes_urls("dataset_path")
def encode(
    dataset: Dataset,
    dataset_path: Path | str,
    modality: Modality,
    *,
    encoder: str | Encoder | None = None,
    fields: Sequence[str] | None = None,
    without: str | None = None,
    store: str | None = None,
    device: str = "auto",
    dtype: Precision = "float32",
    batch_size: int | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    resume: bool = True,
    overwrite: bool = False,
    reuse: Path | str | None = None,
    engine: Engine = LOCAL,
) -> FeatureStore:
    """Encode one modality of a dataset's items and write ``DATASET/features/STORE``.

    Equal contents are encoded once. An item whose text or picture is missing, or whose picture cannot be decoded, is
    marked in ``present`` and counted with the reason; it never becomes a zero vector that looks like a feature. A
    killed call continues where it was when called again with the same options; a finished one is not done twice.

    Contents of which an earlier store of the same encoder has the vector are not encoded again: of the store that is
    replaced, or of the dataset that this one was appended to (see :mod:`palate.features.reuse`). A store of the same
    encoder and options that no longer fits the catalogue is brought up to date in this way.

    Args:
        encoder: name in the registry, hub model, local folder, or an Encoder (used as it was made);
            by default the embedded one.
        fields: columns that make the text; by default the title and every text field.
        without: regular expression of what is taken out of the text, e.g. ``r"\\(\\d{4}\\)"`` for a year in the title.
        store: folder name, by default the modality.
        dtype: precision of the computation; float16 is also how the vectors are stored then.
        resume: go on with what an interrupted call has left, and with vectors of earlier stores; False encodes all.
        overwrite: replace a store that was made otherwise.
        reuse: dataset folder with the earlier store, where it is not found by itself.
        engine: where the work is done; the store is the same.

    Raises:
        PalateError: nothing to encode, an unknown encoder or field, or a store that is there already.
    """
    name = store or modality
    folder = store_folder(dataset_path, name)
    if modality not in MODALITIES:
        raise PalateError(f"there is no modality '{modality}' to encode", suggest(modality, MODALITIES))
    if modality == "image" and (fields is not None or without is not None):
        raise PalateError("--fields and --without are about text", "Leave them out for pictures.")
    if reuse is not None and not resume:
        raise PalateError("--anew encodes everything, and --reuse names what need not be", "Leave one of them out.")
    spec, contents = _contents(dataset, modality, fields, without, engine)
    if batch_size is not None and batch_size < 1:
        raise PalateError(f"--batch-size is {batch_size}", "Give at least 1.")
    if isinstance(encoder, Encoder):
        if not engine.in_process:
            raise PalateError("an encoder in memory cannot be sent to workers", "Give its name, or a folder.")
        make: Callable[[], Encoder] = partial(_itself, encoder)
    else:
        values = {
            "name": encoder or DEFAULTS[modality],
            "modality": modality,
            "device": device,
            "dtype": dtype,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
        }
        make = partial(make_encoder, EncoderOptions.parse(values, where="encode"))
    folders = (dataset.catalogue.root,) if modality == "image" else ()
    with engine.workers(EncodeTask(make, batch_size, folders)) as workers:
        chosen: EncoderFacts = workers.facts
        options = chosen.options
        stored = stored_dtype(options)
        what = json.dumps([modality, spec, str(stored)])
        job = digest(chosen.fingerprint, what, *dataset.catalogue.ids, *contents.keys)
        unfinished = folder.with_name(f".{name}.partial")
        if not overwrite and _is_done(folder, job):
            sweep(folder.parent)
            clear(unfinished, job)
            print_note(f"{folder} is up to date.")
            return FeatureStore.load(folder, dataset.catalogue)
        command = command_of(
            modality,
            options.name,
            store=name,
            fields=",".join(fields) if fields is not None else None,
            without=without,
            dtype=None if options.dtype == "float32" else options.dtype,
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
        )
        overwrite = overwrite or is_outdated(
            folder, command, chosen.fingerprint, partial(FeatureStore.load, folder, dataset.catalogue)
        )
        refuse_existing(folder, overwrite)
        earlier = None
        if resume:
            earlier = find_earlier(dataset_path, name, reuse, chosen.fingerprint, chosen.width, stored)
        # Two calls for one store would take each other's pieces for those of a killed one.
        with alone(
            unfinished, f"another process is encoding {folder}", "Wait for it, or give this one another --store."
        ):
            groups: dict[str, list[int]] = defaultdict(list)
            for row, key in enumerate(contents.keys):
                if key:
                    groups[key].append(row)
            known = {key: earlier.row_of[key] for key in groups if key in earlier.row_of} if earlier else {}
            rows = _order([members[0] for key, members in groups.items() if key not in known], contents, modality)
            pieces = digest(job, earlier.fingerprint) if earlier and known else job
            chunks = Chunks(unfinished, pieces, fresh=not resume)
            reused = sum(len(groups[key]) for key in known)
            if earlier and known:
                whole = counted(len(contents.keys), "item")
                print_note(f"{reused:,} of {whole} {agreeing(reused, 'is', 'are')} as in {earlier.folder}.")
            chunks.fill([contents.values[row] for row in rows], workers, modality)

            members = [groups[contents.keys[row]] for row in rows]
            copied = [(earlier.vectors[row], groups[key]) for key, row in known.items()] if earlier else []
            matrix, present, failed = _assemble(chunks, members, len(contents.keys), chosen.width, stored, copied)
            reasons = {**contents.reasons, **failed}
            if not present.any():
                shutil.rmtree(chunks.folder, ignore_errors=True)
                raise PalateError(
                    f"no item has {modality} that could be encoded ({_why(reasons)})",
                    "See `palate doctor` for the catalogue.",
                )
            write_store(
                folder,
                modality=modality,
                encoder={**options.model_dump(), "fingerprint": chosen.fingerprint, "job": job, "command": command},
                content=spec,
                table=contents.table,
                vectors=matrix,
                present=present,
                interactions=dataset.items,
                missing=summarise(reasons, dataset.catalogue.ids),
                replace=overwrite,
                reused={"items": reused, "fingerprint": earlier.fingerprint} if earlier and known else None,
            )
            shutil.rmtree(chunks.folder, ignore_errors=True)
            return FeatureStore.load(folder, dataset.catalogue)


def _itself(encoder: Encoder) -> Encoder:
    return encoder


def _contents(
    dataset: Dataset, modality: Modality, fields: Sequence[str] | None, without: str | None, engine: Engine
) -> tuple[dict[str, Any], Contents]:
    catalogue = dataset.catalogue
    if modality == "text":
        names = text_fields(catalogue, fields)
        contents = text_contents(catalogue, names, without)
        spec: dict[str, Any] = {"kind": "text", "fields": names, "without": without}
    else:
        contents, spec = image_contents(catalogue, engine), {"kind": "image"}
    if not any(contents.keys):
        raise PalateError(
            f"no item of the dataset has {modality} to encode ({_why(contents.reasons)})",
            "Give text fields or pictures to `palate prepare`, or leave this modality out.",
        )
    return spec, contents


def _order(rows: list[int], contents: Contents, modality: Modality) -> list[int]:
    """Texts of like length together, longest first: little padding, and too large a batch fails at once."""
    if modality == "image":
        return rows
    return sorted(rows, key=lambda row: (-len(str(contents.values[row])), contents.keys[row]))


def _is_done(folder: Path, job: str) -> bool:
    if not (folder / "store.json").is_file():
        return False
    try:
        info = read_json(folder / "store.json")
        return bool(info["complete"] and info["encoder"].get("job") == job)
    except (PalateError, KeyError, TypeError, AttributeError):
        return False


def _assemble(
    chunks: Chunks,
    members: list[list[int]],
    items: int,
    width: int,
    stored: np.dtype[Any],
    copied: Sequence[tuple[npt.NDArray[Any], list[int]]] = (),
) -> tuple[Path, npt.NDArray[np.bool_], dict[int, str]]:
    """Lay the chunks' vectors into the rows of their items, in a file: the matrix may be larger than memory.

    Args:
        copied: vectors that are known already, with the rows of their items.
    """
    path = chunks.folder / "vectors.npy"
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=stored, shape=(items + 1, width))
    reserve(path)
    present = np.zeros(items + 1, np.bool_)
    failed: dict[int, str] = {}
    position = 0
    for vector, owned_rows in copied:
        matrix[np.asarray(owned_rows) + 1] = vector
        present[np.asarray(owned_rows) + 1] = True
    for vectors, reasons in chunks.read():
        owned = members[position : position + len(vectors)]
        rows = np.fromiter(chain.from_iterable(owned), np.int64)
        source = np.repeat(np.arange(len(vectors)), [len(one) for one in owned])
        good = ~np.isin(source, list(reasons))
        matrix[rows[good] + 1] = vectors[source[good]]
        present[rows[good] + 1] = True
        failed |= {row: reason for offset, reason in reasons.items() for row in owned[offset]}
        position += len(vectors)
    matrix.flush()
    return path, present, failed


def summarise(reasons: dict[int, str], ids: Sequence[str]) -> list[dict[str, Any]]:
    """Reasons with how many items they concern and a few of these, most frequent first.

    Args:
        reasons: item row (0-based) -> reason.
        ids: item ids by index (1-based).
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, reason in sorted(reasons.items()):
        rows[reason].append(row)
    ordered = sorted(rows.items(), key=lambda pair: (-len(pair[1]), pair[0]))
    return [
        {"reason": reason, "items": len(found), "examples": [ids[row + 1] for row in found[:_EXAMPLES]]}
        for reason, found in ordered
    ]


def _why(reasons: dict[int, str]) -> str:
    if not reasons:
        return "the catalogue is empty"
    first = summarise(reasons, [""] * (max(reasons) + 2))[0]
    return f"{first['reason']}: {counted(first['items'], 'item')}"
