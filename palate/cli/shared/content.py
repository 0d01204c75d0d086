"""What ``palate train`` reads of an item by default: the content that is encoded, in the way that ranks best."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palate.names import comma_separated
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker
from palate.rankers.trained import TrainedRanker
from palate.runs.run import Run

AUTO, NONE = "auto", "none"
# Components that summed features are whitened to (docs/experiments.md), where there are this many items for each: with
# fewer, a new item differs from all others in directions that whitening blows up.
WHITEN, _ITEMS_EACH = 128, 8


@dataclass(frozen=True)
class Content:
    """What a ranker reads of its items.

    Attributes:
        modalities: of an item's vector.
        neighbours: sources that add to the scores.
        whiten: components of the summed features, or None where the setting is the ranker's own.
    """

    modalities: tuple[str, ...]
    neighbours: tuple[str, ...]
    whiten: int | None = None


def listed(names: str) -> tuple[str, ...]:
    """Names between commas; ``none`` is no name.

    >>> listed("id, text,"), listed("none")
    (('id', 'text'), ())
    """
    return () if names.strip() == NONE else tuple(comma_separated(names))


def choose_content(
    model: str, dataset: Path, items: int, modalities: str, neighbours: str, warm_start: Path | None = None
) -> Content:
    """Resolve ``auto``: texts and pictures that are encoded are summed with the ids, and everything that is encoded
    (``lexical`` too) and the log itself give neighbours. Without encoded content, and for rankers that are not trained
    by gradient, only ids are read; one that knows no ids reads the texts and pictures alone. A warm start reads what
    its run reads.

    Args:
        items: how many the dataset has.
    """
    kind = RANKERS[model]
    neural = issubclass(kind, SequentialRanker)
    before = Run.open(warm_start).info["options"] if warm_start is not None and neural else None
    stores = [name for name in ("lexical", "text", "image") if (dataset / "features" / name / "store.json").is_file()]
    content = tuple(name for name in stores if name != "lexical")
    if issubclass(kind, TrainedRanker) and not kind.reads_ids:
        return Content(
            (content or ("text",)) if modalities == AUTO else listed(modalities),
            () if neighbours == AUTO else listed(neighbours),
        )
    summed: tuple[str, ...] = content if neural else ()
    near: tuple[str, ...] = ("co-occurrence", *stores) if neural and stores else ()
    fresh = modalities == AUTO and bool(summed) and before is None
    whiten = min(WHITEN, items // _ITEMS_EACH) if fresh else None
    if before is not None:
        summed = tuple(name for name in before.get("modalities", ["id"]) if name != "id")
        near = tuple(before.get("settings", {}).get("neighbours", {}).get("sources", ()))
        # It was chosen for the user, who cannot be expected to repeat it.
        whiten = before.get("settings", {}).get("ranker", {}).get("whiten") if modalities == AUTO else None
    return Content(
        ("id", *summed) if modalities == AUTO else listed(modalities),
        near if neighbours == AUTO else listed(neighbours),
        whiten,
    )
