"""A weighted sum of the scores of several trained rankers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.errors import PalateError
from palate.rankers.registry import RANKERS
from palate.recommender import Histories, ItemScorer, Recommender, Shard, as_sequences
from palate.storage.files import read_json, write_json

PARTS = "parts"
_REMEDY = "Blend the runs again with `palate blend`, or copy the folder whole."


class BlendedPart(Config):
    """One ranker of a blend.

    Attributes:
        kind: its name in :data:`palate.rankers.registry.RANKERS`.
        weight: of its scores after they were divided by ``scale``.
        scale: spread of its scores within a row, measured once. It is fixed: only the order within a row means
            anything, so what a softmax or a mean would take off a whole row changes no ranking.
    """

    kind: str
    weight: float = Field(gt=0)
    scale: float = Field(default=1.0, gt=0)


class BlendConfig(Config):
    """What a :class:`Blend` is made of.

    Attributes:
        parts: in the order of the folders ``parts/0``, ``parts/1`` ...
    """

    parts: tuple[BlendedPart, ...] = Field(min_length=1)


class Blend(Recommender):
    """Scores an item by ``sum_m weight_m * score_m(item) / scale_m`` over whole rankers ``m``.

    Late fusion of trained models, as in Caruana et al., "Ensemble selection from libraries of models" (ICML 2004).
    ``palate blend`` chooses the weights on validation users (:mod:`palate.training.blend`).

    Args:
        parts: rankers of the whole catalogue, over the same items.
        config: their kinds, weights and scales, in the same order.

    Raises:
        PalateError: parts of different catalogues, or one that cannot rank a whole catalogue.
    """

    name: ClassVar[str] = "blend"
    Config: ClassVar[type[BlendConfig]] = BlendConfig

    def __init__(self, parts: Sequence[Recommender], config: BlendConfig) -> None:
        if len(parts) != len(config.parts):
            raise PalateError(f"{len(parts)} rankers and {len(config.parts)} weights make no blend", _REMEDY)
        for part in parts:
            check_part(type(part))
            if part.num_items != parts[0].num_items:
                raise PalateError(
                    f"the parts of a blend rank different items: {parts[0].num_items} ({parts[0].name}) and "
                    f"{part.num_items} ({part.name})",
                    "Blend runs of one dataset.",
                )
        self.parts, self.config, self.num_items = tuple(parts), config, parts[0].num_items
        self.shard = parts[0].shard
        self.batch_size = min((part.batch_size for part in parts if part.batch_size), default=None)

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        rows = as_sequences(histories)
        return self._sum(part.score(rows, candidates) for part in self.parts)

    @property
    def reads_times(self) -> bool:
        return any(part.reads_times for part in self.parts)

    @property
    def scores_in_blocks(self) -> bool:
        return all(part.scores_in_blocks for part in self.parts)

    def item_scorer(self, histories: Histories, memory: int) -> ItemScorer:
        scorers = [part.item_scorer(histories, memory // len(self.parts)) for part in self.parts]
        return lambda items: self._sum(scorer(items) for scorer in scorers)

    def _sum(self, scores: Iterable[Tensor]) -> Tensor:
        total: Tensor | None = None
        for one, facts in zip(scores, self.config.parts, strict=True):
            scaled = one.float() * (facts.weight / facts.scale)
            total = scaled if total is None else total.add_(scaled.to(total.device))
        assert total is not None
        return total

    def set_data_folder(self, folder: Path) -> None:
        for part in self.parts:
            part.set_data_folder(folder)

    def check_ready(self, histories: Histories) -> None:
        for part in self.parts:
            part.check_ready(histories)

    def allow_generation(self) -> None:
        for part in self.parts:
            part.allow_generation()

    def save(self, folder: Path) -> None:
        """``config.json``, and every part in a folder of its own: ``parts/0``, ``parts/1`` ..."""
        for number, part in enumerate(self.parts):
            inside = folder / PARTS / str(number)
            inside.mkdir(parents=True)
            part.save(inside)
        facts = {"name": self.name, "num_items": self.num_items, "config": self.config.model_dump(mode="json")}
        write_json(folder / "config.json", facts)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what :meth:`save` wrote; nothing outside ``folder`` is followed."""
        return cls._load(folder, lambda kind, inside: kind.load(inside, device=device))

    @classmethod
    def load_shard(cls, folder: Path, shard: Shard, device: str = "cpu") -> Self:
        """See :meth:`Recommender.load_shard`: weights and scales are fixed, so a sum of parts is a part of the sum."""
        return cls._load(folder, lambda kind, inside: kind.load_shard(inside, shard, device=device))

    @classmethod
    def _load(cls, folder: Path, load: Callable[[type[Recommender], Path], Recommender]) -> Self:
        facts = read_json(folder / "config.json")
        if not isinstance(facts, dict) or facts.get("name") != cls.name:
            raise PalateError(f"{folder} holds no '{cls.name}' model", _REMEDY)
        config = cls.Config.parse(facts.get("config", {}), where=str(folder / "config.json"))
        parts = []
        for number, one in enumerate(config.parts):
            inside = folder / PARTS / str(number)
            if (folder / PARTS).is_symlink() or inside.is_symlink() or not inside.is_dir():
                raise PalateError(f"{folder} is damaged: it holds no folder {PARTS}/{number}", _REMEDY)
            kind = RANKERS[one.kind]
            check_part(kind)  # before it is loaded: a blend of blends would nest without an end
            parts.append(load(kind, inside))
        blend = cls(parts, config)
        if blend.num_items != facts.get("num_items"):
            raise PalateError(f"{folder} is damaged: its parts rank {blend.num_items} items", _REMEDY)
        return blend

    def describe(self) -> dict[str, Any]:
        described = [part.describe() for part in self.parts]
        found: dict[str, Any] = {
            **super().describe(),
            "parts": [
                {**facts, "weight": one.weight, "scale": one.scale}
                for facts, one in zip(described, self.config.parts, strict=True)
            ],
            "modalities": list(dict.fromkeys(name for facts in described for name in facts.get("modalities", ()))),
        }
        parameters = sum(facts["parameters"] for facts in described if isinstance(facts.get("parameters"), int))
        return {**found, "parameters": parameters} if parameters else found


def check_part(kind: type[Recommender]) -> None:
    """Refuse a ranker that cannot be a part of a blend.

    Raises:
        PalateError: a model that cannot afford the whole catalogue, or a blend.
    """
    if issubclass(kind, Blend):
        raise PalateError("a blend cannot be a part of another blend", "Blend its parts, with the others, anew.")
    if not kind.whole_catalogue:
        raise PalateError(
            f"'{kind.name}' cannot afford the whole catalogue, and a blend sums scores of all items",
            "Let it re-rank what a fast run proposes: --retriever.",
        )
