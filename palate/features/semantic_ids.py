"""Semantic ids: a few codes for each item, made of its content, so that items that are alike begin alike.

Residual k-means: the first code of an item is the cluster of its vector, the second the cluster of what the first
centroid leaves of it, and so on (residual quantisation, with k-means in place of the RQ-VAE of Rajput et al. 2023,
"Recommender systems with generative retrieval", arXiv 2305.05065, section 3.1). A last code tells apart the items that
have all others in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from palate.errors import PalateError
from palate.features.lexical_store import require_sklearn
from palate.features.store import FeatureStore
from palate.features.whitening import Whitening

# A centroid is the mean of at least about this many items; a small catalogue has fewer centroids.
_ITEMS_PER_CENTROID = 4
# Vectors that one update of the centroids reads, passes over all of them, and starts of which the best is kept.
_BATCH, _PASSES, _STARTS = 4096, 50, 3
# Items whose distances to all centroids are in memory at a time.
_BLOCK = 4096

Codes = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SemanticIds:
    """The codes of a catalogue.

    Attributes:
        codes: int64 ``[num_items + 1, levels + 1]``, no two items with all in common; row 0 is padding and zero.
    """

    codes: Codes

    @classmethod
    def of(cls, stores: Mapping[str, FeatureStore], levels: int, size: int, whiten: int, seed: int = 0) -> SemanticIds:
        """Quantise the content of a catalogue.

        Each store's vectors are whitened and get length 1, and an item's are joined; what an item lacks is zero, which
        is the mean. The catalogue's content is known before anything is sold, so that all items take part, also those
        that nobody has taken yet. The same stores and seed give the same codes (on one machine, to the bit).

        Args:
            stores: one or more, of the same catalogue.
            levels: codes that are made of the content.
            size: of each codebook, and of the last level: all codes are below it.
            whiten: principal components of each store.

        Raises:
            PalateError: no item has a feature, or more items than the levels can tell apart.
        """
        parts = [
            Whitening.fit(store.vectors, store.present, whiten).apply(store.vectors, store.present)
            for store in stores.values()
        ]
        known = np.any([store.present for store in stores.values()], axis=0)
        content = quantised(np.concatenate(parts, axis=1)[1:], known[1:], levels, size, seed)
        codes = np.zeros((len(known), levels + 1), np.int64)
        codes[1:] = np.column_stack([content, _places(content)])
        return cls(codes)

    def facts(self) -> dict[str, Any]:
        """What the codes are like, for the run's record.

        Returns:
            ``used``: codes of each level that some item has; ``perplexity``: of their distribution, the number of
            equally common codes that would be as uncertain; ``shared``: the share of items whose content has the same
            codes as another's; ``largest``: how many of them there are of one kind at most.
        """
        codes = self.codes[1:]
        _, groups = np.unique(codes[:, :-1], axis=0, return_counts=True)
        used, perplexity = [], []
        for level in codes.T:
            shares = np.bincount(level)[np.unique(level)] / len(level)
            used.append(len(shares))
            perplexity.append(round(float(np.exp(-(shares * np.log(shares)).sum())), 1))
        return {
            "used": used,
            "perplexity": perplexity,
            "shared": round(float(groups[groups > 1].sum() / len(codes)), 6),
            "largest": int(groups.max()),
        }


def quantised(vectors: Vectors, known: npt.NDArray[np.bool_], levels: int, size: int, seed: int) -> Codes:
    """Residual k-means: int64 ``[n, levels]``.

    No more than ``size`` items have all codes in common: where there are more, the ones behind get the next nearest
    centroid of the last level that has room. So items without content, which all look the same, are dealt out.

    Args:
        vectors: float32 ``[n, width]``; zero where an item has no content.
        known: bool ``[n]``, the items that the centroids are made of.

    Raises:
        PalateError: more items of one kind than the last two levels can tell apart.
    """
    require_sklearn("semantic ids")
    from sklearn.cluster import MiniBatchKMeans

    count = max(1, min(size, int(known.sum()) // _ITEMS_PER_CENTROID))
    codes = np.zeros((len(vectors), levels), np.int64)
    left = vectors.astype(np.float32)  # a copy, written to
    centres = left[:0]
    for level in range(levels):
        if level:
            left -= centres[codes[:, level - 1]]
        fitted = MiniBatchKMeans(
            count, random_state=seed + level, batch_size=_BATCH, max_iter=_PASSES, n_init=_STARTS
        ).fit(left[known])
        centres = fitted.cluster_centers_.astype(np.float32)
        for start in range(0, len(left), _BLOCK):
            codes[start : start + _BLOCK, level] = _distances(left[start : start + _BLOCK], centres).argmin(1)
    _deal_out(codes, left, centres, size)
    return codes


def _distances(vectors: Vectors, centres: Vectors) -> Vectors:
    """Squared distances ``[n, k]``, less the vectors' own squared lengths."""
    distances: Vectors = (centres**2).sum(1) - 2 * vectors @ centres.T
    return distances


def _deal_out(codes: Codes, left: Vectors, centres: Vectors, size: int) -> None:
    """Give other last codes, in place, to items beyond the ``size`` that may have all codes in common."""
    _, kind = np.unique(codes[:, :-1], axis=0, return_inverse=True)
    kind = kind.ravel()
    counts: dict[int, Codes] = {}
    for item in np.flatnonzero(_places(codes) >= size):
        own = int(kind[item])
        if own not in counts:
            counts[own] = np.bincount(codes[kind == own, -1], minlength=len(centres))
        taken = counts[own]
        order = np.argsort(_distances(left[item : item + 1], centres)[0], kind="stable")
        free = order[taken[order] < size]
        if not len(free):
            raise PalateError(
                f"{int(taken.sum()):,} items look the same, more than their codes can tell apart",
                "Raise ranker.codebook or ranker.levels, or encode content that tells them apart.",
            )
        taken[codes[item, -1]] -= 1
        taken[free[0]] += 1
        codes[item, -1] = free[0]


def _places(codes: Codes) -> Codes:
    """int64 ``[n]``: how many items before each have the same codes."""
    _, kind = np.unique(codes, axis=0, return_inverse=True)
    order = np.argsort(kind.ravel(), kind="stable")
    ordered = kind.ravel()[order]
    first = np.searchsorted(ordered, ordered)
    places = np.empty(len(codes), np.int64)
    places[order] = np.arange(len(codes)) - first
    return places
