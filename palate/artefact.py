"""What a file or folder is: the Python call behind ``palate info``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.storage.files import file_digest, read_json
from palate.storage.remote import local
from palate.storage.small_files import check_regular, json_rows, read_object
from palate.storage.toml import read_toml

Facts = dict[str, Any]


def describe(path: Path | str) -> Facts:
    """Facts about an artefact: ``kind`` first, then the facts of that kind. Reads only what it must.

    Raises:
        PalateError: nothing is there, or it is damaged.
    """
    path = local(path)
    if path.is_dir():
        for marker, read_folder in _FOLDERS.items():
            if (path / marker).is_file():
                return _read(path, read_folder)
        return _folder(path)
    check_regular(path)
    facts = {"bytes": path.stat().st_size, "digest": file_digest(path)}
    read = _FILES.get(path.suffix.lower())
    if read is None:
        return {"kind": f"file ({path.suffix or 'no suffix'})", **facts}
    return {**_read(path, read), **facts}


def _read(path: Path, read: Callable[[Path], Facts]) -> Facts:
    try:
        return read(path)
    except PalateError:
        raise
    except Exception as error:  # every format has errors of its own; the file is what the user can mend
        reason = str(error) if path.is_file() else f"{type(error).__name__}: {error}"
        raise PalateError(
            f"{path} cannot be read ({reason})", "It may be damaged, or not what its name says."
        ) from None


def kind_of(folder: Path) -> str | None:
    """``bundle``, ``dataset``, ``feature store``, ``list of neighbours``, ``run``, ``evaluation`` ... or None."""
    return next((_KINDS[marker] for marker in _FOLDERS if (folder / marker).is_file()), None)


def _dataset(folder: Path) -> Facts:
    from palate.data.dataset import Dataset

    data = Dataset.load(folder)
    frame, manifest = data.catalogue.frame, data.manifest
    lengths = data.offsets[1:] - data.offsets[:-1]
    features = sorted(p.name for p in (folder / "features").glob("*") if (p / "store.json").is_file())
    return {
        "kind": "dataset",
        "name": data.name,
        "users": data.num_users,
        "items": data.num_items,
        "interactions": len(data),
        "interactions_per_user": {
            "least": int(lengths.min() if len(lengths) else 0),
            "mean": float(round(lengths.mean(), 2) if len(lengths) else 0),
        },
        "cold_items": int((data.train_counts[1:] == 0).sum()),
        "split": manifest.get("split"),
        "valid_cases": len(data.cases("valid")),
        "test_cases": len(data.cases("test")),
        "times": data.timestamps is not None,
        "weights": data.weights is not None,
        **({"parent": manifest["parent"], "appended": manifest["appended"][-1]} if "parent" in manifest else {}),
        "kept_log": data.log is not None,
        **({} if data.dislikes is None else {"dislikes": len(data.dislikes.values)}),
        **({} if data.impressions is None else {"impressions": data.impressions.counts()}),
        "with_title": round(1 - frame["title"].null_count() / max(1, len(frame)), 4),
        "with_image": round(1 - frame["image"].null_count() / max(1, len(frame)), 4),
        "fields": data.catalogue.fields,
        "features": {name: _store_line(folder / "features" / name) for name in features},
        "filters": [
            {
                "step": row.get("step"),
                "interactions_before": row["before"].get("interactions"),
                "after": row["after"].get("interactions"),
            }
            if isinstance(row.get("before"), dict)
            else row
            for row in manifest.get("filters", [])
        ],
        "fingerprint": data.fingerprint,
    }


def _store_line(folder: Path) -> str:
    info = read_object(folder / "store.json")
    unit = "terms" if info.get("layout") == "sparse" else "wide"
    reused = f", {info['reused']['items']:,} as before" if isinstance(info.get("reused"), dict) else ""
    return f"{info['encoder']['name']}, {info['width']} {unit}, {info['coverage']['items']:.1%} of the items{reused}"


def _store(folder: Path) -> Facts:
    info = read_object(folder / "store.json")
    return {"kind": "feature store", **{key: value for key, value in info.items() if key not in ("format", "complete")}}


def _neighbours(folder: Path) -> Facts:
    return {"kind": "list of neighbours", **_without_format(folder / "neighbours.json")}


def _run(folder: Path) -> Facts:
    from palate.runs.run import Run

    run = Run.open(folder)
    hidden = ("format", "model", "seed", "options", "environment", "finished")
    log = folder / "metrics.jsonl"
    rows = list(json_rows(log)) if log.is_file() else []
    return {
        "kind": "run",
        "model": run.info["model"],
        "seed": run.seed,
        "finished": bool(run.info.get("finished")),
        "items": len(run.catalogue),
        **{key: value for key, value in run.info.items() if key not in hidden},
        "options": run.info["options"],
        "last_epoch": rows[-1] if rows else None,
        "environment": run.info["environment"],
    }


def _bundle(folder: Path) -> Facts:
    info = read_object(folder / "bundle.json")
    if not isinstance(info.get("files"), dict):
        raise PalateError(f"{folder / 'bundle.json'} is not a bundle's", "Check the path.")
    files = info.pop("files")
    return {
        "kind": "bundle",
        **{key: value for key, value in info.items() if key not in ("kind", "format", "run")},
        "trained_on": (info.get("run") or {}).get("dataset"),
        "seed": (info.get("run") or {}).get("seed"),
        "environment": (info.get("run") or {}).get("environment"),
        "files": {name: entry.get("bytes") for name, entry in files.items() if not name.startswith("images/")},
        "pictures": sum(name.startswith("images/") for name in files),
    }


def _evaluation(folder: Path) -> Facts:
    return {"kind": "evaluation", **_without_format(folder / "table.json")}


def _tuning(folder: Path) -> Facts:
    return {"kind": "tuning", **_without_format(folder / "study.json")}


def _summaries(folder: Path) -> Facts:
    facts, missing, path = (
        _without_format(folder / "summaries.json"),
        folder / "missing.json",
        folder / "summaries.jsonl",
    )
    made = facts.pop("made", {})
    # A line that is being written, or was cut off, is not a summary yet.
    whole = path.read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2] if path.is_file() else b""
    try:
        last = json.loads(whole)["text"] if whole else None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise PalateError(f"{path} is damaged", "Remove its last line.") from None
    return {
        **made,
        "kind": f"summaries of {made.get('kind')}",
        **facts,
        **({"missing": read_object(missing)["reasons"]} if missing.is_file() else {}),
        "last": last,
    }


def _without_format(path: Path) -> Facts:
    return {key: value for key, value in read_object(path).items() if key != "format"}


def _folder(folder: Path) -> Facts:
    """A folder that only holds artefacts, such as ``runs/``."""
    inside = {p.relative_to(folder).as_posix(): kind_of(p) for p in sorted([*folder.glob("*"), *folder.glob("*/*")])}
    found = {name: kind for name, kind in inside.items() if kind}
    if not found:
        raise PalateError(
            f"{folder} is no artefact of Palate and holds none",
            "Give a dataset, a feature store, a run, a bundle, an evaluation or a file.",
        )
    return {"kind": "folder", "holds": found}


def _parquet(path: Path) -> Facts:
    import pyarrow.parquet as pq

    meta = pq.read_metadata(path)
    schema = meta.schema.to_arrow_schema()
    columns = {field.name: str(field.type) for field in schema}
    return {"kind": "Parquet table", "rows": meta.num_rows, "columns": columns}


def _safetensors(path: Path) -> Facts:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
        tensors = {name: f"{one.get_dtype()} {list(one.get_shape())}" for name, one in slices.items()}
        metadata = file.metadata()
    return {"kind": "tensors", "tensors": tensors, "metadata": metadata}


def _npy(path: Path) -> Facts:
    from palate.storage.tensors import load_array

    array = load_array(path, mapped=True)
    return {"kind": "array", "dtype": str(array.dtype), "shape": list(array.shape)}


def _jsonl(path: Path) -> Facts:
    rows, last = 0, None
    for row in json_rows(path, "Correct the line."):
        rows, last = rows + 1, row
    return {"kind": "JSON lines", "rows": rows, "last": last}


def _json(path: Path) -> Facts:
    value = read_json(path)
    if isinstance(value, dict):
        return {"kind": "JSON", "keys": list(value)}
    return {"kind": "JSON", "length": len(value)} if isinstance(value, list) else {"kind": "JSON", "value": value}


def _toml(path: Path) -> Facts:
    return {"kind": "recipe", "tables": read_toml(path)}


def _image(path: Path) -> Facts:
    from palate.data.images import open_image

    return {"kind": "picture", "size": list(open_image(path).size)}


_FOLDERS: dict[str, Callable[[Path], Facts]] = {
    "bundle.json": _bundle,
    "store.json": _store,
    "neighbours.json": _neighbours,
    "run.json": _run,
    "manifest.json": _dataset,
    "study.json": _tuning,
    "table.json": _evaluation,
    "summaries.json": _summaries,
}
_KINDS = {
    "bundle.json": "bundle",
    "store.json": "feature store",
    "neighbours.json": "list of neighbours",
    "run.json": "run",
    "manifest.json": "dataset",
    "study.json": "tuning",
    "table.json": "evaluation",
    "summaries.json": "summaries",
}
_FILES: dict[str, Callable[[Path], Facts]] = {
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".npy": _npy,
    ".jsonl": _jsonl,
    ".json": _json,
    ".toml": _toml,
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp"), _image),
}
