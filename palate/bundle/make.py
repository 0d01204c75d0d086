"""Make a bundle of a run: everything that answers is copied, nothing of the people it was trained on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from palate import __version__
from palate.bundle.card import write_card
from palate.bundle.export import check_exportable, export_encoder
from palate.bundle.features import save_features
from palate.bundle.items import BundleItems
from palate.bundle.language import carry_language_model, needs_pictures, notes_on
from palate.bundle.load import Bundle
from palate.bundle.manifest import CARD, SUFFIXES, write_manifest
from palate.bundle.measured import tables_of, validation_of
from palate.bundle.neighbours import save_neighbours
from palate.bundle.pictures import copy_pictures
from palate.console import agreeing, counted
from palate.errors import PalateError
from palate.rankers.neighbours import FILE
from palate.runs.run import Run
from palate.storage.files import atomic_folder, read_json
from palate.storage.remote import is_url, recorded, takes_urls

# Facts of run.json about the machine and the person who trained: of no use to others, and private.
_PRIVATE = ("command",)
_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_EXAMPLES = 3


@dataclass(frozen=True)
class Made:
    """What :func:`make_bundle` made.

    Attributes:
        folder: the bundle.
        facts: the content of its ``bundle.json``.
        notes: what a person should know, such as pictures that were left out.
    """

    folder: Path
    facts: dict[str, Any]
    notes: list[str]


@takes_urls("out")
def make_bundle(
    run: Run | Path | str,
    out: Path | str,
    *,
    with_features: bool | None = None,
    with_images: bool = False,
    tables: Sequence[Path | str] = (),
    license: str = "unknown",
    onnx: bool = False,
    public_paths: bool = True,
) -> Made:
    """Write the bundle of a finished run.

    Args:
        run: a run of any model.
        out: a new folder.
        with_features: copy the vectors the model was trained on; None: those that are still with the dataset.
            Items are recommended without them; they are for whoever explains scores or trains on.
        with_images: copy the items' pictures, at most 512 pixels a side; else their folder is recorded.
        tables: evaluations (``palate evaluate --out``) whose figures belong on the card.
        license: an identifier such as ``apache-2.0``; the model's, which its data may restrict.
        onnx: export the sequence encoder too, and check it.
        public_paths: False: folders of this machine are left out (a bundle that is pushed).

    Raises:
        PalateError: ``out`` exists; the run is not finished; requested features that are gone; a table without this
            run; an encoder whose export does not answer as it does.
    """
    run = Run.opened(run)
    out = Path(out)
    if not run.finished:
        raise run.unfinished()
    if not _LICENSE.fullmatch(license):
        raise PalateError(f"--license '{license}' is no identifier of a license", "Write it like apache-2.0 or mit.")
    if onnx:
        check_exportable(run.info["model"], neighbours=(run.model_folder / FILE).is_file())
    if not public_paths and not with_images and needs_pictures(run):
        raise PalateError("the prompts of this model show pictures", "Add --with-images.")
    measured = {"validation": validation_of(run), "test": tables_of(run, [Path(table) for table in tables])}
    with atomic_folder(out) as part:
        _copy_model(run, part / "model")
        features, notes = save_features(run, part, with_features)
        neighbours, more = save_neighbours(run, part, features, with_features)
        notes += more
        catalogue = run.catalogue
        names: dict[int, str] = {}
        if with_images:
            names, more = _copy_images(run, part)
            notes += more
        items = BundleItems(catalogue, [names.get(index) for index in range(1, len(catalogue) + 1)])
        if run.info["model"] == "mllm":
            keep = public_paths and not is_url(recorded(catalogue.pictures))
            carry_language_model(part / "model", items, copied=with_images, keep_root=keep)
            notes += notes_on(part / "model", shared=not public_paths)
        elsewhere, root = not with_images and any(catalogue.frame["image"]), recorded(catalogue.pictures)
        facts: dict[str, Any] = {
            "palate": __version__,
            "name": run.name,
            "model": run.info["model"],
            "license": license,
            "items": {
                "count": len(catalogue),
                "fields": catalogue.fields,
                "fingerprint": catalogue.fingerprint,
                "pictures": len(names),
                "image_root": root if elsewhere and public_paths and not is_url(root) else None,
                "columns": items.save(part),
            },
            "describe": run.info.get("describe"),
            "metrics": measured,
            "features": features,
            "neighbours": neighbours,
            "run": _of_run(run),
        }
        if run.info["model"] == "mllm":
            facts["base"] = read_json(part / "model" / "config.json")["config"]["base"]
        facts = write_manifest(part, facts)
        if onnx:
            loaded = Bundle.load(part)
            facts["onnx"] = export_encoder(loaded.recommender, part)
        write_card(part / CARD, facts)
        facts = write_manifest(part, facts)
        if run.info["model"] != "mllm":  # a language model takes minutes to load
            Bundle.load(part)  # what cannot be loaded is no bundle
    return Made(out, facts, notes)


def _copy_model(run: Run, target: Path) -> None:
    if not (run.model_folder / "config.json").is_file():
        raise run.without_model()
    for path in sorted(run.model_folder.rglob("*")):
        if path.is_symlink():
            raise PalateError(f"{path} is a link", "Put the file itself there.")
        if path.is_dir():
            continue
        if not path.name.endswith(SUFFIXES):
            raise PalateError(f"{path} is of a kind that no bundle holds", f"Bundles hold: {', '.join(SUFFIXES)}.")
        copy = target / path.relative_to(run.model_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)  # without the mode: safetensors writes for its owner alone


def _copy_images(run: Run, part: Path) -> tuple[dict[int, str], list[str]]:
    """Pictures by item index, and a note on those that were left out."""
    catalogue = run.catalogue
    pictures: list[tuple[int, Path]] = []
    reasons: dict[int, str] = {}
    for index, name in enumerate(catalogue.frame["image"], start=1):
        try:
            path = catalogue.image_path(index) if name else None
        except PalateError as error:
            reasons[index] = error.message
            continue
        if path is not None:
            pictures.append((index, path))
    names, failed = copy_pictures(pictures, part)
    reasons |= failed
    if not reasons:
        return names, []
    examples = "; ".join(f"{catalogue.ids[index]}: {reasons[index]}" for index in sorted(reasons)[:_EXAMPLES])
    more = " ..." if len(reasons) > _EXAMPLES else ""
    what = f"{counted(len(reasons), 'picture')} {agreeing(len(reasons), 'was', 'were')}"
    return names, [f"{what} left out ({examples}{more})"]


def _of_run(run: Run) -> dict[str, Any]:
    """run.json without what belongs to the machine it was trained on."""
    info = {key: value for key, value in run.info.items() if key not in ("features", "describe")}
    info["environment"] = {key: value for key, value in info["environment"].items() if key not in _PRIVATE}
    root = info["dataset"]["image_root"]
    # The base of a language model may be a folder, and has to be found again; elsewhere a name will do.
    paths = {key: value for key, value in info.items() if key == "options" and run.info["model"] == "mllm"}
    return {**_without_folders(info), **paths, "dataset": {**info["dataset"], "path": None, "image_root": _last(root)}}


def _without_folders(value: Any) -> Any:
    """JSON with only the last part of every absolute path."""
    if isinstance(value, dict):
        return {key: _without_folders(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    return _last(value) if isinstance(value, str) and (PurePath(value).is_absolute() or is_url(value)) else value


def _last(path: str) -> str:
    return PurePath(path).name
