"""The request of `palate encode`, checked before any work: which stores to make, of what, by which encoder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from palate.config import Config
from palate.console import print_note
from palate.data.dataset import Dataset
from palate.engines.base import Engine
from palate.engines.local import LOCAL
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
from palate.features.reuse import stores_of
from palate.features.store import FeatureStore, read_store_json

# What --matrix reads, or refuses in words of its own.
_OF_MATRIX = frozenset(
    ("matrix", "ids", "modality", "name", "store", "dtype", "overwrite", "resume", "text", "image", "lexical")
)
# What may differ where the stores of the dataset before are encoded again.
_OF_AGAIN = frozenset(("device", "batch_size", "resume", "overwrite", "reuse", "trust_remote_code"))
Task = Callable[[], FeatureStore | LexicalStore]


class EncodeRequest(Config):
    """The options of ``palate encode``."""

    text: str | None = Field(None, description="Text encoder: a name of `palate models`, a hub model, a folder.")
    image: str | None = Field(None, description="Image encoder: likewise.")
    lexical: bool = Field(False, description="The items' words and pairs of words, weighed by TF-IDF.")
    analyzer: Literal["word", "char"] | None = Field(
        None, description="Of --lexical: word, or char for three to five characters."
    )
    fields: Sequence[str] | None = Field(
        None, description="Catalogue fields that make the text.", examples=["title,genres"]
    )
    without: str | None = Field(None, description=r"Regular expression taken out of texts, e.g. '\(\d{4}\)'.")
    matrix: Path | None = Field(None, description="Vectors made elsewhere: .npy, .safetensors or .parquet.")
    ids: Path | None = Field(None, description="Item ids of a .npy matrix: .txt (one per line) or .json.")
    modality: Modality | None = Field(None, description="What --matrix holds.")
    name: str | None = Field(None, description="Name of what made the --matrix, for reports.")
    of: str | None = Field(None, description="Store that the controls 'random' and 'permuted' are made of.")
    width: int | None = Field(None, description="Width of 'random'; by default that of the store.")
    store: str | None = Field(None, description="Folder name in DATASET/features; by default the modality.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: Precision = Field("float32", description="Precision of the encoder.")
    batch_size: int | None = Field(None, description="Contents at once; by default what suits the encoder.")
    revision: str | None = Field(None, description="Branch, tag or commit of a hub model.")
    trust_remote_code: bool = Field(False, description="Run code of a hub model.")
    resume: bool = Field(True, description="Go on after an interrupted run.")
    overwrite: bool = Field(False, description="Replace a store that is there.")
    reuse: Path | None = Field(
        None,
        description="Dataset with an earlier store, whose vectors of unchanged items are taken over; by default the "
        "store that is replaced, or the dataset that this one was appended to.",
        examples=["DATASET"],
    )
    seed: int = Field(0, ge=0, description="Seed of everything random.")

    def tasks(self, dataset: Dataset, folder: Path, engine: Engine = LOCAL) -> list[Task]:
        """One piece of work per store; encoders are run by the engine, all else in this process."""
        if self.matrix is not None:
            self._refuse_others(
                _OF_MATRIX, "is about encoding, and the vectors of --matrix are there already", "Leave it out."
            )
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
        if not chosen and not self.lexical and self.store is None:
            likewise = [one for store in stores_of(folder) if (one := self._again(store)) is not None]
            if "parent" in dataset.manifest and likewise:
                self._refuse_others(
                    _OF_AGAIN,
                    "changes how the stores of the dataset before are encoded, and none is named",
                    "Name the encoder as well (--text, --image or --lexical), or leave it out.",
                )
                return [task for one in likewise for task in one.tasks(dataset, folder, engine)]
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
        tasks = [self._task(dataset, folder, modality, encoder, engine) for modality, encoder in chosen.items()]
        return [*([self._lexical(dataset, folder)] if self.lexical else []), *tasks]

    def _refuse_others(self, known: frozenset[str], why: str, remedy: str) -> None:
        """Refuse options with another value than the default that would go unheard."""
        for name, field in type(self).model_fields.items():
            if name not in known and getattr(self, name) != field.default:
                raise PalateError(f"--{name.replace('_', '-')} {why}", remedy)

    def _again(self, store: Path) -> EncodeRequest | None:
        """The request that made a store of an earlier dataset; None for one that no encoder made."""
        words = shlex.split(str(read_store_json(store)["encoder"].get("command", "")))[3:]
        made: dict[str, Any] = {}
        for word, value in zip(words, [*words[1:], ""], strict=True):
            if word.startswith("--"):
                key = word[2:].replace("-", "_")
                made[key] = True if key in ("lexical", "trust_remote_code") else value
        if "matrix" in made or {made.get("text"), made.get("image")} & set(CONTROLS) or not made:
            print_note(f"{store} was not made by an encoder: it is left out.")
            return None
        if made.get("trust_remote_code") and not self.trust_remote_code:
            raise PalateError(
                f"{store} was encoded by code of a hub model", "Give --trust-remote-code to run it again."
            )
        mine = {key: getattr(self, key) for key in ("device", "batch_size", "resume", "overwrite", "reuse")}
        return EncodeRequest.parse({**made, **mine}, where=str(store))

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

    def _task(self, dataset: Dataset, folder: Path, modality: Modality, encoder: str, engine: Engine) -> Task:
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
            reuse=self.reuse,
            engine=engine,
        )
