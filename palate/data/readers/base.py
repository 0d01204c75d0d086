"""What a reader takes and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import polars as pl
from pydantic import AfterValidator, Field

from palate.config import Config
from palate.data.readers.quotes import AUTO, check_quote
from palate.errors import PalateError

TimeUnit = Literal["auto", "s", "ms", "us", "ns"]


class ReaderOptions(Config):
    """The options of readers; each reader names in :attr:`Reader.takes` the options it understands."""

    columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the log: user=uid,item=sku,timestamp=ts,weight=stars. 'weight=' leaves a column out; a "
        'name with a comma or outer blanks goes in double quotes: user="Customer, ID".',
    )
    catalogue: Path | None = Field(None, description="File with one row per item.")
    item_columns: dict[str, str] = Field(
        default_factory=dict,
        description="Names in the catalogue: item_id=sku,title=name,image=picture; quoted and left out as in "
        "--columns.",
    )
    images: Path | None = Field(None, description="Folder of pictures named ITEM_ID.jpg; every reader takes it.")
    quote: Annotated[str, AfterValidator(check_quote)] = Field(
        AUTO,
        description="What encloses cells of text files, the log and the catalogue; none: quotes are text. auto: double "
        "quotes, if all of them enclose cells.",
        examples=["{auto,none,CHARACTER}"],
    )
    no_header: bool = Field(
        False, description="The log has no header line; its columns are 1, 2, 3 ...: --columns user=1,item=2."
    )
    time_unit: TimeUnit = Field("auto", description="Unit of numeric times; auto decides by their size, per file.")
    time_format: str | None = Field(
        None,
        description="How times are written that are neither numbers nor ISO dates: '%d/%m/%Y %H:%M'.",
        examples=["FORMAT"],
    )


@dataclass(frozen=True)
class Source:
    """What a reader found: interactions that are not read yet, and a small catalogue that is.

    Attributes:
        interactions: columns ``user``, ``item`` (strings or whole numbers) and, where known, ``timestamp`` (number)
            and ``weight`` (number), in file order; a lazy frame for each file (of :attr:`files`, in their order), or
            the frames of one file that come one after another. A null cell is a mistake in the source, which
            :attr:`explain` puts into words.
        files: what was read, for the digests in the manifest.
        catalogue: ``item_id``, ``title`` and any fields, one row per item; None where the source has none.
        images: item id -> picture's path relative to :attr:`root`.
        root: folder of the pictures.
        time_unit: unit of ``timestamp``; with several lazy frames perhaps one for each.
        report: counts for the manifest; a reader may fill it while its interactions are being read.
        explain: row of the interactions (from 0) -> the error that names file, row and value; it is asked with None
            where polars could not read the file at all, and may answer None.
        locate: row of the interactions (from 0) -> its file and row, for messages.
        unused_times: columns that look like times, where none is read as ``timestamp``.
    """

    interactions: pl.LazyFrame | Sequence[pl.LazyFrame] | Iterable[pl.DataFrame]
    files: list[Path]
    catalogue: pl.DataFrame | None = None
    images: dict[str, str] = field(default_factory=dict)
    root: Path = field(default_factory=Path)
    time_unit: TimeUnit | Sequence[TimeUnit] = "auto"
    report: dict[str, Any] = field(default_factory=dict)
    explain: Callable[[int | None], PalateError | None] | None = None
    locate: Callable[[int], str] | None = None
    unused_times: Sequence[str] = ()

    def row(self, row: int) -> str:
        """Where a row of the interactions (from 0) is written, for messages."""
        return self.locate(row) if self.locate else f"{self.where}, interaction {row + 1}"

    @property
    def where(self) -> str:
        """The log's file, for messages."""
        return str(self.files[0]) if self.files else "the interactions"


class Reader(Protocol):
    """Reads one layout of files.

    Attributes:
        takes: names of the :class:`ReaderOptions` it understands beside ``images``.
    """

    takes: ClassVar[frozenset[str]]

    def read(self, source: Path, options: ReaderOptions) -> Source:
        """Find and check the files in ``source`` (a folder, or a file where that is enough).

        Raises:
            PalateError: naming the file and what was expected of it.
        """
        ...


def check_taken(name: str, reader: Reader, options: ReaderOptions) -> None:
    """Refuse options that the reader would silently ignore."""
    named = options.model_fields_set - {"images"} - reader.takes
    if named:
        option = sorted(named)[0].replace("_", "-")
        takes = ", ".join(f"--{taken.replace('_', '-')}" for taken in sorted(reader.takes | {"images"}))
        raise PalateError(f"the reader '{name}' takes no --{option}", f"It takes {takes}; `table` takes all of them.")
