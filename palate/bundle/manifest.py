"""The manifest of a bundle, ``bundle.json``: what there is, with a hash of every file, and the check that it is so.

A bundle may come from anybody. Nothing outside of its folder is read, nothing in it is read that the manifest does not
name, and no format is known to it that can run code.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from palate.errors import PalateError
from palate.storage.files import no_artefact, read_json, write_json

NAME = "bundle.json"
CARD = "README.md"
KIND = "palate bundle"
FORMAT = 1
SUFFIXES = (".json", ".jsonl", ".safetensors", ".parquet", ".txt", ".md", ".webp", ".jpg", ".onnx")
# What a hub, or its client, puts beside the files of a repository. Nothing of it is read.
_OF_THE_HUB = (".gitattributes", ".gitignore", ".cache", ".git", ".huggingface")
_REQUIRED: dict[str, type] = {
    "name": str,
    "model": str,
    "items": dict,
    "run": dict,
    "features": dict,
    "metrics": dict,
    "files": dict,
}
_REMEDY = "Get it again from where it was made, or make it again with `palate bundle`."


def is_bundle(folder: Path | str) -> bool:
    """Whether there is a bundle, whole or not."""
    return (Path(folder) / NAME).is_file()


def write_manifest(folder: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write ``bundle.json`` over the files in ``folder``; returns its content.

    Raises:
        PalateError: a file of a kind that no bundle holds.
    """
    files = {}
    for name in _listed(folder):
        if name == NAME:
            continue
        _check_name(folder, name)
        path = folder / name
        files[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    facts = {"kind": KIND, "format": FORMAT, **{k: v for k, v in facts.items() if k not in ("kind", "format", "files")}}
    facts["files"] = files
    write_json(folder / NAME, facts)
    return facts


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The content of ``bundle.json``, of a format that is known; the files are not looked at.

    Raises:
        PalateError: no bundle, a damaged one, or one of another format.
    """
    folder = Path(folder)
    if not (folder / NAME).is_file():
        raise no_artefact(folder, "a bundle", NAME, "Make one with `palate bundle RUN --out DIR`.")
    _check_link(folder, folder / NAME)
    facts = read_json(folder / NAME)
    if not isinstance(facts, dict) or facts.get("kind") != KIND:
        raise PalateError(f"{folder / NAME} is not a bundle's", "Check the path.")
    if facts.get("format") != FORMAT:
        raise PalateError(
            f"{folder} has bundle format {facts.get('format')!r}, this Palate reads {FORMAT}",
            "Use the version of Palate that made it, or make it again.",
        )
    lacking = [key for key, kind in _REQUIRED.items() if not isinstance(facts.get(key), kind)]
    if lacking:
        raise PalateError(f"{folder / NAME} is damaged: it lacks '{lacking[0]}'", _REMEDY)
    return facts


def verify(folder: Path | str) -> dict[str, Any]:
    """Check every file of a bundle against its manifest, and return the manifest.

    The card alone may be edited: nothing reads it.

    Raises:
        PalateError: a file is missing, changed, not in the manifest, of a kind that no bundle holds, or a link that
            leads out of the bundle.
    """
    folder = Path(folder)
    facts = read_manifest(folder)
    for name, entry in facts["files"].items():
        _check_name(folder, name)
        if not isinstance(entry, dict) or not re.fullmatch(r"[0-9a-f]{64}", str(entry.get("sha256"))):
            raise PalateError(f"{folder / NAME} is damaged: no sha256 of '{name}'", _REMEDY)
    for name, described in facts["features"].items():
        if not _sound_features(described, facts["files"]):
            raise PalateError(f"{folder / NAME} is damaged: what it says of the {name} features is not whole", _REMEDY)
    near = facts.get("neighbours", {})
    for name, described in near.items() if isinstance(near, dict) else [("", None)]:
        if not _sound_neighbours(described, facts["files"]):
            raise PalateError(
                f"{folder / NAME} is damaged: what it says of the {name} neighbours is not whole", _REMEDY
            )
    there = set(_listed(folder))
    unknown = sorted(there - set(facts["files"]) - {NAME, CARD})
    if unknown:
        raise PalateError(
            f"{folder} holds a file that its manifest does not name: '{unknown[0]}'",
            "Remove it, or get the bundle again.",
        )
    for name, entry in facts["files"].items():
        if name == CARD:
            continue
        if name not in there:
            raise PalateError(f"{folder} lacks the file '{name}'", _REMEDY)
        path = folder / name
        if path.stat().st_size != entry.get("bytes") or sha256(path) != entry["sha256"]:
            raise PalateError(f"{path} is not the file that the bundle was made with (its sha256 differs)", _REMEDY)
    return facts


def _sound_features(facts: Any, files: dict[str, Any]) -> bool:
    """Whether the facts of a modality are what the code relies on, and name no file but one of the bundle."""
    if not isinstance(facts, dict):
        return False
    encoder, content = facts.get("encoder"), facts.get("content")
    return (
        isinstance(encoder, dict)
        and all(isinstance(encoder.get(key), str) for key in ("name", "fingerprint"))
        and isinstance(content, dict)
        and isinstance(content.get("kind"), str)
        and (content["kind"] not in ("text", "fields") or _strings(content.get("fields")))
        and isinstance(facts.get("width"), int)
        and facts.get("dtype") in (("int32",) if content["kind"] == "fields" else ("float32", "float16"))
        and isinstance(facts.get("fingerprint"), str)
        and (facts.get("file") is None or _names(facts["file"], files))
    )


def _sound_neighbours(facts: Any, files: dict[str, Any]) -> bool:
    """Whether the facts of a source of neighbours are what the code relies on, likewise."""
    if not _sound_features(facts, files) or not isinstance(facts.get("keep"), int) or facts["keep"] < 1:
        return False
    if facts.get("layout") != "sparse" or facts.get("file") is None:
        return True
    return _names(facts.get("vocabulary"), files) and isinstance(facts["encoder"].get("options"), dict)


def _names(value: Any, files: dict[str, Any]) -> bool:
    return isinstance(value, str) and value in files


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def linked(folder: Path) -> bool:
    """Whether the files are links into the blobs of a hub's cache, as ``snapshot_download`` lays them."""
    return (folder / NAME).is_symlink()


def _listed(folder: Path) -> list[str]:
    """Relative names of all files, links checked; what a hub puts beside them left out."""
    names = []
    for where, folders, files in os.walk(folder):
        here = Path(where)
        top = here == folder
        folders[:] = sorted(name for name in folders if not (top and name in _OF_THE_HUB))
        for name in folders:
            if (here / name).is_symlink():
                raise PalateError(f"{here / name} is a link to a folder", "A bundle holds its files itself.")
        for name in sorted(files):
            if top and name in _OF_THE_HUB:
                continue
            _check_link(folder, here / name)
            names.append((here / name).relative_to(folder).as_posix())
    return names


def _check_link(folder: Path, path: Path) -> None:
    """A regular file, or a link as the hub's cache makes them: from ``snapshots/REVISION`` into its own ``blobs``."""
    if path.is_symlink():
        home = folder.resolve().parent
        if home.name != "snapshots" or not path.resolve().is_relative_to(home.parent / "blobs"):
            raise PalateError(f"{path} is a link that leads out of the bundle", "A bundle holds its files itself.")
    if not path.is_file():
        raise PalateError(f"{path} is not a regular file", "Remove it, or get the bundle again.")


def _check_name(folder: Path, name: str) -> None:
    windows = PureWindowsPath(name)  # also knows 'C:' and '\\', which are no separators elsewhere
    plain = PurePosixPath(name).as_posix() == name and windows.as_posix() == name
    if not plain or name.startswith("/") or windows.drive or ".." in windows.parts or not name.isprintable():
        raise PalateError(f"{folder / NAME} names {name!r}, which is outside of the bundle", _REMEDY)
    if not name.lower().endswith(SUFFIXES):
        raise PalateError(f"'{name}' is of a kind that no bundle holds", f"Bundles hold: {', '.join(SUFFIXES)}.")
