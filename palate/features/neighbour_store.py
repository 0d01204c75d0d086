"""A list of each item's nearest items by one source, and the folder that it is stored in.

::

    DATASET/neighbours/lexical/
      neighbours.json   source, options, what it was made from; written last
      items.npy         int32 [items + 1, keep], best first, 0 where there are fewer
      values.npy        float32 [items + 1, keep], the cosine
      centre.npy        of dense features only: what an encoder's vector is compared by,
      basis.npy         so that an item added later can be compared as well
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.largest import Floats, Integers
from palate.features.whitening import Whitening
from palate.storage.files import atomic_folder, digest, read_json, write_json
from palate.storage.tensors import load_array

FORMAT = 1
# Rows that are checked at a time.
_ROWS = 65_536


@dataclass(frozen=True)
class NeighbourList:
    """The nearest items of every item, by one source.

    Attributes:
        source: ``co-occurrence``, or the name of a feature store.
        items: int32 ``[num_items + 1, keep]``, best first, equal ones by index; 0 = no neighbour. No item is its own.
        values: float32 ``[num_items + 1, keep]``, the cosine: above 0, and 0 where there is no neighbour.
        info: options, what the list was made from, coverage, and ``fingerprint`` of the list.
        whitening: of dense features: what their vectors are compared by.
    """

    source: str
    items: Integers
    values: Floats
    info: dict[str, Any]
    whitening: Whitening | None = None

    @property
    def keep(self) -> int:
        return int(self.items.shape[1])

    @property
    def num_items(self) -> int:
        return len(self.items) - 1

    @property
    def fingerprint(self) -> str:
        """Hash of source, items and values: equal fingerprints mean equal lists."""
        return str(self.info["fingerprint"])

    @property
    def coverage(self) -> float:
        """Share of the items that have a neighbour, 0 to 1."""
        return float((self.items[1:, 0] > 0).mean()) if self.num_items else 0.0

    def matrix(self, rows: Integers | None = None) -> sparse.csr_matrix:
        """float32 CSR ``[num_items + 1, num_items + 1]``; row ``h`` holds the neighbours of item ``h``.

        Args:
            rows: items ``[n]``, for a matrix of their rows only, ``[n, num_items + 1]``.
        """
        items, values = (self.items, self.values) if rows is None else (self.items[rows], self.values[rows])
        found, places = np.nonzero(items)
        shape = (len(items), len(self.items))
        return sparse.csr_matrix((values[found, places], (found, items[found, places])), shape=shape, dtype=np.float32)

    def signed(self) -> NeighbourList:
        """The same with what ``info`` records of its content: ``keep``, coverage and fingerprint."""
        info = {**self.info, "options": {**self.info["options"], "keep": self.keep}}
        info |= {"coverage": round(self.coverage, 6), "fingerprint": self._digest()}
        return replace(self, info=info)

    def _digest(self) -> str:
        return digest(self.source, str(self.items.shape), self.items.tobytes(), self.values.tobytes())

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What a file stores: ``items``, ``values``, and of dense features ``centre`` and ``basis``."""
        arrays: dict[str, npt.NDArray[Any]] = {"items": self.items, "values": self.values}
        if self.whitening is not None:
            arrays |= {"centre": self.whitening.centre, "basis": self.whitening.basis}
        return {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def of(cls, source: str, items: Integers, values: Floats, whitening: Whitening | None = None) -> NeighbourList:
        """A list of arrays that are stored elsewhere (in a model, say), checked.

        Raises:
            ValueError: what is wrong with them.
        """
        return cls(source, items, values, _info_of(source), whitening).signed().checked()

    @classmethod
    def mapped(cls, source: str, items: Integers, values: Floats, rows: range) -> NeighbourList:
        """A list whose arrays are left on the disk: of their content only some rows are read, and checked.

        It has no fingerprint, which would take all of them.

        Raises:
            ValueError: what is wrong with them.
        """
        made = cls(source, items, values, _info_of(source))
        made.check_rows(rows)
        return made

    @classmethod
    def of_arrays(cls, source: str, arrays: Mapping[str, npt.NDArray[Any]]) -> NeighbourList:
        """The list of :attr:`arrays`, checked.

        Raises:
            KeyError: an array is missing.
            ValueError: what is wrong with them.
        """
        return cls.of(source, arrays["items"], arrays["values"], _whitening_of(arrays))

    def cut(self, keep: int) -> NeighbourList:
        """The ``keep`` nearest of each item's neighbours."""
        if keep >= self.keep:
            return self
        return replace(self, items=self.items[:, :keep].copy(), values=self.values[:, :keep].copy()).signed()

    def save(self, folder: Path) -> None:
        """Write the whole folder or nothing; a list that is there is replaced."""
        with atomic_folder(folder, replace=True) as part:
            for name, array in self.arrays.items():
                np.save(part / f"{name}.npy", array, allow_pickle=False)
            write_json(part / "neighbours.json", self.info)

    @classmethod
    def load(cls, folder: Path | str, catalogue: Catalogue) -> NeighbourList:
        """Read what :meth:`save` wrote.

        Raises:
            PalateError: no list, a damaged one, or one of other items than the catalogue's.
        """
        folder = Path(folder)
        again = "Remove the folder: the list is made again where it is used."
        if not (folder / "neighbours.json").is_file():
            raise PalateError(f"{folder} is no list of neighbours (it has no neighbours.json)", "Check the path.")
        info = read_json(folder / "neighbours.json")
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise PalateError(f"{folder} is of a format that this Palate does not read", again)
        if info.get("items_fingerprint") != digest(*catalogue.ids):
            raise PalateError(f"the list of neighbours {folder} is of other items than the catalogue's", again)
        try:
            names = [name for name in ("items", "values", "centre", "basis") if (folder / f"{name}.npy").exists()]
            arrays = {name: load_array(folder / f"{name}.npy") for name in names}
            white = _whitening_of(arrays)
            made = cls(str(info["source"]), arrays["items"], arrays["values"], info, white).checked()
            if made.num_items != len(catalogue):
                raise ValueError(f"{made.num_items} items, and the catalogue has {len(catalogue)}")
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise PalateError(f"the list of neighbours {folder} is damaged ({error})", again) from None
        return made

    def checked(self) -> NeighbourList:
        """The list itself.

        Raises:
            ValueError: what is wrong with one that was read.
        """
        self.check_rows(range(len(self.items)))
        white = self.whitening
        if white is not None and not (
            white.centre.ndim == 1 and white.basis.ndim == 2 and len(white.basis) == len(white.centre)
        ):
            raise ValueError("a basis of another width than the centre")
        if white is not None and not all(
            one.dtype == np.float32 and np.isfinite(one).all() for one in (white.centre, white.basis)
        ):
            raise ValueError("a centre or a basis that are no numbers")
        if self.fingerprint != self._digest():
            raise ValueError("other content than it was made with")
        return self

    def check_rows(self, rows: range) -> None:
        """Refuse arrays of other shapes or types, and what is wrong in some of their rows.

        Args:
            rows: without a gap; the padding's is looked at as well.

        Raises:
            ValueError: what is wrong.
        """
        items, values = self.items, self.values
        if items.ndim != 2 or items.shape != values.shape or not len(items):
            raise ValueError(f"shapes {items.shape} and {values.shape}")
        if items.dtype != np.int32 or values.dtype != np.float32:
            raise ValueError(f"types {items.dtype} and {values.dtype}")
        if items[0].any() or values[0].any():
            raise ValueError("neighbours of the padding")
        for start in range(rows.start, rows.stop, _ROWS):
            numbers = np.arange(start, min(start + _ROWS, rows.stop), dtype=np.int32)[:, None]
            block = slice(start, start + len(numbers))
            _check_block(numbers, items[block], values[block], len(items))


def _info_of(source: str) -> dict[str, Any]:
    """What is known of arrays that are stored elsewhere."""
    return {"format": FORMAT, "source": source, "options": {}}


def _check_block(numbers: Integers, items: Integers, values: Floats, num_rows: int) -> None:
    """Refuse what is wrong in the rows ``numbers`` (``[n, 1]``) of a list of ``num_rows``."""
    if items.size and (items.min() < 0 or items.max() >= num_rows):
        raise ValueError("a neighbour that is not in the catalogue")
    if ((items == numbers) & (numbers > 0)).any():
        raise ValueError("an item that is its own neighbour")
    if not np.isfinite(values).all() or ((values > 0) != (items > 0)).any() or (values < 0).any():
        raise ValueError("values that are no cosines")


def _whitening_of(arrays: Mapping[str, npt.NDArray[Any]]) -> Whitening | None:
    """Lists by words and by the log have none."""
    return Whitening(arrays["centre"], arrays["basis"]) if "basis" in arrays else None
