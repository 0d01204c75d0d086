"""The catalogue: what is known of each item, in the order of the item indices."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.conditions import find_matches
from palate.data.images import inside
from palate.data.numbering import numbers_of
from palate.errors import PalateError, one_line
from palate.storage.files import digest
from palate.storage.remote import follow
from palate.storage.tables import read_parquet

RESERVED = ("item_id", "title", "image")


@dataclass(frozen=True)
class Catalogue:
    """Items 1..num_items; index 0 is padding and has no row.

    Attributes:
        frame: one row per item, in index order. Columns: ``item_id`` (string, unique), ``title`` (string or null),
            ``image`` (path as a string or null) and any further fields, of which the string ones are text.
        pictures: folder against which relative image paths are resolved, or its URL.
    """

    frame: pl.DataFrame
    pictures: Path | str = field(default_factory=Path)

    def __post_init__(self) -> None:
        missing = [name for name in RESERVED if name not in self.frame.columns]
        if missing:
            raise PalateError(f"the catalogue lacks the column '{missing[0]}'", "Give null where a value is not known.")
        if self.frame["item_id"].is_duplicated().any():
            twice = self.frame["item_id"].filter(self.frame["item_id"].is_duplicated())[0]
            raise PalateError(f"the catalogue names item '{twice}' twice", "Keep one row per item.")

    def __len__(self) -> int:
        """Number of items, padding not counted."""
        return len(self.frame)

    @cached_property
    def root(self) -> Path:
        """The folder of the pictures; from a URL they are fetched when they are first needed."""
        return follow(self.pictures)

    @cached_property
    def ids(self) -> list[str]:
        """Item ids; ``ids[i]`` belongs to index ``i``, and ``ids[0]`` is the padding's empty string."""
        return ["", *self.frame["item_id"].to_list()]

    @cached_property
    def index(self) -> dict[str, int]:
        """Item id -> item index, for a few look-ups at a time."""
        return {item: i for i, item in enumerate(self.ids) if i}

    def indices_in(self, other: Catalogue) -> npt.NDArray[np.int32]:
        """The indices of all items in another catalogue: int32 ``[num_items + 1]``, 0 where it has no such item."""
        return np.concatenate([np.zeros(1, np.int32), numbers_of(self.frame["item_id"], other.frame["item_id"])])

    @property
    def fields(self) -> list[str]:
        """Columns beyond id, title and image."""
        return [name for name in self.frame.columns if name not in RESERVED]

    @cached_property
    def title_column(self) -> pl.Series:
        """Title for people to read, one row per item; the id where there is none."""
        title, item = pl.col("title").cast(pl.String), pl.col("item_id")
        return self.frame.select(pl.when(title != "").then(title).otherwise(item).alias("title"))["title"]

    @cached_property
    def titles(self) -> list[str]:
        """:attr:`title_column` by index; ``titles[0]`` is the padding's empty string."""
        return ["", *self.title_column.to_list()]

    def texts(self, fields: Iterable[str] | None = None) -> list[str | None]:
        """One text an item (list of ``num_items``, without padding): title and text fields joined by ". ".

        Args:
            fields: Columns to join, in order; by default the title and every string or list-of-string field.

        Returns:
            None for an item with no text at all.
        """
        names = list(fields) if fields is not None else ["title", *self.text_fields]
        for name in names:
            if name not in self.frame.columns:
                raise PalateError(f"the catalogue has no field '{name}'", f"It has: {', '.join(self.frame.columns)}.")
        columns = [_text_of(name, self.frame.schema[name]) for name in names]
        joined = self.frame.select(pl.concat_str(columns, separator=". ", ignore_nulls=True).alias("text"))["text"]
        return [text.strip() or None if text else None for text in joined.to_list()]

    @property
    def text_fields(self) -> list[str]:
        """Fields that hold strings or lists of strings."""
        return [name for name in self.fields if self.frame.schema[name] in (pl.String, pl.List(pl.String))]

    def image_path(self, item: int) -> Path | None:
        """Where the picture of the item with this index is, or None; the file may be missing or broken.

        Raises:
            PalateError: the path leads out of :attr:`root`.
        """
        name = self.frame["image"][int(item) - 1]
        return inside(self.root, name) if name else None

    def select(self, condition: str) -> npt.NDArray[np.bool_]:
        """Mask of the items that meet a condition: bool ``[num_items + 1]``, padding False.

        See :func:`palate.data.conditions.find_matches`.
        """
        return find_matches(self.frame, condition).mask

    def check_types(self) -> None:
        """Refuse ids, titles or picture paths that are no text, and fields of bytes, which polars cannot write as JSON.

        Raises:
            PalateError: naming the column.
        """
        for name in RESERVED:
            kind = self.frame.schema[name]
            if kind != pl.String and (name == "item_id" or kind != pl.Null):
                raise PalateError(f"the column '{name}' of the catalogue is not text ({kind})", "Make it again.")
        for name, kind in self.frame.schema.items():
            if _holds_bytes(kind):
                raise PalateError(f"the column '{name}' of the catalogue holds bytes ({kind})", "Make it again.")
        if self.frame["item_id"].null_count():
            raise PalateError("an item of the catalogue has no id", "Make it again.")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all rows and columns: changes when any item, text or image path changes."""
        text = io.BytesIO()  # of one large text polars would make three more copies
        self.frame.select(sorted(self.frame.columns)).write_json(text)
        return digest(np.frombuffer(text.getbuffer(), np.uint8))

    def save(self, path: Path) -> None:
        """Write as Parquet (image paths stay relative to ``root``)."""
        self.frame.write_parquet(path)

    @classmethod
    def load(cls, path: Path, pictures: Path | str | None = None) -> Catalogue:
        """Read what :meth:`save` wrote.

        Raises:
            PalateError: the file is missing, cut off, or no catalogue.
        """
        try:
            made = cls(read_parquet(path), pictures or path.parent)
            made.check_types()
            return made
        except (OSError, pl.exceptions.PolarsError) as error:
            raise PalateError(
                f"{path} is damaged ({one_line(error)})", "Make the dataset or run it belongs to again."
            ) from None
        except PalateError as error:
            raise PalateError(f"{path}: {error.message}", error.remedy) from None


def _holds_bytes(kind: Any) -> bool:
    if isinstance(kind, pl.Struct):
        return any(_holds_bytes(field.dtype) for field in kind.fields)
    return _holds_bytes(kind.inner) if isinstance(kind, pl.List | pl.Array) else kind in (pl.Binary, pl.Object)


def _text_of(name: str, kind: pl.DataType) -> pl.Expr:
    """A column as text; null where there is nothing but blanks."""
    text = pl.col(name).cast(pl.String)
    if isinstance(kind, pl.List):
        entry = pl.element().cast(pl.String)
        text = pl.col(name).list.eval(entry.filter(entry.str.strip_chars() != "")).list.join(", ")
    return pl.when(text.str.strip_chars() != "").then(text)
