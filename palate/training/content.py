"""What a training reads of an item by default: the content that is encoded, in the way that ranks best."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from palate.errors import PalateError
from palate.features.lexical_store import NAME as LEXICAL
from palate.names import comma_separated
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker
from palate.rankers.trained import TrainedRanker
from palate.runs.run import Run
from palate.training.config import TrainerConfig

AUTO: Literal["auto"] = "auto"
Names = Sequence[str] | Literal["auto"]
Settings = Mapping[str, Mapping[str, Any]]
# Components that summed features are whitened to (docs/experiments.md), where there are this many items for each: with
# fewer, a new item differs from all others in directions that whitening blows up.
WHITEN, _ITEMS_EACH = 128, 8


@dataclass(frozen=True)
class Content:
    """What a ranker reads of its items.

    Attributes:
        modalities: of an item's vector.
        neighbours: sources that add to the scores.
        settings: of the training, with how many components the summed features are whitened to.
    """

    modalities: tuple[str, ...]
    neighbours: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)

    def __str__(self) -> str:
        near = f"; neighbours by {', '.join(self.neighbours)}" if self.neighbours else ""
        return f"{', '.join(self.modalities)}{near}"


def encoded_content(dataset: Path | None) -> tuple[str, ...]:
    """The feature stores of a dataset's folder that are read by default, those that exist."""
    names = (LEXICAL, "text", "image")
    return tuple(name for name in names if dataset and (dataset / "features" / name / "store.json").is_file())


def choose_content(
    model: str,
    items: int,
    encoded: Collection[str],
    modalities: Names = AUTO,
    neighbours: Names = AUTO,
    settings: Settings | None = None,
    before: Path | str | None = None,
) -> Content:
    """Resolve ``auto``: texts and pictures that are encoded are summed with the ids, and everything that is encoded
    (``lexical`` too) and the log itself give neighbours. Without encoded content, and for rankers that are not trained
    by gradient, only ids are read; one that knows no ids reads the texts and pictures alone. A warm start and a resumed
    run read what the run before reads, and what is streamed from disk has no neighbours.

    Args:
        items: how many the dataset has.
        encoded: feature stores that are there.
        settings: of the training; what they say of neighbours and whitening stands.
        before: the run that is resumed, or that the training starts from.

    Raises:
        PalateError: a text where a list of names belongs, or wrong settings of the trainer.
    """
    for name, value in {"modalities": modalities, "neighbours": neighbours}.items():
        if isinstance(value, str) and value != AUTO:
            raise PalateError(f"{name} is the text '{value}', and a list is needed", f"Write {comma_separated(value)}.")
    settings = settings or {}
    if modalities != AUTO and neighbours != AUTO:
        return Content(tuple(modalities), tuple(neighbours), settings)
    usual, whiten = _usual_content(model, items, encoded, before)
    if modalities == AUTO and whiten is not None:
        settings = {**settings, "ranker": {"whiten": whiten, **settings.get("ranker", {})}}
    no_more = "sources" in settings.get("neighbours", {}) or _streams(settings)
    return Content(
        usual.modalities if modalities == AUTO else tuple(modalities),
        (() if no_more else usual.neighbours) if neighbours == AUTO else tuple(neighbours),
        settings,
    )


def _streams(settings: Settings) -> bool:
    return bool(TrainerConfig.parse(settings.get("trainer", {}), where="settings [trainer]").stream)


def _usual_content(
    model: str, items: int, encoded: Collection[str], before: Path | str | None
) -> tuple[Content, int | None]:
    """What is read by default, and the components that it is whitened to."""
    kind = RANKERS[model]
    texts_and_pictures = tuple(name for name in encoded if name != LEXICAL)
    if before is not None and issubclass(kind, TrainedRanker):  # it chose for the user, who need not repeat it
        options = Run.open(before).info["options"]
        of_run = options.get("settings", {})
        sources, whiten = of_run.get("neighbours", {}).get("sources", ()), of_run.get("ranker", {}).get("whiten")
        return Content(tuple(options.get("modalities", ("id",))), tuple(sources)), whiten
    if issubclass(kind, TrainedRanker) and not kind.reads_ids:
        return Content(texts_and_pictures or ("text",)), None
    if not issubclass(kind, SequentialRanker):
        return Content(("id",)), None
    near = ("co-occurrence", *encoded) if encoded else ()
    return Content(("id", *texts_and_pictures), near), min(WHITEN, items // _ITEMS_EACH) if texts_and_pictures else None
