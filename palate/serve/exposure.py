"""What a model shows, counted: how popular and how new its items are, and what histories they answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from palate.cascade.cascade import Cascade
from palate.rankers.blend import Blend
from palate.recommender import Recommender
from palate.serve.telemetry import Telemetry

_TENTHS = 10
# Of the items shown whose popularity is compared with that of training, the older count less: half after this many.
_HALF_LIFE = 10_000
_LEAST_SHARE = 1e-4


def training_counts(model: Recommender) -> npt.NDArray[np.float64] | None:
    """Interactions of each item in training, float ``[num_items + 1]``, where a model keeps them."""
    if isinstance(model, Cascade):
        return training_counts(model.retriever)
    for part in model.parts if isinstance(model, Blend) else (model,):
        for name in ("counts", "popularity"):
            found = getattr(part, name, None)
            if found is not None and len(found) == model.num_items + 1:
                counts = np.asarray(found.detach().cpu(), np.float64)
                return np.concatenate([[0.0], np.nan_to_num(counts[1:]).clip(min=0.0)])
    return None


class Exposure:
    """Counts the answers of one model.

    Args:
        counts: of :func:`training_counts`.
    """

    def __init__(self, model: str, telemetry: Telemetry, counts: npt.NDArray[np.float64] | None) -> None:
        self._answers = telemetry.answers.labels(model)
        self._shown = telemetry.shown.labels(model)
        self._lengths = telemetry.history_lengths.labels(model)
        self._known, self._unknown = (telemetry.history_items.labels(model, known) for known in ("yes", "no"))
        self._tenths: npt.NDArray[np.int64] | None = None
        if counts is None or not counts.sum():
            return
        # The most popular items with a tenth of all interactions are the first tenth, and so on; 0: no interactions.
        order = np.argsort(-counts, kind="stable")
        before = np.cumsum(counts[order]) - counts[order]
        self._tenths = np.zeros(len(counts), np.int64)
        self._tenths[order] = 1 + np.minimum(_TENTHS * before / counts.sum(), _TENTHS - 1).astype(np.int64)
        self._tenths[counts == 0] = 0
        self._expected = np.bincount(self._tenths, counts, _TENTHS + 1)[1:] / counts.sum()
        self._recent = np.zeros(_TENTHS)
        self._by_tenth = [
            telemetry.shown_new.labels(model),
            *(telemetry.shown_tenths.labels(model, str(tenth)) for tenth in range(1, _TENTHS + 1)),
        ]
        self._gauge, self._measured = telemetry.popularity_shift.labels(model), False

    def answered(self, history: int, known: int, items: Sequence[int]) -> None:
        """Count an answer.

        Args:
            history: items of the history as it was sent, of which the model knew ``known``.
            items: indices, as they were shown.
        """
        self._answers.inc()
        self._shown.inc(len(items))
        self._lengths.observe(history)
        self._known.inc(known)
        self._unknown.inc(history - known)
        if self._tenths is None or not items:
            return
        if not self._measured:  # not before: a new model that is refused must not take the place of the old one
            self._gauge.set_function(self.shift)
            self._measured = True
        seen = np.bincount(self._tenths[list(items)], minlength=_TENTHS + 1)
        for tenth in seen.nonzero()[0].tolist():
            self._by_tenth[tenth].inc(int(seen[tenth]))
        self._recent = self._recent * 0.5 ** (len(items) / _HALF_LIFE) + seen[1:]

    def shift(self) -> float:
        """Population stability index of the popularity of what was shown lately against that of the interactions of
        training, over tenths of these: the sum of ``(p - q) log(p / q)``; 0 before anything was shown."""
        total = self._recent.sum()
        if not total:
            return 0.0
        shown = (self._recent / total).clip(min=_LEAST_SHARE)
        expected = self._expected.clip(min=_LEAST_SHARE)
        return float(((shown - expected) * np.log(shown / expected)).sum())
