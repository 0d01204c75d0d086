"""The work of encoding in pieces on disk, so that a killed job continues where it was."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from palate.data.images import open_image
from palate.errors import PalateError
from palate.features.encoders import Encoder
from palate.progress import track
from palate.storage.files import atomic_file, read_json, write_json
from palate.storage.leftovers import remove
from palate.storage.lock import alone

# Contents a piece: what a kill may cost. Small enough for slow models, large enough for a million items.
CHUNK = 256
# A picture 2 pixels high and a million wide would become gigabytes once its short side is scaled up.
_LONGEST_RATIO = 20


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

    def fill(self, encoder: Encoder, contents: Sequence[Any], batch_size: int, stored: np.dtype[Any]) -> None:
        """Encode what has no piece yet; a piece appears whole or not at all."""
        pieces = [contents[start : start + CHUNK] for start in range(0, len(contents), CHUNK)]
        todo = {n: piece for n, piece in enumerate(pieces) if not _readable(self._path(n))}
        left = sum(map(len, todo.values()))
        if left < len(contents):
            print(f"Going on after {len(contents) - left} of {len(contents)} encoded before.", file=sys.stderr)
        label = {"text": "Encoding texts", "image": "Encoding pictures"}[encoder.modality]
        for _ in track(self._steps(todo, encoder, batch_size, stored), label, total=left):
            pass

    def _steps(
        self, todo: dict[int, Sequence[Any]], encoder: Encoder, batch_size: int, stored: np.dtype[Any]
    ) -> Iterator[None]:
        """Do the work, and yield once for every content that is done."""
        load = _image_loader(encoder) if encoder.modality == "image" else encoder.prepare
        ready = _ahead(load, (content for piece in todo.values() for content in piece), encoder, batch_size)
        for number, piece in todo.items():
            vectors = np.zeros((len(piece), encoder.width), stored)
            reasons: dict[int, str] = {}
            for start in range(0, len(piece), batch_size):
                loaded = list(islice(ready, min(batch_size, len(piece) - start)))
                good = [i for i, one in enumerate(loaded) if not isinstance(one, PalateError)]
                reasons |= {start + i: one.message for i, one in enumerate(loaded) if isinstance(one, PalateError)}
                if good:
                    encoded = _checked(encoder, [loaded[i] for i in good], stored)
                    for i, vector in zip(good, encoded, strict=True):
                        if np.isfinite(vector).all():
                            vectors[start + i] = vector
                        else:
                            reasons[start + i] = "the encoder gave no finite numbers"
                for _ in loaded:
                    yield
            with atomic_file(self._path(number)) as part:
                save_file({"vectors": vectors}, part, metadata={"reasons": json.dumps(reasons)})

    def read(self) -> Iterator[tuple[npt.NDArray[Any], dict[int, str]]]:
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


def _checked(encoder: Encoder, batch: Sequence[Any], stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Encode a batch; a plug-in that breaks its promise, or a device without memory, is one clear error."""
    try:
        vectors = np.asarray(encoder.encode(batch))
    except (RuntimeError, MemoryError) as error:
        if "out of memory" in str(error).lower() or isinstance(error, MemoryError):
            raise PalateError(
                f"a batch of {len(batch)} does not fit into memory",
                "Run the command again with a smaller --batch-size; what was encoded is kept.",
            ) from None
        raise
    if vectors.shape != (len(batch), encoder.width):
        raise PalateError(
            f"the encoder '{encoder.name}' returned shape {vectors.shape} where {(len(batch), encoder.width)} is due",
            "Correct the encoder.",
        )
    with np.errstate(over="ignore"):
        return vectors.astype(stored)


def _image_loader(encoder: Encoder) -> Callable[[Path], Any]:
    """Path -> what the encoder takes, or the PalateError that says why there is nothing."""

    def load(path: Path) -> Any:
        try:
            image = open_image(path)
            if max(image.size) > _LONGEST_RATIO * min(image.size):
                return PalateError("the picture is too long and thin")
            return encoder.prepare(image)
        except PalateError as error:
            # Without the path, so that like reasons can be counted; the items are named beside them.
            message = error.message.replace(str(path), "the file").split(" (")[0]
            return PalateError(message)

    return load


def _ahead(load: Callable[[Any], Any], contents: Iterable[Any], encoder: Encoder, batch_size: int) -> Iterator[Any]:
    """``map(load, contents)`` with pictures decoded in threads, a few ahead of the model and never more."""
    if encoder.modality == "text":
        yield from map(load, contents)
        return
    waiting: deque[Future[Any]] = deque()
    source = iter(contents)
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="pictures") as pool:
        try:
            waiting.extend(pool.submit(load, content) for content in islice(source, max(8, 2 * batch_size)))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(load, content) for content in islice(source, 1))
        finally:
            for future in waiting:
                future.cancel()
