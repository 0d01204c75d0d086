"""The work of encoding in pieces on disk, so that a killed job continues where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from palate.console import print_note
from palate.engines.base import Workers
from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.encode_pieces import EncodedPiece
from palate.progress import counter
from palate.storage.files import atomic_file, read_json, write_json
from palate.storage.leftovers import remove
from palate.storage.lock import alone

# Contents a piece: what a kill may cost. Small enough for slow models, large enough for a million items.
CHUNK = 256


class Chunks:
    """A folder of finished pieces of one job; pieces of another job are thrown away.

    Args:
        job: hash of all that decides the result; pieces are only used for the job they were made for.
        fresh: start anew even if there are pieces of this job.
    """

    def __init__(self, folder: Path, job: str, fresh: bool = False) -> None:
        self.folder = folder
        mark = {"job": job, "chunk": CHUNK}
        if folder.exists() and (fresh or self._mark() != mark):
            for path in folder.iterdir():
                if path.name != ".lock":  # held by this process
                    remove(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "job.json", mark)

    def _mark(self) -> Any:
        """What the pieces in the folder belong to, or None."""
        return _mark(self.folder)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.safetensors"

    def fill(self, contents: Sequence[Any], workers: Workers[Sequence[Any], EncodedPiece], modality: Modality) -> None:
        """Have what has no piece yet encoded; a piece appears whole or not at all."""
        pieces = [contents[start : start + CHUNK] for start in range(0, len(contents), CHUNK)]
        todo = [number for number in range(len(pieces)) if not _readable(self._path(number))]
        left = sum(len(pieces[number]) for number in todo)
        if left < len(contents):
            print_note(f"Going on after {len(contents) - left} of {len(contents)} encoded before.")
        description = {"text": "Encoding texts", "image": "Encoding pictures"}[modality]
        with counter(description, len(contents), done=len(contents) - left) as advance:
            for place, (vectors, reasons) in workers.map((pieces[number] for number in todo), advance):
                with atomic_file(self._path(todo[place])) as part:
                    save_file({"vectors": vectors}, part, metadata={"reasons": json.dumps(reasons)})

    def read(self) -> Iterator[EncodedPiece]:
        """The pieces in order: vectors ``[n, width]`` and, by offset, why some have none."""
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="numpy") as file:
                reasons = json.loads(file.metadata()["reasons"])
                yield file.get_tensor("vectors"), {int(offset): reason for offset, reason in reasons.items()}


def _mark(folder: Path) -> Any:
    try:
        return read_json(folder / "job.json")
    except PalateError:
        return None


def clear(folder: Path, job: str) -> None:
    """Remove the pieces of a finished job, which was killed before it came to that, and those of no job."""
    mark = _mark(folder)
    if folder.is_dir() and (not isinstance(mark, dict) or mark.get("job") == job):
        with suppress(PalateError), alone(folder, f"another process works in {folder}", "Wait for it."):
            remove(folder)


def _readable(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy") as file:
            return "vectors" in file.keys() and "reasons" in (file.metadata() or {})  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError):
        return False
