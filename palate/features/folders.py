"""Where feature stores are in a dataset's folder, how they are opened, and what is refused when one exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from palate.errors import PalateError

if TYPE_CHECKING:
    from palate.data.catalogue import Catalogue
    from palate.features.store import FeatureStore


def store_folder(dataset: Path | str, name: str) -> Path:
    """``DATASET/features/NAME``; the name must be a plain folder name.

    >>> store_folder("data/shop", "text-no-year").as_posix()
    'data/shop/features/text-no-year'
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise PalateError(f"'{name}' is no name for a feature store", "Use letters, digits, '-', '_' and '.'.")
    return Path(dataset) / "features" / name


def refuse_existing(folder: Path, overwrite: bool) -> None:
    """Before any work: a store that is there is replaced only when that was asked for."""
    if folder.exists() and not overwrite:
        raise PalateError(
            f"{folder} exists already", "Replace it with --overwrite, or keep both: name this one with --store NAME."
        )


def command_of(option: str, value: str | None, **options: object) -> str:
    """The command that makes a store, for remedies; ``DATASET`` stands for the dataset's folder.

    >>> command_of("text", "minilm", store="text", fields=None, trust_remote_code=True)
    'palate encode DATASET --text minilm --store text --trust-remote-code'
    """
    words = ["palate", "encode", "DATASET", f"--{option}", *([] if value is None else [value])]
    for name, one in options.items():
        if one is True:
            words.append(f"--{name.replace('_', '-')}")
        elif one is not None and one is not False:
            words += [f"--{name.replace('_', '-')}", str(one)]
    return shlex.join(words)


def open_features(
    dataset: Path, catalogue: Catalogue, modalities: tuple[str, ...], chosen: list[str]
) -> dict[str, FeatureStore]:
    """The feature store of every modality but ``id`` and ``fields``: ``features/MODALITY``, or what ``MODALITY=NAME``
    says."""
    from palate.features.fields import FIELDS
    from palate.features.store import FeatureStore

    names = {name: name for name in modalities if name not in ("id", FIELDS)}
    for choice in chosen:
        modality, equals, name = choice.partition("=")
        if not equals or modality not in names:
            raise PalateError(f"--store {choice}: not MODALITY=NAME with a modality of --modalities", "See `--help`.")
        names[modality] = name
    return {modality: FeatureStore.load(store_folder(dataset, name), catalogue) for modality, name in names.items()}
