"""Controls that make a gain mean something: features that look like the real ones and know nothing of the item.

If a ranker with posters beats one with posters *permuted* across items, the pictures mattered; if it only beats ids,
the wider model may have been what mattered.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.content import Modality
from palate.features.encoders import DEFAULTS
from palate.features.folders import command_of, refuse_existing, store_folder
from palate.features.store import FeatureStore, write_store
from palate.storage.files import digest

CONTROLS = {
    "random": "Control: random vectors in place of a store's; same width, same items missing.",
    "permuted": "Control: a store's own vectors, dealt out anew among the items that have one.",
}


def make_control(
    dataset: Dataset,
    dataset_path: Path | str,
    modality: Modality,
    kind: str,
    *,
    of: str | None = None,
    width: int | None = None,
    seed: int = 0,
    store: str | None = None,
    overwrite: bool = False,
) -> FeatureStore:
    """Make a control of a store that is there, in ``DATASET/features/MODALITY-KIND`` by default.

    Args:
        kind: ``"random"`` (normal, every vector of length 1) or ``"permuted"``.
        of: the store that it stands against, by default the modality's.
        width: of random vectors, by default that of the store.
        seed: of the random numbers; a random vector depends on the seed and the item id alone, not on the item's index.
    """
    if kind not in CONTROLS:
        raise PalateError(f"there is no control named '{kind}'", f"Choose one of: {', '.join(CONTROLS)}.")
    name = store or f"{modality}-{kind}"
    folder = store_folder(dataset_path, name)
    origin = of or modality
    if name == origin:
        raise PalateError(
            f"the control would replace the store '{origin}' that it is made of", "Choose another --store."
        )
    refuse_existing(folder, overwrite)
    if not store_folder(dataset_path, origin).exists():
        raise PalateError(
            f"'{kind}' is made of the store '{origin}', which is not there",
            f"Encode it first: `palate encode {dataset_path} --{modality} {DEFAULTS[modality]}`.",
        )
    base = FeatureStore.load(store_folder(dataset_path, origin), dataset.catalogue)
    if base.modality != modality:
        raise PalateError(
            f"the store '{origin}' holds {base.modality}, not {modality}", f"Use --{base.modality} {kind}."
        )
    vectors = np.zeros((len(base.present), base.width), base.vectors.dtype)
    rows = np.flatnonzero(base.present)
    if kind == "permuted":
        if width is not None:
            raise PalateError("'permuted' keeps the width of its store", "Leave --width out.")
        vectors[rows] = base.vectors[np.random.default_rng(seed).permutation(rows)]
    else:
        vectors = np.zeros((len(base.present), width or base.width), base.vectors.dtype)
        for row in rows:
            item = int(digest(dataset.catalogue.ids[row]), 16)
            vector = np.random.default_rng([seed, item]).standard_normal(vectors.shape[1])
            vectors[row] = vector / np.linalg.norm(vector)
    options = {"of": origin, "seed": seed, "width": width}
    command = command_of(modality, kind, of=origin, width=width, seed=seed, store=name)
    write_store(
        folder,
        modality=modality,
        encoder={
            "name": kind,
            "of_encoder": base.encoder,
            **options,
            "fingerprint": digest(kind, str(seed), str(width), base.fingerprint),
            "command": command,
        },
        content=base.info["content"],
        table=base.table,
        vectors=vectors,
        present=np.asarray(base.present),
        interactions=dataset.items,
        missing=base.info["missing"],
        replace=overwrite,
    )
    return FeatureStore.load(folder, dataset.catalogue)
