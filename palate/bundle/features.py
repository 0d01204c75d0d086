"""Features in a bundle: the vectors as safetensors, and how vectors of new items are made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from palate.errors import PalateError
from palate.features.encoders import Encoder, EncoderOptions, make_encoder
from palate.features.fields import FIELDS, FieldStore
from palate.features.lexical_store import LexicalStore, is_lexical
from palate.features.store import FeatureStore
from palate.runs.run import Run
from palate.storage.files import read_json
from palate.storage.remote import find
from palate.training.warm_start import run_vocabulary

FOLDER = "features"
# Consent to code that a model brings along: this machine's, never the bundle's, which may be somebody else's.
CONSENT = "PALATE_TRUST_REMOTE_CODE"
_OPTIONS = ("name", "modality", "dtype", "revision", "trust_remote_code", "fingerprint")


def find_stores(run: Run) -> dict[str, FeatureStore]:
    """The feature stores that a run was trained on, by modality; those that are gone or have changed are left out."""
    found: dict[str, FeatureStore] = {}
    vocabulary = run_vocabulary(run)
    if vocabulary is not None:  # made of the run's own catalogue
        found[FIELDS] = FieldStore.of(vocabulary, run.catalogue)
    opened = open_stores(run, run.info.get("features", {}))
    return found | {name: store for name, store in opened.items() if isinstance(store, FeatureStore)}


def open_stores(run: Run, recorded: Mapping[str, Mapping[str, Any]]) -> dict[str, FeatureStore | LexicalStore]:
    """The stores of the run's dataset that have the fingerprints of ``recorded``, under its names, as far as they are
    still there and unchanged."""
    data = find(run.info["dataset"].get("path")) if recorded else None
    if data is None or not data.is_dir():
        return {}
    found: dict[str, FeatureStore | LexicalStore] = {}
    for path in sorted(data.glob("features/*/store.json")):
        with suppress(PalateError):  # stale or damaged: as good as gone
            info = read_json(path)
            if not isinstance(info, dict):
                continue
            for name, facts in recorded.items():
                if name in found or facts.get("fingerprint") != info.get("fingerprint"):
                    continue
                kind = LexicalStore if is_lexical(info) else FeatureStore
                found[name] = kind.load(path.parent, run.catalogue)
    return found


def made_by(recorded: Mapping[str, Any], store: FeatureStore | LexicalStore | None) -> dict[str, Any]:
    """A bundle's facts of features: what the run recorded, and how an encoder makes more of them."""
    encoder = {"name": recorded["encoder"], "modality": recorded["modality"]}
    encoder["fingerprint"] = recorded["encoder_fingerprint"]
    if store is not None:
        names = (*_OPTIONS, "options") if isinstance(store, LexicalStore) else _OPTIONS
        encoder |= {key: store.info["encoder"][key] for key in names if key in store.info["encoder"]}
    facts = {key: value for key, value in recorded.items() if key != "encoder_fingerprint"}
    return {**facts, "encoder": encoder, "file": None}


def save_features(run: Run, folder: Path, copied: bool | None) -> tuple[dict[str, Any], list[str]]:
    """Write ``features/NAME.safetensors`` of every modality that a run reads, and say how each is made.

    Args:
        copied: whether to copy the vectors; None: those that are still there; False: only state how they are made.

    Returns:
        Facts by modality, and what a person should know.

    Raises:
        PalateError: the vectors are requested, and are gone or have changed since the training.
    """
    facts: dict[str, Any] = {}
    notes: list[str] = []
    stores = find_stores(run)
    compared = (run.info.get("neighbours") or {}).get("stores")
    if copied and not run.info.get("features") and not compared:
        raise PalateError(f"{run.folder} reads no features", "Leave out --with-features.")
    for name, recorded in run.info.get("features", {}).items():
        store = stores.get(name)
        facts[name] = made_by(recorded, store)
        if copied is False or recorded.get("layout") == "sparse":  # words: the model carries what it made of them
            continue
        if store is None:
            gone = f"the {name} features that the run was trained on are not with its dataset any more"
            if copied:
                raise PalateError(gone, "Encode them again as they were, or give --without-features.")
            notes.append(f"{gone}; the bundle only records how they were made")
            continue
        (folder / FOLDER).mkdir(exist_ok=True)
        file = f"{FOLDER}/{name}.safetensors"
        save_file({"vectors": np.ascontiguousarray(store.vectors), "present": np.array(store.present)}, folder / file)
        facts[name]["file"] = file
    return facts, notes


def encoder_of(name: str, facts: Mapping[str, Any], device: str = "auto") -> Encoder:
    """The encoder that made a bundle's features.

    Raises:
        PalateError: the vectors were not made by an encoder, the encoder has changed, or it would run code that
            nobody here agreed to.
    """
    recorded, kind = facts["encoder"], facts["content"]["kind"]
    if kind not in ("text", "image"):
        raise PalateError(
            f"the {name} features were not made by an encoder ('{recorded['name']}')",
            "Vectors that were made elsewhere cannot be made for new items here; train on features of an encoder.",
        )
    options = {key: recorded[key] for key in _OPTIONS if key in recorded and key != "fingerprint"}
    if options.get("trust_remote_code") and os.environ.get(CONSENT) != "1":
        raise PalateError(
            f"the encoder '{recorded['name']}' wants to run code that it brings along",
            f"Read that code first. If you trust it, set {CONSENT}=1 in the environment of this machine.",
        )
    encoder = make_encoder(EncoderOptions.parse({**options, "modality": kind, "device": device}, where="bundle.json"))
    if encoder.fingerprint != recorded["fingerprint"]:
        raise PalateError(
            f"the encoder '{recorded['name']}' is not the one that made the {name} features "
            f"({encoder.fingerprint} instead of {recorded['fingerprint']})",
            "Bring back the weights that the model was trained with.",
        )
    return encoder
