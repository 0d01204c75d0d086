"""Bring your own matrix: vectors made elsewhere, with item ids, become a FeatureStore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.dataset import Dataset
from palate.data.identity import check_ids, id_column, id_text
from palate.data.numbering import numbers_of
from palate.errors import PalateError
from palate.features.content import SCHEMA, Modality
from palate.features.encode import summarise
from palate.features.encoders import Precision
from palate.features.folders import command_of, refuse_existing, store_folder
from palate.features.store import FeatureStore, write_store
from palate.storage.files import digest, file_digest, read_json
from palate.storage.remote import takes_urls
from palate.storage.small_files import parse_json
from palate.storage.tables import read_parquet
from palate.storage.tensors import load_array

_ID_COLUMNS = ("item_id", "item", "itemId", "id", "asin")


@takes_urls("dataset_path")
def import_matrix(
    dataset: Dataset,
    dataset_path: Path | str,
    modality: Modality,
    matrix: Path | str,
    *,
    ids: Path | str | None = None,
    name: str | None = None,
    store: str | None = None,
    dtype: Precision = "float32",
    overwrite: bool = False,
) -> FeatureStore:
    """Import vectors that were made elsewhere as ``DATASET/features/STORE``; rows are matched by item id.

    Args:
        matrix: ``.npy`` (2-D; ids in a file of their own), ``.safetensors`` (one 2-D tensor; ids as a JSON list in the
            metadata key ``ids``, or in a file), or ``.parquet`` (a column of ids and a column of number lists).
        ids: ``.txt`` (an id a line) or ``.json`` (a list); by default the matrix's name with ``.ids.txt``
            or ``.ids.json``.
        name: what made the vectors, for reports; by default the file's name.
        dtype: float16 stores half precision; anything else float32.

    Raises:
        PalateError: an unreadable file, rows of unequal length, ids that are doubled, too few, or match no item.
    """
    matrix = Path(matrix)
    folder = store_folder(dataset_path, store or modality)
    refuse_existing(folder, overwrite)
    if not matrix.is_file():
        raise PalateError(f"{matrix} does not exist", "Check --matrix.")
    names, values = read_matrix(matrix, Path(ids) if ids is not None else None)
    stored_ids = pl.Series(names, dtype=pl.String)
    twice = stored_ids.filter(stored_ids.is_duplicated())
    if len(twice):
        raise PalateError(f"{matrix} has item '{twice[0]}' twice", "Keep one row per item.")
    catalogue = dataset.catalogue
    rows = numbers_of(catalogue.frame["item_id"], stored_ids) - 1
    if not (rows >= 0).any():
        raise PalateError(
            f"no id of {matrix} (such as '{names[0]}') is an item of the dataset (such as '{catalogue.ids[1]}')",
            "Give the item ids of the source.",
        )
    stored = np.dtype("float16" if dtype == "float16" else "float32")
    vectors = np.zeros((len(catalogue) + 1, values.shape[1]), stored)
    present = np.zeros(len(catalogue) + 1, np.bool_)
    with np.errstate(over="ignore"):
        vectors[1:][rows >= 0] = values[rows[rows >= 0]]
    present[1:] = (rows >= 0) & np.isfinite(vectors[1:]).all(axis=1)
    vectors[~present] = 0
    reasons = {
        int(row): "no row in the matrix" if rows[row] < 0 else "numbers that are not finite"
        for row in np.flatnonzero(~present[1:])
    }
    label = name or matrix.name
    command = command_of(
        "matrix", str(matrix), modality=modality, ids=ids, name=name, store=store or modality,
        dtype=None if dtype == "float32" else dtype,
    )  # fmt: skip
    # Vectors that were not made from the catalogue cannot be compared with it: only the ids can.
    columns = {"item_id": catalogue.ids[1:], "content": [""] * len(catalogue)}
    empty = {key: [None] * len(catalogue) for key in ("path", "size", "mtime_ns")}
    write_store(
        folder,
        modality=modality,
        encoder={
            "name": label,
            "matrix": str(matrix),
            "rows": len(names),
            "rows_of_unknown_items": len(names) - int((rows >= 0).sum()),
            "fingerprint": digest("matrix", file_digest(matrix)),
            "command": command,
        },
        content={"kind": "ids"},
        table=pl.DataFrame({**columns, **empty}, schema=SCHEMA),
        vectors=vectors,
        present=present,
        interactions=dataset.items,
        missing=summarise(reasons, catalogue.ids),
        replace=overwrite,
    )
    return FeatureStore.load(folder, catalogue)


def read_matrix(path: Path, ids: Path | None) -> tuple[list[str], npt.NDArray[Any]]:
    """Ids and floating-point rows ``[n, width]`` of a file, checked against each other."""
    readers = {".npy": _read_npy, ".safetensors": _read_safetensors, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise PalateError(f"{path} is of no kind that can be read", f"Give one of: {', '.join(readers)}.")
    names, values = readers[path.suffix.lower()](path)
    side = ids or next((p for p in (path.with_suffix(".ids.txt"), path.with_suffix(".ids.json")) if p.is_file()), None)
    if names is None or ids is not None:
        if side is None:
            raise PalateError(f"{path} has no item ids", "Give them with --ids FILE (.txt, one per line, or .json).")
        names = _read_ids(side)
    if values.ndim != 2 or not values.shape[1] or values.dtype.kind not in "fiu":
        shape = "x".join(map(str, values.shape))
        raise PalateError(
            f"{path} holds {values.dtype} of shape {shape}, not a table of numbers", "Give [items, width]."
        )
    if len(names) != len(values) or not names:
        raise PalateError(f"{path} has {len(values)} rows for {len(names)} ids", "Give one id a row.")
    empty = next((row for row, name in enumerate(names, start=1) if not name), None)
    if empty is not None:
        raise PalateError(f"{path}: row {empty} has no item id", "Give every row its item's id, or remove it.")
    check_ids(names, str(path))
    return names, values


def _read_ids(path: Path) -> list[str]:
    if path.suffix.lower() == ".json":
        return _id_list(read_json(path), path)
    try:
        # Split at line feeds only: an id may hold a character that str.splitlines takes for the end of a line.
        lines = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
        return [line.removesuffix("\r") for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise PalateError(f"{path} cannot be read ({error})", "Check --ids.") from None


def _id_list(value: Any, path: Path) -> list[str]:
    if not isinstance(value, list) or not all(type(one) in (str, int) for one in value):
        raise PalateError(f"the ids of {path} are no list of ids", "Give a JSON list of strings.")
    return [str(one) for one in value]


def _read_npy(path: Path) -> tuple[list[str] | None, npt.NDArray[Any]]:
    try:
        return None, load_array(path, mapped=True)
    except (OSError, ValueError, EOFError) as error:
        raise PalateError(
            f"{path} cannot be read as .npy ({error})", "Save it with numpy.save, numbers only."
        ) from None


def _read_safetensors(path: Path) -> tuple[list[str] | None, npt.NDArray[Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            keys, metadata = list(file.keys()), file.metadata() or {}
            tables = [key for key in keys if len(file.get_slice(key).get_shape()) == 2]
            if len(tables) != 1:
                raise PalateError(f"{path} has {len(tables)} tables of vectors", "Keep one 2-D tensor in the file.")
            values = file.get_tensor(tables[0]).float().numpy()  # also bfloat16, which numpy does not know
            others = [(key, file.get_tensor(key)) for key in keys if key in ("ids", "item_ids")]
    except (OSError, SafetensorError) as error:
        raise PalateError(f"{path} cannot be read as .safetensors ({error})", "Save it again.") from None
    if "ids" in metadata:
        return _id_list(parse_json(metadata["ids"], f"{path}: the metadata 'ids'", "Give a JSON list."), path), values
    if len(others) > 1:
        raise PalateError(f"{path} has the tensors 'ids' and 'item_ids', and either may be the ids", "Keep one.")
    for key, tensor in others:
        if tensor.is_floating_point() or str(tensor.dtype) == "torch.bool" or tensor.ndim != 1:
            raise PalateError(f"{path}: the tensor '{key}' holds {tensor.dtype}", "Ids must be whole numbers.")
        return [str(one) for one in tensor.tolist()], values
    return None, values


def _read_parquet(path: Path) -> tuple[list[str] | None, npt.NDArray[Any]]:
    try:
        frame = read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"{path} cannot be read as Parquet ({error})", "Save it again.") from None
    lists = [c for c, kind in frame.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if len(lists) != 1:
        raise PalateError(f"{path} has {len(lists)} columns of lists", "Keep one column of number lists, and the ids.")
    column = frame[lists[0]]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    lengths = column.list.len()
    if lengths.null_count() or lengths.n_unique() > 1 or not len(lengths):
        row = _first_odd(lengths.to_list())
        raise PalateError(f"{path}, row {row + 1}: the vector's length differs from the others'", "Give equal lengths.")
    rest = [name for name in frame.columns if name != lists[0]]
    usual = id_column(rest, _ID_COLUMNS, str(path), "Keep one of them, or call it item_id.")
    named = usual or (rest[0] if len(rest) == 1 else None)
    try:
        flat = column.explode().cast(pl.Float32).to_numpy()
    except pl.exceptions.PolarsError:
        raise PalateError(f"{path}: the lists hold no numbers", "Give a column of number lists.") from None
    values = flat.reshape(len(frame), -1) if len(frame) else flat.reshape(0, 0)
    if named is None:
        return None, values
    ids = frame.select(id_text(pl.col(named), frame.schema[named], named, str(path)))
    return ids[named].to_list(), values


def _first_odd(lengths: Sequence[int | None]) -> int:
    usual = max(set(lengths), key=lengths.count) if lengths else None
    return next((row for row, length in enumerate(lengths) if length != usual), 0)
