"""``prepare --append``: a later log joins the rows of a dataset, whose users and items keep their indices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data.assemble import assemble
from palate.data.dataset import Dataset
from palate.data.feedback.options import FeedbackOptions, take_feedback_options
from palate.data.filters import Filters
from palate.data.parent import Parent
from palate.data.prepare import named_options, read_source, sort_options
from palate.data.readers.base import ReaderOptions
from palate.data.splits import Split
from palate.errors import PalateError
from palate.storage.remote import takes_urls

# Said anew for every log: they are files, not rules.
_FILES = ("catalogue", "images")
_FRAMES = "frames"


@takes_urls()
def append(source: Path | str, dataset: Path | str | Dataset, **options: Any) -> Dataset:
    """Make a new dataset of the rows of ``dataset`` and, after them, those of later raw files.

    Users and items of ``dataset`` keep their indices; new ones come after them. Filters and the split look at all rows
    together, those that the filters had left out before included, so the interactions are the ones that preparing all
    files at once gives. Rows that are there already (the same user, item and time) are counted and left out.

    Args:
        source: a folder, or a file where the reader takes one.
        dataset: prepared with ``keep_log``, or made by this function; or its folder.
        options: those of :func:`palate.data.prepare.prepare`, ``reader`` among them. They are the dataset's own where
            they are not given. A split may be another one, and so may ``name``; all others must not differ, and
            ``catalogue`` and ``images`` are those of the new rows.

    Raises:
        PalateError: the dataset has kept no log, or an option contradicts how it was prepared.
    """
    before = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
    parent = Parent.of(before)
    manifest, given = before.manifest, named_options(options)
    was = {**manifest["options"], "reader": manifest["reader"], "seed": manifest["seed"], **manifest["reader_options"]}
    was = {"keep_unseen": False, "clean_text": False, **was}
    if manifest["reader"] == _FRAMES:
        if "reader" not in given:
            raise PalateError(
                f"the dataset '{before.name}' was made of frames, so it names no reader of files",
                "Say how the new log is laid out: --reader table, for example.",
            )
        was = {key: value for key, value in was.items() if key not in ReaderOptions.model_fields and key != "reader"}
    _refuse_contradictions(before, given, was)
    split = {key: value for key, value in given.items() if key in Split.model_fields}
    same = {key: was[key] for key in Split.model_fields if key in was}
    split = {"split": same["split"], **split} if split else same
    reading = _reading(parent, given, was)
    name, reader = given.get("name", before.name), str(given.get("reader", was.get("reader")))
    feedback = _feedback(before, given, was)
    filters, chosen, read_options = sort_options(
        {**{key: was[key] for key in Filters.model_fields if key in was}, **split, **reading}
    )
    found, facts = read_source(Path(source), reader, read_options, name)
    facts["reader_options"] = {**manifest["reader_options"], **facts["reader_options"]}
    return assemble(
        found,
        filters,
        chosen,
        seed=was["seed"],
        facts=facts,
        keep_unseen=was["keep_unseen"],
        clean_text=was["clean_text"],
        parent=parent,
        feedback=feedback,
    )


def _refuse_contradictions(dataset: Dataset, given: Mapping[str, Any], was: Mapping[str, Any]) -> None:
    free = {*Split.model_fields, *FeedbackOptions.model_fields, *_FILES, "name"}
    if "reader" not in was:  # made of frames
        free |= {*ReaderOptions.model_fields, "reader"}
    if "item_columns" not in was:  # there was no catalogue
        free.add("item_columns")
    for key, value in given.items():
        if key in free or was.get(key, _default(key)) == value or value is False:
            continue
        raise PalateError(
            f"--{key.replace('_', '-')} {_shown(value)}: the dataset '{dataset.name}' was prepared with "
            f"{_shown(was.get(key, _default(key)))}",
            "Leave the option out when appending, or prepare all logs anew with it.",
        )


def _feedback(before: Dataset, given: Mapping[str, Any], was: Mapping[str, Any]) -> FeedbackOptions:
    """Feedback is read anew each time, from all its files, in the way that it was read before.

    Raises:
        PalateError: the dataset has some, and no folder is named.
    """
    if "feedback" in before.manifest and "feedback" not in given:
        raise PalateError(
            f"the dataset '{before.name}' was prepared with --feedback, which is read anew each time",
            "Name the folder with all its files: --feedback DIR.",
        )
    names = FeedbackOptions.model_fields
    said = {key: given[key] for key in names if key in given}
    return take_feedback_options({**{key: was[key] for key in names if key in was}, **said})[0]


def _default(key: str) -> Any:
    fields = {**ReaderOptions.model_fields, **Filters.model_fields}
    return fields[key].get_default(call_default_factory=True) if key in fields else None


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{ours}={theirs}" for ours, theirs in value.items()) or "none"
    return "none" if value is None or value is False else "it" if value is True else str(value)


def _reading(parent: Parent, given: Mapping[str, Any], was: Mapping[str, Any]) -> dict[str, Any]:
    """The reader's options: how files are written as before, which files as given."""
    found = {key: was[key] for key in ReaderOptions.model_fields if key in was and key not in _FILES}
    found |= {key: given[key] for key in ReaderOptions.model_fields if key in given}
    if "catalogue" not in given:
        found.pop("item_columns", None)
    root, folder = parent.dataset.catalogue.root, parent.dataset.folder
    own = folder is not None and root.resolve().is_relative_to(folder.resolve())
    if "images" in was and "images" not in given and not own and root.is_dir():
        found["images"] = root  # where the pictures of the items before are
    return found
