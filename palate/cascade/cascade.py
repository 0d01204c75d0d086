"""The Cascade: a fast retriever proposes a few items, an expensive recommender puts them in order."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from palate.cascade.cache import ScoredLists
from palate.cascade.normalise import Normalisation, finite, random_scores, unit
from palate.data.sequences import Sequences
from palate.errors import PalateError, suggest
from palate.rankers.registry import RANKERS, load_recommender
from palate.recommender import Histories, Recommender, as_sequences, mask_items
from palate.runs.run import Run
from palate.topk import best_items, checked_k

Mode = Literal["rerank", "blend", "random"]
MODES: tuple[Mode, ...] = ("rerank", "blend", "random")
# Up to this many given candidates (or ``depth``, if that is more) are all scored by the second stage.
FEW = 50
# Beyond this, a float32 cannot hold a score and a million places below it.
_LARGE = 2.0**22


class Cascade(Recommender):
    """A recommender of the whole catalogue made of two.

    - For the whole catalogue the retriever proposes its ``depth`` best items (without the history where that is
      excluded). The second stage scores these; they stand above all others, which keep the retriever's order.
    - Of given candidates all are scored by the second stage if they are few (at most :data:`FEW`, or ``depth``), so
      that the sampled protocol judges the second stage itself; of more, the ``depth`` that the retriever likes best.

    What the second stage has scored is stored: the same history and items are never scored twice by this cascade
    and the variants made from it. Lists reach the second stage in an order that tells nothing of the retriever's.

    Args:
        retriever: ranks the whole catalogue.
        second: anything that scores given candidates.
        depth: how many items are proposed.
        mode: ``rerank`` (the second stage alone decides), ``blend`` (``weight`` x second stage + (1 - ``weight``) x
            retriever, both normalised within the list), or ``random`` (a seeded shuffle: the control).
        normalise: ``standard`` (mean 0, standard deviation 1) or ``rank`` (evenly spaced from 0 to 1).
        exclude_seen: whether :meth:`score` leaves the history out of what is proposed; :meth:`recommend` is told.
        seed: of the shuffle.
    """

    name: ClassVar[str] = "cascade"

    def __init__(
        self,
        retriever: Recommender,
        second: Recommender,
        *,
        depth: int = 20,
        mode: Mode = "rerank",
        weight: float = 0.5,
        normalise: Normalisation = "standard",
        exclude_seen: bool = True,
        seed: int = 0,
    ) -> None:
        if depth < 1:
            raise PalateError(f"a cascade of depth {depth} re-ranks nothing", "Give --depth of at least 1.")
        if retriever.num_items != second.num_items:
            raise PalateError(
                f"the retriever knows {retriever.num_items:,} items, what re-ranks them {second.num_items:,}",
                "Make both from one dataset.",
            )
        if not retriever.whole_catalogue:
            raise PalateError(f"'{retriever.name}' cannot rank the whole catalogue", "Choose a fast retriever.")
        self.retriever, self.second = retriever, second
        self.num_items, self.depth, self.exclude_seen, self.seed = retriever.num_items, depth, exclude_seen, seed
        self.normalise: Normalisation = normalise
        self.batch_size = second.batch_size
        self.lists = ScoredLists(second, self.batch_size or 256)
        self._set(mode, weight)

    def _set(self, mode: Mode, weight: float) -> None:
        if mode not in MODES:
            raise PalateError(f"there is no mode '{mode}'", suggest(mode, MODES))
        if not 0 <= weight <= 1:
            raise PalateError(f"a blend of weight {weight:g} makes no sense", "Give a number from 0 to 1.")
        self.mode: Mode = mode
        self.weight = weight

    def variant(self, mode: Mode, weight: float = 0.5) -> Cascade:
        """The same two stages in another mode; what the second stage has scored serves both."""
        other = copy.copy(self)
        other._set(mode, weight)
        return other

    @property
    def reads_times(self) -> bool:
        return self.retriever.reads_times or self.second.reads_times

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        if candidates is None:
            scores = self._retrieved(rows, None)
            places = self._proposed(rows, scores, self.exclude_seen, None)
            return self._on_top(scores, places, self._values(rows, scores, places, places))
        candidates = candidates.cpu()
        scores = self._retrieved(rows, candidates)
        if candidates.shape[1] <= max(FEW, self.depth):
            places = [row.nonzero()[:, 0] for row in candidates]
        else:
            columns, found = best_items(scores, self.depth)
            places = [row[values > -torch.inf] for row, values in zip(columns, found, strict=True)]
        items = [row[where] for row, where in zip(candidates, places, strict=True)]
        return self._on_top(scores, places, self._values(rows, scores, places, items))

    def recommend(
        self, histories: Histories, k: int, exclude_seen: bool = True, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """As for any recommender; what may not be recommended is not proposed, so it takes nobody's place."""
        k = checked_k(k)
        rows = as_sequences(histories)
        scores = self._retrieved(rows, None)
        if allowed is not None:
            scores[:, ~allowed.cpu()] = -torch.inf
        if exclude_seen:
            mask_items(scores, rows)
        places = self._proposed(rows, scores, exclude_seen, allowed)
        return best_items(self._on_top(scores, places, self._values(rows, scores, places, places)), k)

    def _retrieved(self, rows: Sequences, candidates: Tensor | None) -> Tensor:
        scores = self.retriever.score(rows, candidates).detach().float().cpu()
        if torch.isnan(scores).any():
            raise PalateError("the retriever gave scores that are not numbers (NaN)", "Choose another --retriever.")
        padding = torch.zeros(scores.shape[1], dtype=torch.bool) if candidates is None else candidates == 0
        if candidates is None:
            padding[0] = True
        return scores.masked_fill(padding, -torch.inf)

    def _proposed(self, rows: Sequences, scores: Tensor, exclude_seen: bool, allowed: Tensor | None) -> list[Tensor]:
        """Items that the retriever proposes for each row, best first: int64 ``[depth]`` or fewer.

        Once proposed, a history's items stay the same: scores of equal histories may differ in their last bits from
        one batch to another, and must not send the second stage another list.
        """
        rule = b"" if allowed is None else hashlib.blake2b(allowed.cpu().numpy().tobytes(), digest_size=16).digest()
        what = repr((exclude_seen, self.depth)).encode() + rule
        keys = [what + b"|" + row for row in rows.row_keys()]
        missing = [number for number, key in enumerate(keys) if key not in self.lists.proposed]
        if missing:
            some = scores[missing]
            if exclude_seen:
                mask_items(some, rows.take(missing))
            for number, items, values in zip(missing, *best_items(some, self.depth), strict=True):
                self.lists.proposed[keys[number]] = items[values > -torch.inf]
        return [self.lists.proposed[key] for key in keys]

    def _values(
        self, rows: Sequences, scores: Tensor, places: Sequence[Tensor], items: Sequence[Tensor]
    ) -> list[Tensor]:
        """The score of each proposed item under the mode: float32 as long as each row of ``items``."""
        if self.mode == "random":
            return [random_scores(self.seed, row.tobytes(), one) for row, one in zip(rows, items, strict=True)]
        second = self.lists.of(rows, items)
        if self.mode == "rerank":
            return [finite(values) for values in second]
        return [
            self.weight * unit(values, self.normalise) + (1 - self.weight) * unit(row[where], self.normalise)
            for values, row, where in zip(second, scores, places, strict=True)
        ]

    @staticmethod
    def _on_top(scores: Tensor, places: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """Each row's ``values`` at its ``places``; every other score that is not ``-inf`` comes below them.

        The others become whole numbers, one less for each different score of the retriever: ties stay ties, nothing
        that was apart becomes one, and a float32 holds them exactly.
        """
        ordered, columns = scores.sort(dim=1, descending=True, stable=True)
        steps = torch.zeros_like(ordered)
        steps[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(1)
        out = torch.empty_like(scores).scatter_(1, columns, -1 - steps)
        out[torch.isneginf(scores)] = -torch.inf
        for row, (where, own) in enumerate(zip(places, values, strict=True)):
            if not len(where):
                continue
            if float(own.abs().max()) > _LARGE:
                own = torch.unique(own, return_inverse=True)[1].float()
            out[row] += float(own.min().floor())
            out[row, where] = own
        return out

    def set_data_folder(self, folder: Path) -> None:
        for one in (self.retriever, self.second):
            one.set_data_folder(folder)

    def check_ready(self, histories: Histories) -> None:
        self.retriever.check_ready(histories)
        if self.mode != "random":
            self.second.check_ready(histories)

    def allow_generation(self) -> None:
        for one in (self.retriever, self.second):
            one.allow_generation()

    def cost(self) -> dict[str, float]:
        """The second stage's counters."""
        return self.second.cost()

    def describe(self) -> dict[str, Any]:
        blended = {"weight": self.weight, "normalise": self.normalise} if self.mode == "blend" else {}
        return {
            "name": self.name,
            "num_items": self.num_items,
            "mode": self.mode,
            "depth": self.depth,
            **blended,
            **({"seed": self.seed} if self.mode == "random" else {}),
            "retriever": self.retriever.describe(),
            "second": self.second.describe(),
        }

    def save(self, folder: Path) -> None:
        raise PalateError("a cascade is two runs and has no folder of its own", "Name both: RUN --retriever RUN0.")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        raise PalateError("a cascade is two runs and has no folder of its own", "Name both: RUN --retriever RUN0.")


def open_cascade(
    run: Run,
    retriever: Run,
    *,
    depth: int = 20,
    blend: float | None = None,
    exclude_seen: bool = True,
    device: str = "cpu",
) -> Cascade:
    """The cascade of two runs of one catalogue; ``blend`` is the weight of ``run``, None for its order alone.

    Raises:
        PalateError: the runs number different items, or the retriever cannot rank the whole catalogue.
    """
    check_catalogues(run, retriever)
    kind = RANKERS[retriever.info["model"]]
    if not kind.whole_catalogue:
        raise PalateError(f"the retriever {retriever.folder} needs a retriever itself", "Choose a fast run.")
    fast = load_recommender(retriever, device=device)
    cascade = Cascade(fast, load_recommender(run, device=device), depth=depth, exclude_seen=exclude_seen)
    return cascade if blend is None else cascade.variant("blend", blend)


def check_catalogues(run: Run, retriever: Run) -> None:
    """Refuse two runs that do not number the same items alike: an item index must mean one thing."""
    mine, theirs = run.catalogue.ids, retriever.catalogue.ids
    if mine == theirs:
        return
    known = set(theirs)
    odd = next((item for item in mine[1:] if item not in known), None)
    mismatch = (
        f"'{odd}' is not in the retriever's" if odd is not None else f"{len(mine) - 1:,} and {len(theirs) - 1:,} items"
    )
    raise PalateError(
        f"{run.folder} and {retriever.folder} have different catalogues ({mismatch})", "Train both on one dataset."
    )


__all__ = ["FEW", "MODES", "Cascade", "Mode", "check_catalogues", "open_cascade"]
