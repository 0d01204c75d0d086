"""The request of `palate encode`, checked before any work: which stores to make, of what, by which encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from palate.config import Config
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.controls import CONTROLS, make_control
from palate.features.encode import encode
from palate.features.encoders import DEFAULTS, Precision
from palate.features.folders import refuse_existing, store_folder
from palate.features.lexical import encode_lexical
from palate.features.lexical_store import NAME as LEXICAL
from palate.features.lexical_store import LexicalOptions, LexicalStore
from palate.features.matrix import import_matrix
from palate.features.store import FeatureStore

Task = Callable[[], FeatureStore | LexicalStore]


class EncodeRequest(Config):
    """The options of ``palate encode``; see its help."""

    text: str | None = None
    image: str | None = None
    lexical: bool = False
    analyzer: Literal["word", "char"] | None = None
    fields: Sequence[str] | None = None
    without: str | None = None
    matrix: Path | None = None
    ids: Path | None = None
    modality: Modality | None = None
    name: str | None = None
    of: str | None = None
    width: int | None = None
    store: str | None = None
    device: str = "auto"
    dtype: Precision = "float32"
    batch_size: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    resume: bool = True
    overwrite: bool = False
    seed: int = 0

    def tasks(self, dataset: Dataset, folder: Path) -> list[Task]:
        """One piece of work a store."""
        if self.matrix is not None:
            return [self._import(dataset, folder, self.matrix)]
        for option, value in (("--modality", self.modality), ("--ids", self.ids), ("--name", self.name)):
            if value is not None:
                raise PalateError(f"{option} belongs to --matrix", "Give --matrix FILE as well, or leave it out.")
        chosen: dict[Modality, str] = {}
        if self.text is not None:
            chosen["text"] = self.text
        if self.image is not None:
            chosen["image"] = self.image
        if self.analyzer is not None and not self.lexical:
            raise PalateError("--analyzer belongs to --lexical", "Give --lexical as well, or leave it out.")
        if not chosen and not self.lexical:
            chosen["text"] = DEFAULTS["text"]
            if any(dataset.catalogue.frame["image"]):
                chosen["image"] = DEFAULTS["image"]
        if self.store is not None and len(chosen) + self.lexical > 1:
            raise PalateError("--store names one store, but several are to be encoded", "Encode them one by one.")
        if "text" not in chosen and not self.lexical and (self.fields is not None or self.without is not None):
            raise PalateError("--fields and --without are about text", "Give --text or --lexical, or leave them out.")
        if not set(chosen.values()) & set(CONTROLS) and (self.of is not None or self.width is not None):
            raise PalateError("--of and --width belong to the controls 'random' and 'permuted'", "Leave them out.")
        tasks = [self._task(dataset, folder, modality, encoder) for modality, encoder in chosen.items()]
        return [*([self._lexical(dataset, folder)] if self.lexical else []), *tasks]

    def _lexical(self, dataset: Dataset, folder: Path) -> Task:
        return lambda: encode_lexical(
            dataset,
            folder,
            options=LexicalOptions(analyzer=self.analyzer or "word"),
            fields=self.fields,
            without=self.without,
            store=self.store or LEXICAL,
            overwrite=self.overwrite,
        )

    def _import(self, dataset: Dataset, folder: Path, matrix: Path) -> Task:
        if self.modality is None:
            raise PalateError("--matrix does not say what it holds", "Add --modality text or --modality image.")
        if self.text is not None or self.image is not None or self.lexical:
            raise PalateError(
                "--matrix brings vectors, and --text, --image or --lexical would make them", "Give one or the other."
            )
        kind = self.modality
        refuse_existing(store_folder(folder, self.store or kind), self.overwrite)
        return lambda: import_matrix(
            dataset,
            folder,
            kind,
            matrix,
            ids=self.ids,
            name=self.name,
            store=self.store,
            dtype=self.dtype,
            overwrite=self.overwrite,
        )

    def _task(self, dataset: Dataset, folder: Path, modality: Modality, encoder: str) -> Task:
        if encoder in CONTROLS:
            return lambda: make_control(
                dataset,
                folder,
                modality,
                encoder,
                of=self.of,
                width=self.width,
                seed=self.seed,
                store=self.store,
                overwrite=self.overwrite,
            )
        text = modality == "text"
        return lambda: encode(
            dataset,
            folder,
            modality,
            encoder=encoder,
            fields=self.fields if text else None,
            without=self.without if text else None,
            store=self.store,
            device=self.device,
            dtype=self.dtype,
            batch_size=self.batch_size,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            resume=self.resume,
            overwrite=self.overwrite,
        )
