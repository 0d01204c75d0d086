"""A small film shop whose people follow the words of the titles, and the runs and bundles made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from worlds import FILM_WORDS, film_shop

from palate.features.content import Modality
from palate.features.encode import encode
from palate.features.encoders import ENCODERS, Encoder, EncoderOptions, Vectors
from palate.features.lexical import encode_lexical
from palate.runs.run import Run
from palate.storage.files import digest
from palate.training.fit import train

KEEP = 4  # neighbours of a film


class Words(Encoder):
    """A text's counts of letters, hashed words beside them; a picture's mean colour. Deterministic and tiny."""

    modalities: ClassVar[tuple[Modality, ...]] = ("text", "image")
    width = 12

    def __init__(self, options: EncoderOptions) -> None:
        self.options = options
        self.fingerprint = digest("words", options.dtype)

    def encode(self, batch: Sequence[Any]) -> Vectors:
        return np.array([self._of(one) for one in batch], np.float32)

    def _of(self, content: Any) -> list[float]:
        if not isinstance(content, str):
            return [*np.asarray(content).mean((0, 1)).tolist(), *[1.0] * 9]
        words = content.lower().split()
        seen = [float(word in words) * 4 for word in FILM_WORDS]
        return [*seen, *(float(digest(content, str(place))[0] in "01234567") for place in range(9))]


def known_encoder() -> None:
    """Make the encoder known under a name, as a plug-in would be."""
    if "words" not in ENCODERS:
        ENCODERS.register("words", Words)


def encoded_films(folder: Path) -> Path:
    """:func:`worlds.film_shop` with its texts and pictures encoded: the dataset's folder."""
    dataset = film_shop(folder)
    known_encoder()
    for modality in ("text", "image"):
        encode(dataset, folder / "data", modality, encoder="words")
    encode_lexical(dataset, folder / "data")
    return folder / "data"


def make_run(
    data: Path,
    out: Path,
    model: str = "sasrec",
    modalities: str = "text",
    neighbours: Sequence[str] = (),
    epochs: int = 8,
    **ranker: Any,
) -> Run:
    from palate.data.dataset import Dataset
    from palate.features.folders import open_features

    dataset = Dataset.load(data)
    names = tuple(modalities.split(","))
    settings: dict[str, dict[str, Any]] = {}
    if model in ("sasrec", "gru4rec"):
        settings = {
            "ranker": {"dim": 16, "max_length": 8, "dropout": 0.1, "layers": 1, **ranker},
            "trainer": {"epochs": epochs, "learning_rate": 0.01, "tensorboard": False},
        }
        if neighbours:
            settings["neighbours"] = {"keep": KEEP, "lags": 2}
    elif ranker:
        settings = {"ranker": ranker}
    features = open_features(data, dataset.catalogue, names, [])
    return train(
        dataset, model=model, modalities=names, out=out, settings=settings, features=features, dataset_path=data,
        neighbours=neighbours,
    )  # fmt: skip
