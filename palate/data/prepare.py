"""``prepare``: from a folder of raw files to a Dataset, with every step recorded in its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data import dislikes
from palate.data.assemble import assemble
from palate.data.dataset import Dataset
from palate.data.feedback.options import FeedbackOptions, take_feedback_options
from palate.data.filters import Filters
from palate.data.readers import READERS
from palate.data.readers.base import ReaderOptions, Source, check_taken
from palate.data.readers.times import check_format
from palate.data.splits import Split
from palate.errors import PalateError, suggest
from palate.storage.files import file_digest
from palate.storage.remote import takes_urls


@takes_urls()
def prepare(
    source: Path | str,
    reader: str,
    *,
    name: str | None = None,
    seed: int = 0,
    keep_unseen: bool = False,
    clean_text: bool = False,
    keep_log: bool = False,
    **options: Any,
) -> Dataset:
    """Read raw files, filter and split them. ``Dataset.save`` writes the result.

    Args:
        source: a folder, or a file where the reader takes one.
        reader: name in :data:`palate.data.readers.READERS`.
        name: what reports call the data; by default the folder's name.
        seed: of everything random: ties, drawn users, held-out users.
        keep_unseen: whether catalogue items without an interaction stay, as cold items.
        clean_text: whether HTML tags and entities are taken out of titles and texts.
        keep_log: whether the dataset keeps the rows that were read, so that later ones can be appended
            (:func:`palate.data.append.append`).
        options: fields of :class:`~palate.data.filters.Filters` (``k_core``, ``min_rating`` ...), of
            :class:`~palate.data.splits.Split` (``split``, ``last_n`` ...), of
            :class:`~palate.data.readers.base.ReaderOptions` (``columns``, ``images`` ...) and of
            :class:`~palate.data.feedback.options.FeedbackOptions` (``feedback`` ...). None stands for "not given".

    Raises:
        PalateError: naming the file, row or option.
    """
    feedback, rest = take_feedback_options(options)
    filters, split, reading = sort_options(rest)
    check_keeps(keep_log, filters)
    found, facts = read_source(Path(source), reader, reading, name)
    return assemble(
        found,
        filters,
        split,
        seed=seed,
        facts=facts,
        keep_unseen=keep_unseen,
        clean_text=clean_text,
        keep_log=keep_log,
        feedback=feedback,
    )


def check_keeps(keep_log: bool, filters: Filters) -> None:
    """Refuse to keep a log for appending where other users would be drawn each time."""
    if keep_log and filters.max_users is not None:
        raise PalateError(
            "--keep-log with --max-users: every log that is appended would draw other users", "Leave one of them out."
        )


def read_source(source: Path, reader: str, reading: ReaderOptions, name: str | None) -> tuple[Source, dict[str, Any]]:
    """What a reader finds, and the manifest's first keys.

    Raises:
        PalateError: naming the file or option.
    """
    if not source.exists():
        raise PalateError(f"{source} does not exist", "Check the path.")
    part = READERS[reader]()
    check_taken(reader, part, reading)
    found = part.read(source, reading)
    folder = source.resolve()
    base = folder if folder.is_dir() else folder.parent
    facts = {
        "name": name or (folder.name if folder.is_dir() else folder.stem),
        # The folder's name and what was in the files, not where they lay on someone's disk.
        "source": {"name": folder.name, "files": {_inside(path, base): file_digest(path) for path in found.files}},
        "reader": reader,
        "reader_options": _shown(reading),
    }
    return found, facts


def named_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are given: None stands for those that are not."""
    return {key: value for key, value in options.items() if value is not None}


def sort_options(options: Mapping[str, Any]) -> tuple[Filters, Split, ReaderOptions]:
    """Share keyword options out to the three groups; an unknown one is an error with a suggestion."""
    named = named_options(options)
    groups = (Filters, Split, ReaderOptions)
    known = [key for group in (*groups, FeedbackOptions) for key in group.model_fields]
    for key in named:
        if key not in known:
            raise PalateError(f"prepare has no option '{key}'", suggest(key, known))
    filters, split, reading = (
        group.parse({key: value for key, value in named.items() if key in group.model_fields}, "prepare")
        for group in groups
    )
    dislikes.check(filters)  # type: ignore[arg-type]
    check_format(reading)  # type: ignore[arg-type]
    return filters, split, reading  # type: ignore[return-value]


def _inside(path: Path, base: Path) -> str:
    path = path.resolve()
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name


def _shown(options: ReaderOptions) -> dict[str, Any]:
    values = options.model_dump(exclude_unset=True)
    return {key: value.name if isinstance(value, Path) else value for key, value in values.items()}
