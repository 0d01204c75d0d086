"""Hardness of a preference pair: how hard its two items are to tell apart, as a number around 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.features.similarity import Similarity
from palate.features.store import FeatureStore

Form = Literal["as-written", "calibrated", "shuffled", "one"]
_KNOTS = 4096

# Two lists of items, [P] and [P, N], to a raw number per pair; nan where nothing is known of one of them.
Measure = Callable[[Tensor, Tensor], Tensor]


class Hardness:
    """A number per pair, fitted once to the pairs of the training set.

    Forms:
        ``as-written``: HaNoRec (arXiv 2511.18740). The cosines of an item's K nearest neighbours, sorted, become
        ``p = softmax(s)``; ``d = ||p+ - p-||_2``; ``h = sigma(d) / sigma(mean d)``, the mean over the fitted pairs. It
        compares how the two neighbourhoods thin out, not the two items, and stays close to 1.
        ``calibrated``: rises with the similarity of the two items, ``h = 1 + spread * (2 u - 1)`` with ``u`` the share
        of fitted pairs that are less alike (half of the equal ones counted). Mean 1 over the fitted pairs, between
        ``1 - spread`` and ``1 + spread``, whatever the encoder's scale of cosines.
        ``shuffled``: a control: one of the two above with the items' features dealt out anew, fitted again, so that the
        numbers are spread alike and mean nothing.
        ``one``: 1.

    A pair with an item that has no feature has hardness 1. Made by :meth:`fit`.
    """

    def __init__(self, form: Form, measure: Measure | None, scale: Callable[[Tensor], Tensor] | None) -> None:
        self.form = form
        self._measure = measure
        self._scale = scale
        self._quantiles: dict[str, float] = {}

    @classmethod
    def fit(
        cls,
        stores: Iterable[FeatureStore],
        chosen: Tensor,
        rejected: Tensor,
        *,
        form: Form = "calibrated",
        valid: Tensor | None = None,
        neighbours: int = 10,
        spread: float = 0.5,
        shuffle_of: Literal["calibrated", "as-written"] = "calibrated",
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Hardness:
        """Fit to pairs as training will meet them.

        Args:
            stores: features of the items; not looked at for the form ``one``.
            chosen: int64 ``[P]``, item indices.
            rejected: int64 ``[P, N]``.
            valid: bool ``[P, N]``, which pairs count.
            neighbours: K of ``as-written``.
            spread: of ``calibrated``, from 0 (all 1) to below 1.
            shuffle_of: what ``shuffled`` shuffles.
            seed: of the shuffling.
            device: where the features are held and compared; on the CPU they stay memory-mapped.

        Raises:
            PalateError: no features, too few items for K, no pair to fit to, or an option out of range.
        """
        if form not in ("as-written", "calibrated", "shuffled", "one"):
            raise PalateError(f"there is no hardness '{form}'", "Choose one of: as-written, calibrated, shuffled, one.")
        if neighbours < 1 or not 0 <= spread < 1:
            raise PalateError(
                f"hardness has neighbours {neighbours} and spread {spread}",
                "neighbours is at least 1, spread from 0 to below 1.",
            )
        used = torch.ones_like(rejected, dtype=torch.bool) if valid is None else valid
        if form == "one":
            fitted = cls(form, None, None)
        else:
            similarity = Similarity(stores).to(device)
            base = shuffle_of if form == "shuffled" else form
            measure = _neighbourhoods(similarity, neighbours) if base == "as-written" else similarity.of
            if form == "shuffled":
                measure = _shuffled(measure, similarity.known, seed)
            raw = measure(chosen.to(device), rejected.to(device))[used.to(device)]
            raw = raw[~raw.isnan()].double()
            if not len(raw):
                raise PalateError("hardness is fitted to pairs, and none has features on both sides", "Encode items.")
            fitted = cls(form, measure, _against_mean(raw) if base == "as-written" else _ranked(raw, spread))
        fitted._describe(fitted.of(chosen, rejected)[used])
        return fitted

    def of(self, chosen: Tensor, rejected: Tensor) -> Tensor:
        """float32 ``[P, N]`` on the device of ``chosen``, for int64 ``[P]`` and ``[P, N]``."""
        if self._measure is None or self._scale is None:
            return torch.ones(rejected.shape, device=rejected.device)
        raw = self._measure(chosen, rejected)
        return torch.where(raw.isnan(), 1.0, self._scale(raw)).to(chosen.device)

    def quantiles(self) -> dict[str, float]:
        """``p05``, ``p50``, ``p95``, ``min``, ``max`` and ``mean`` over the fitted pairs."""
        return dict(self._quantiles)

    def _describe(self, values: Tensor) -> None:
        if len(values):
            ordered = values.double().sort().values
            for name, share in {"min": 0.0, "p05": 0.05, "p50": 0.5, "p95": 0.95, "max": 1.0}.items():
                self._quantiles[name] = float(ordered[round(share * (len(ordered) - 1))])
            self._quantiles["mean"] = float(ordered.mean())


def _neighbourhoods(similarity: Similarity, count: int) -> Measure:
    """``||p+ - p-||_2``, ``p`` the softmax of an item's sorted cosines to its nearest neighbours."""
    shapes = similarity.nearest(count)[0]
    shapes = torch.where(shapes.isfinite().all(1, keepdim=True), shapes.softmax(1), torch.nan)

    def measure(chosen: Tensor, rejected: Tensor) -> Tensor:
        chosen, rejected = chosen.to(shapes.device), rejected.to(shapes.device)
        distances: Tensor = (shapes[rejected] - shapes[chosen].unsqueeze(1)).norm(dim=2)
        return distances

    return measure


def _shuffled(measure: Measure, known: Tensor, seed: int) -> Measure:
    """The measure of other items: each one that has features stands for another."""
    items = known.nonzero().squeeze(1)
    dealt = torch.arange(len(known), device=known.device)
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    dealt[items] = items[order.to(items.device)]

    def shuffled(chosen: Tensor, rejected: Tensor) -> Tensor:
        return measure(dealt[chosen.to(dealt.device)], dealt[rejected.to(dealt.device)])

    return shuffled


def _against_mean(raw: Tensor) -> Callable[[Tensor], Tensor]:
    """``sigma(d) / sigma(mean d)``."""
    middle = float(torch.sigmoid(raw.mean()))
    return lambda values: torch.sigmoid(values) / middle


def _ranked(raw: Tensor, spread: float) -> Callable[[Tensor], Tensor]:
    """``1 + spread * (2 u - 1)``, ``u`` the rank among the fitted values, a line between them."""
    values, counts = torch.unique(raw, return_counts=True)
    ranks = (counts.cumsum(0) - counts / 2) / len(raw)
    if len(values) > _KNOTS:
        places = torch.linspace(0, len(values) - 1, _KNOTS, dtype=torch.float64, device=raw.device).round().long()
        values, ranks = values[places], ranks[places]
    if len(values) < 2:
        return torch.ones_like
    knots, heights = values.float(), (1 + spread * (2 * ranks - 1)).float()

    def scale(seen: Tensor) -> Tensor:
        # searchsorted takes nan for larger than all: those are replaced by the caller.
        right = torch.searchsorted(knots, seen.contiguous()).clamp(1, len(knots) - 1)
        low, high = knots[right - 1], knots[right]
        along = ((seen - low) / (high - low)).clamp(0, 1)
        return torch.lerp(heights[right - 1], heights[right], along)

    return scale
