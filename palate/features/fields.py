"""Fields of the catalogue as features: which values there are, and the codes of those that an item has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.catalogue import RESERVED, Catalogue
from palate.errors import PalateError, suggest
from palate.features.store import FeatureStore
from palate.storage.files import digest

# Between the steps of a category path: "Beauty > Makeup > Face" has three values, each the way to it.
PATH = " > "
# A number with more values than this is binned into this many quantiles.
BINS = 16
# A value of one item alone carries nothing that the item's id does not.
_FEWEST = 2
# Values that an item may have in one field.
_MOST = 64

Kind = Literal["value", "number"]

FIELDS = "fields"  # the modality whose features are codes of values, not vectors


@dataclass(frozen=True)
class Field:
    """What is known of one column.

    Attributes:
        kind: ``value``: each value (each step of a category path, each entry of a list) has a code of its own;
            ``number``: a number has the code of its bin.
        values: the values, in the order of their codes.
        edges: upper ends of all bins but the last, of a number.
    """

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        return len(self.edges) + 1 if self.kind == "number" else len(self.values)

    @cached_property
    def places(self) -> dict[str, int]:
        return {value: place for place, value in enumerate(self.values)}

    def of(self, column: pl.Series) -> list[list[int]]:
        """The places of what each item has; unknown values are left out."""
        if self.kind == "number":
            numbers = _numbers(column)
            bins = np.searchsorted(np.array(self.edges), numbers, side="left")
            return [[] if np.isnan(one) else [int(place)] for one, place in zip(numbers, bins, strict=True)]
        return [[self.places[value] for value in row if value in self.places][:_MOST] for row in values_of(column)]


@dataclass(frozen=True)
class Vocabulary:
    """The fields and their values. Codes run from 1, field after field; 0 stands for none.

    Attributes:
        slots: codes that an item may have.
    """

    fields: tuple[Field, ...]
    slots: int

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(field.size for field in self.fields)

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.fields]

    @property
    def fingerprint(self) -> str:
        return digest(str(self.to_json()))

    def encode(self, frame: pl.DataFrame) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """Codes int32 ``[items, slots]`` of a catalogue's rows, and bool ``[items]``: which have any known value.

        Raises:
            PalateError: a column is not there.
        """
        check_columns(self.names, frame.columns)
        rows: list[list[int]] = [[] for _ in range(len(frame))]
        first = 1
        for field in self.fields:
            for row, places in zip(rows, field.of(frame[field.name]), strict=True):
                row += [first + place for place in places]
            first += field.size
        codes = np.zeros((len(rows), self.slots), np.int32)
        for place, row in enumerate(rows):
            part = row[: self.slots]
            codes[place, : len(part)] = part
        present: npt.NDArray[np.bool_] = np.any(codes > 0, axis=1)
        return codes, present

    def moved_from(self, earlier: Vocabulary) -> tuple[list[int], list[int]]:
        """Codes of the values that both have: in ``earlier``, and here."""
        before = {key: code for code, key in enumerate(earlier._keys(), start=1)}
        pairs = [(before[key], code) for code, key in enumerate(self._keys(), start=1) if key in before]
        return [old for old, _ in pairs], [new for _, new in pairs]

    def _keys(self) -> list[tuple[Any, ...]]:
        return [
            (field.name, field.kind, field.edges if field.kind == "number" else None, key)
            for field in self.fields
            for key in (range(field.size) if field.kind == "number" else field.values)
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        fields = [
            {"name": one.name, "kind": one.kind, "values": list(one.values), "edges": list(one.edges)}
            for one in self.fields
        ]
        return {"fields": fields, "slots": self.slots}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """What :meth:`to_json` made."""
        fields = [
            Field(one["name"], one["kind"], tuple(map(str, one["values"])), tuple(map(float, one["edges"])))
            for one in values["fields"]
        ]
        return cls(tuple(fields), int(values["slots"]))


@dataclass(frozen=True)
class FieldStore(FeatureStore):
    """Codes of a catalogue's fields, in place of a store of vectors: it is made of the catalogue, not read from a file.

    ``vectors`` are int32 codes ``[num_items + 1, slots]``.
    """

    vocabulary: Vocabulary = Vocabulary((), 0)

    @property
    def width(self) -> int:
        """Number of values: that of the embedding's rows, without the padding's."""
        return self.vocabulary.size

    @classmethod
    def of(cls, vocabulary: Vocabulary, catalogue: Catalogue, interactions: npt.NDArray[Any] | None = None) -> Self:
        """The codes of a catalogue's items.

        Args:
            interactions: item indices of the dataset's interactions, for the coverage.
        """
        codes, present = vocabulary.encode(catalogue.frame)
        codes = np.concatenate([np.zeros((1, vocabulary.slots), np.int32), codes])
        present = np.concatenate([[False], present])
        codes.setflags(write=False)
        share = float(present[1:].mean()) if len(present) > 1 else 0.0
        taken = float(present[interactions].mean()) if interactions is not None and len(interactions) else share
        info = {
            "modality": "fields",
            "encoder": {"name": "fields", "fingerprint": vocabulary.fingerprint},
            "content": {"kind": "fields", "fields": vocabulary.names},
            "coverage": {"items": round(share, 6), "interactions": round(taken, 6)},
            "missing": [],
            "fingerprint": digest(vocabulary.fingerprint, *catalogue.ids, codes.tobytes()),
        }
        return cls(Path(), info, codes, present, pl.DataFrame(), vocabulary)  # type: ignore[arg-type]


def make_vocabulary(
    catalogue: Catalogue, names: Sequence[str] | None = None, earlier: Vocabulary | None = None
) -> Vocabulary:
    """The values of a catalogue's fields.

    Args:
        names: columns; by default every one with values that items share, or numbers.
        earlier: of the run that training starts from, whose bins of numbers stay as they are.

    Raises:
        PalateError: a column that is not there, or of which no two items share a value; no column at all.
    """
    frame = catalogue.frame
    if names is not None:
        check_columns(names, frame.columns)
    known = {field.name: field for field in earlier.fields} if earlier is not None else {}
    found = []
    for name in catalogue.fields if names is None else names:
        field = _field(frame[name], known.get(name), only_shared=names is None)
        if field is not None and field.size:
            found.append(field)
        elif names is not None:
            raise PalateError(
                f"ranker.fields: no two items share a value of '{name}' ({frame.schema[name]})", "Leave it out."
            )
    if not found:
        raise PalateError(
            f"the catalogue has no fields that items share (it has: {', '.join(catalogue.fields) or 'none'})",
            "Leave 'fields' out of --modalities, or prepare the data with such columns.",
        )
    counts = np.zeros(len(frame), np.int64)
    for field in found:
        counts += [len(places) for places in field.of(frame[field.name])]
    return Vocabulary(tuple(found), int(max(1, counts.max(initial=0))))


def check_columns(names: Iterable[str], columns: Sequence[str]) -> None:
    """Refuse a field that the catalogue does not have."""
    for name in names:
        if name in ("item_id", "image"):
            raise PalateError(f"ranker.fields: '{name}' is no field to learn from", "Leave it out.")
        if name not in columns:
            fields = [one for one in columns if one not in RESERVED]
            remedy = suggest(name, fields) if fields else "It has none but the title."
            raise PalateError(f"ranker.fields: the catalogue has no field '{name}'", remedy)


def _field(column: pl.Series, earlier: Field | None, only_shared: bool) -> Field | None:
    """What a column holds, or None where that is nothing to share."""
    kind = column.dtype
    if kind.is_numeric() or kind.is_temporal():
        if earlier is not None and earlier.kind == "number":
            return earlier
        numbers = _numbers(column)
        numbers = numbers[~np.isnan(numbers)]
        if len(np.unique(numbers)) > BINS:
            edges = np.unique(np.quantile(numbers, np.arange(1, BINS) / BINS, method="inverted_cdf"))
            return Field(column.name, "number", edges=tuple(float(edge) for edge in edges))
    elif not (kind in (pl.String, pl.Boolean, pl.Categorical, pl.Enum) or isinstance(kind, pl.List)):
        return None
    rows = values_of(column)
    # An item that has a value twice shares it with no other.
    counts = Counter(value for row in rows for value in row)
    filled = sum(1 for row in rows if row)
    shared = sorted(value for value, count in counts.items() if count >= _FEWEST)
    if only_shared and not isinstance(kind, pl.List) and len({tuple(row) for row in rows if row}) * 2 > filled:
        return None
    return Field(column.name, "value", values=tuple(shared)) if shared else None


def values_of(column: pl.Series) -> list[list[str]]:
    """Each item's values: the entries of a list, and every step of a path. Each once."""
    rows = column.to_list()
    found = []
    for row in rows:
        entries = row if isinstance(row, list) else [row]
        values = [step for entry in entries if entry is not None for step in _steps(_text(entry))]
        found.append(list(dict.fromkeys(values)))
    return found


def _text(value: Any) -> str:
    """A value as the vocabulary holds it: a whole number reads the same whatever type a table had it in."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _steps(value: str) -> list[str]:
    parts = [part for part in (part.strip() for part in value.split(PATH)) if part]
    return [PATH.join(parts[: end + 1]) for end in range(len(parts))]


def _numbers(column: pl.Series) -> npt.NDArray[np.float64]:
    kind = column.dtype
    whole = column.to_physical() if kind.is_temporal() else column
    numbers: npt.NDArray[np.float64] = whole.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)
