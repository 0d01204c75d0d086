"""The items of a bundle: the id map, what is known of each, and the file of its picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.names import free_name
from palate.storage.tables import read_parquet

FILE = "items.parquet"
_REMEDY = "Make the bundle again."


class BundleItems:
    """Items 1..num_items; index 0 is padding.

    Args:
        catalogue: ids, titles, fields, and ``image``: paths relative to its root, the folder of the pictures when the
            bundle was made.
        pictures: the picture of every item inside the bundle, or None: a list of ``num_items`` names.
    """

    def __init__(self, catalogue: Catalogue, pictures: Sequence[str | None]) -> None:
        self.catalogue = catalogue
        self.pictures = [None, *pictures]

    def __len__(self) -> int:
        """Number of items, padding not counted."""
        return len(self.catalogue)

    @property
    def ids(self) -> list[str]:
        """Item ids by index; ``ids[0]`` is the padding's empty string."""
        return self.catalogue.ids

    @property
    def titles(self) -> list[str]:
        """Title for people to read, by index; the id where there is none. Text of unknown origin: escape it."""
        return self.catalogue.titles

    @property
    def fields(self) -> list[str]:
        """Names of what is known beyond id, title and image."""
        return self.catalogue.fields

    def index_of(self, item_id: str) -> int | None:
        """The index of an item id, or None."""
        return self.catalogue.index.get(item_id)

    def facts(self, index: int) -> dict[str, Any]:
        """All columns of one item: ``item_id``, ``title``, ``image`` and the fields."""
        self.check(index)
        return self.catalogue.frame.row(index - 1, named=True)

    def check(self, index: int) -> int:
        """Refuse an index that no item has."""
        if not 1 <= index <= len(self):
            raise PalateError(f"there is no item with index {index}", f"Indices go from 1 to {len(self)}.")
        return index

    @cached_property
    def pictured(self) -> int:
        """How many items have a picture inside the bundle."""
        return sum(name is not None for name in self.pictures)

    def save(self, folder: Path) -> dict[str, str]:
        """Write ``items.parquet``; returns how its two columns are called that are not the catalogue's."""
        frame = self.catalogue.frame
        names = {kind: free_name(kind, frame.columns) for kind in ("index", "picture")}
        index = pl.Series(names["index"], range(1, len(frame) + 1), pl.Int64)
        pictures = pl.Series(names["picture"], self.pictures[1:], pl.String)
        frame.insert_column(0, index).with_columns(pictures).write_parquet(folder / FILE)
        return names

    @classmethod
    def load(cls, folder: Path, columns: dict[str, Any], root: Path | None) -> BundleItems:
        """Read what :meth:`save` wrote.

        Args:
            columns: what it returned.
            root: folder of the pictures that are not in the bundle; None: nowhere.
        """
        path = folder / FILE
        try:
            frame = read_parquet(path)
            index, picture = columns["index"], columns["picture"]
            if frame[index].to_list() != list(range(1, len(frame) + 1)):
                raise PalateError(f"{path} is damaged: its indices do not count from 1", _REMEDY)
            pictures = frame[picture].cast(pl.String).to_list()
            catalogue = Catalogue(frame.drop(index, picture), folder / "images" if root is None else root)
            catalogue.check_types()
        except (OSError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise PalateError(f"{path} is damaged ({error})", _REMEDY) from None
        except PalateError as error:
            raise PalateError(f"{path}: {error.message}", error.remedy) from None
        return cls(catalogue, pictures)
