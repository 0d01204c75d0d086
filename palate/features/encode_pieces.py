"""Encodes pieces of contents, in this process or in a worker; pictures are decoded ahead of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, tee
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.data.images import open_image
from palate.engines.base import Advance, Task, Work
from palate.errors import PalateError
from palate.features.encoders import Encoder, EncoderOptions
from palate.storage.exhausted import out_of_memory
from palate.threads import in_threads

# A picture 2 pixels high and a million wide would become gigabytes once its short side is scaled up.
_LONGEST_RATIO = 20

# Vectors ``[n, width]`` and, by offset, why some have none.
EncodedPiece = tuple[npt.NDArray[Any], dict[int, str]]


@dataclass(frozen=True)
class EncoderFacts:
    """What an open encoder says of itself; see :class:`Encoder`."""

    options: EncoderOptions
    fingerprint: str
    width: int


@dataclass(frozen=True)
class EncodeTask(Task[Sequence[Any], EncodedPiece]):
    """Encodes lists of texts, or of paths of pictures.

    Attributes:
        make: gives the encoder.
        batch_size: contents at once; None: what suits the encoder.
        folders: of the pictures.
    """

    make: Callable[[], Encoder]
    batch_size: int | None = None
    folders: tuple[Path, ...] = ()

    def open(self) -> Work[Sequence[Any], EncodedPiece]:
        """Load the encoder."""
        encoder = self.make()
        return _Encoding(encoder, self.batch_size or encoder.batch_size)


class _Encoding(Work[Sequence[Any], EncodedPiece]):
    facts: EncoderFacts

    def __init__(self, encoder: Encoder, batch_size: int) -> None:
        self._encoder, self._batch_size = encoder, batch_size
        self.facts = EncoderFacts(encoder.options, encoder.fingerprint, encoder.width)

    def __call__(self, pieces: Iterator[Sequence[Any]], advance: Advance) -> Iterator[EncodedPiece]:
        encoder, batch_size = self._encoder, self._batch_size
        stored = stored_dtype(encoder.options)
        load = _image_loader(encoder) if encoder.modality == "image" else encoder.prepare
        pieces, ahead = tee(pieces)
        ready = _ahead(load, chain.from_iterable(ahead), encoder, batch_size)
        for piece in pieces:
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
                advance(len(loaded))
            yield vectors, reasons


def stored_dtype(options: EncoderOptions) -> np.dtype[Any]:
    """How vectors are stored."""
    return np.dtype("float16" if options.dtype == "float16" else "float32")


def _checked(encoder: Encoder, batch: Sequence[Any], stored: np.dtype[Any]) -> npt.NDArray[Any]:
    """Encode a batch; a plug-in that breaks its promise, or a device without memory, is one clear error."""
    try:
        vectors = np.asarray(encoder.encode(batch))
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error) is not None:
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
    yield from in_threads(load, contents, ahead=max(8, 2 * batch_size))
