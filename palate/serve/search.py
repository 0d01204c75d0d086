"""Looking up items by their titles and ids, for people who type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.catalogue import Catalogue

MOST_TITLE = 1_000  # characters of a title that are shown and searched


class Search:
    """Finds items whose title holds all words of a query.

    Args:
        popularity: float ``[num_items + 1]``; of equally good matches the more popular comes first.
    """

    def __init__(self, catalogue: Catalogue, popularity: npt.NDArray[np.float32]) -> None:
        # In the order of popularity once and for all: the catalogue from its beginning is what pages open with.
        order = np.argsort(-popularity[1:], kind="stable") + 1
        titles = pl.Series("title", catalogue.titles, dtype=pl.String).str.slice(0, MOST_TITLE).str.to_lowercase()
        ids = pl.Series("id", catalogue.ids, dtype=pl.String).str.to_lowercase()
        self._rows = pl.DataFrame({"index": order, "title": titles.gather(order), "id": ids.gather(order)})

    def __call__(self, query: str, limit: int, offset: int = 0) -> tuple[list[int], int]:
        """Item indices of one page, best first, and how many match. An empty query finds everything.

        The item whose id is the query comes first, then titles that begin with the query, then the others; each by
        popularity.
        """
        rows = self._rows
        text = query.strip().lower()
        if text:
            words = [pl.col("title").str.contains(word, literal=True) for word in text.split()]
            exact = pl.col("id") == text
            rows = rows.filter(pl.all_horizontal(words) | exact)
            better = {"exact": exact, "begins": pl.col("title").str.starts_with(text)}
            rows = rows.with_columns(**better).sort("exact", "begins", descending=True, maintain_order=True)
        return rows["index"].slice(offset, limit).to_list(), len(rows)
