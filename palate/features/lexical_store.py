"""The store of items' words as sparse vectors (TF-IDF).

::

    DATASET/features/lexical/
      store.json           options, fingerprints, coverage; written last: a folder without it is no store
      matrix.safetensors   CSR [items + 1, terms]: values float32, columns int32, offsets int64; rows of length 1
      vocabulary.parquet   term and idf of every column, so that the words of new items are weighed alike
      present.npy          bool [items + 1]; False where the item has no term
      items.parquet        the item id of every row, and the hash of its text
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load_file
from scipy import sparse

from palate.config import Config
from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.content import first_change
from palate.features.described import DescribedFeatures
from palate.features.store import align_rows, read_store_json, remedy
from palate.storage.tables import read_parquet
from palate.storage.tensors import load_array

NAME = "lexical"


LAYOUT = "sparse"


# Terms of no more items than this are allowed, however few items there are: the words of a small catalogue are colours.
_FEW = 100


# A word is any run of letters and digits, however short: "5ml", "xl" and "8" tell products apart.
TOKEN = r"(?u)\b\w+\b"


class LexicalOptions(Config):
    """How texts become terms and weights.

    Attributes:
        analyzer: ``word``, words and pairs of words; or ``char``, three to five characters inside a word, for
            languages without spaces, and for catalogues of codes and many spellings.
        min_df: a term that fewer items have shows nothing of how alike two items are.
        max_df: a term that a larger share of the items has is left out, unless these are at most 100: it shows little
            (on Amazon Beauty and H&M leaving it out made the neighbours better, on validation), and its cost grows with
            the square of the items that have it.
    """

    analyzer: Literal["word", "char"] = "word"
    min_df: int = Field(default=2, ge=1)
    max_df: float = Field(default=0.05, gt=0, le=1)

    def most_items(self, items: int) -> int:
        """In how many of ``items`` items a term may occur."""
        return max(_FEW, int(self.max_df * items))

    @property
    def ngrams(self) -> tuple[int, int]:
        """Shortest and longest run of words or characters that is a term."""
        return (1, 2) if self.analyzer == "word" else (3, 5)


@dataclass(frozen=True)
class LexicalStore(DescribedFeatures):
    """TF-IDF vectors of a catalogue's texts, aligned to its items.

    Attributes:
        folder: where the store is.
        info: the content of ``store.json``.
        matrix: float32 CSR ``[num_items + 1, terms]``, rows of length 1; row 0 and those of missing items are empty.
        present: bool ``[num_items + 1]``.
        table: item id and content hash of every item, in the catalogue's order.
        vocabulary: ``term`` and ``idf`` of every column.
    """

    folder: Path
    info: dict[str, Any]
    matrix: sparse.csr_matrix
    present: npt.NDArray[np.bool_]
    table: pl.DataFrame
    vocabulary: pl.DataFrame

    @classmethod
    def load(cls, folder: Path | str, catalogue: Catalogue) -> LexicalStore:
        """Open a store for a catalogue; rows are matched by item id, whatever the order.

        Raises:
            PalateError: no store, a partial or damaged one, or one whose items or texts are not the catalogue's.
        """
        folder = Path(folder)
        info, again = read_store_json(folder), remedy(folder)
        if not is_lexical(info):
            raise PalateError(
                f"{folder} holds dense vectors, not words", "Make one: `palate encode DATASET --lexical`."
            )
        matrix, present, table, vocabulary = _read(folder, info, again)
        if not table["item_id"].equals(catalogue.frame["item_id"]):
            rows = align_rows(folder, table, catalogue, again)
            matrix, present, table = matrix[rows], present[rows], table[(rows[1:] - 1).tolist()]
        change = first_change(catalogue, info["content"], table)
        if change:
            raise PalateError(f"the feature store {folder} is stale: {change} since it was encoded", again)
        return cls(folder, info, matrix, present, table, vocabulary)

    @property
    def options(self) -> LexicalOptions:
        return LexicalOptions.parse(self.info["encoder"]["options"], where=str(self.folder / "store.json"))

    @property
    def width(self) -> int:
        """Number of terms."""
        return int(self.matrix.shape[1])

    def transform(self, texts: Sequence[str | None]) -> sparse.csr_matrix:
        """Vectors of new texts with the words and weights of the store: float32 CSR ``[texts, terms]``.

        A text without a known term, and None, is an empty row.
        """
        return self._vectorizer.transform([text or "" for text in texts]).astype(np.float32).tocsr()

    @cached_property
    def _vectorizer(self) -> Any:
        made = make_vectorizer(self.options, most=1, vocabulary=self.vocabulary["term"].to_list())
        made.idf_ = self.vocabulary["idf"].to_numpy()
        return made

    def describe(self) -> dict[str, Any]:
        """Facts for reports and run folders."""
        return {
            "modality": self.modality,
            "layout": LAYOUT,
            "encoder": self.encoder,
            "encoder_fingerprint": self.info["encoder"]["fingerprint"],
            "content": self.info["content"],
            "width": self.width,
            "dtype": "float32",
            "coverage": {**self.info["coverage"], "items": round(self.coverage, 6)},
            "missing": self.info["missing"],
            "fingerprint": self.fingerprint,
        }


def is_lexical(info: Any) -> bool:
    """Whether a ``store.json`` is that of a lexical store."""
    return isinstance(info, dict) and info.get("layout") == LAYOUT


def make_vectorizer(options: LexicalOptions, most: int, vocabulary: list[str] | None = None) -> Any:
    require_sklearn()
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="word" if options.analyzer == "word" else "char_wb",
        ngram_range=options.ngrams,
        token_pattern=TOKEN if options.analyzer == "word" else None,
        lowercase=True,
        strip_accents="unicode",
        sublinear_tf=True,
        norm="l2",
        min_df=1 if vocabulary else options.min_df,
        max_df=most,
        vocabulary=vocabulary,
        dtype=np.float64,
    )


def require_sklearn(what: str = "lexical features") -> None:
    if find_spec("sklearn") is None:
        raise PalateError(f"{what} need the package scikit-learn", "Run `pip install 'palate[encoders]'`.")


def _read(
    folder: Path, info: dict[str, Any], again: str
) -> tuple[sparse.csr_matrix, npt.NDArray[np.bool_], pl.DataFrame, pl.DataFrame]:
    """The store's files, checked against each other."""
    try:
        rows, width = int(info["items"]) + 1, int(info["width"])
        tensors = load_file(folder / "matrix.safetensors")
        matrix = csr_of(tensors, rows, width)
        present = load_array(folder / "present.npy")
        table = read_parquet(folder / "items.parquet")
        vocabulary = read_parquet(folder / "vocabulary.parquet")
        sound = (
            present.shape == (rows,)
            and present.dtype == np.bool_
            and bool((present == (np.diff(matrix.indptr) > 0)).all())
            and not present[0]
            and table.schema.get("item_id") == table.schema.get("content") == pl.String
            and len(table) == rows - 1
            and is_vocabulary(vocabulary, width)
            and info["content"]["kind"] == "text"
            and {"name", "fingerprint", "options"} <= set(info["encoder"])
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, SafetensorError, pl.exceptions.PolarsError) as error:
        raise PalateError(f"the feature store {folder} is damaged ({error})", again) from None
    if not sound:
        raise PalateError(f"the feature store {folder} is damaged (its files do not fit together)", again)
    return matrix, present, table, vocabulary


def csr_arrays(matrix: sparse.csr_matrix) -> dict[str, npt.NDArray[Any]]:
    """What is stored of a matrix: ``values`` float32, ``columns`` int32, ``offsets`` int64."""
    offsets = matrix.indptr.astype(np.int64)
    return {"values": matrix.data, "columns": matrix.indices.astype(np.int32), "offsets": offsets}


def csr_of(arrays: Mapping[str, npt.NDArray[Any]], rows: int, width: int) -> sparse.csr_matrix:
    """The matrix of :func:`csr_arrays`, checked.

    Raises:
        KeyError, ValueError: what is wrong with them.
    """
    matrix = sparse.csr_matrix((arrays["values"], arrays["columns"], arrays["offsets"]), shape=(rows, width))
    matrix.check_format(full_check=True)  # compiled code reads these positions unchecked later on
    if matrix.dtype != np.float32 or not np.isfinite(matrix.data).all():
        raise ValueError("values that are no finite float32")
    return matrix


def is_vocabulary(table: pl.DataFrame, width: int) -> bool:
    """Whether a table names the ``width`` terms and their idf."""
    return table.schema == {"term": pl.String, "idf": pl.Float64} and len(table) == width
