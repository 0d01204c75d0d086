"""A world as a model meets it: texts in prompts, and the features of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import polars as pl
from torch import Tensor

from palate.mllm.prompts.chat import Picture
from palate.mllm.prompts.items import Items
from palate.pretraining import preferences
from palate.pretraining.captions import caption
from palate.pretraining.rows import item_picture
from palate.pretraining.world import Item, World


class WorldItems(Items):
    """Items of a world in prompts, whose pictures are numbers.

    Args:
        frame: :meth:`World.frame`.
        shown: the items with a picture.
    """

    def __init__(self, frame: pl.DataFrame, shown: frozenset[int]) -> None:
        super().__init__(frame, Path())
        self.shown = shown
        self._legible: dict[int, Item] = {}
        self._words: dict[tuple[int, bool, bool], dict[str, set[str]]] = {}

    def words(self, world: World, item: int, full: bool, described: bool) -> dict[str, set[str]]:
        """Values of traits that an item's texts name, by aspect: its title, with all text, with its summary."""
        key = (item, full, described)
        if key not in self._words:
            parts = [self.title(item), self.text(item) if full else "", self.summary(item) if described else ""]
            self._words[key] = preferences.named(world, ". ".join(parts))
        return self._words[key]

    def legible(self, world: World, item: int) -> Item:
        """An item with those of its traits that its texts in prompts of summaries name."""
        if item not in self._legible:
            words = self.words(world, item, not self.summary(item), True)
            whole = world.items[item - 1]
            traits = {
                aspect: tuple(value for value in values if value in words.get(aspect, ()))
                for aspect, values in whole.traits.items()
            }
            self._legible[item] = replace(whole, traits=traits)
        return self._legible[item]

    def legible_world(self, world: World, items: Sequence[int]) -> World:
        """The world with what prompts of summaries say of these items: what a preference of them can name."""
        known = list(world.items)
        for item in items:
            known[item - 1] = self.legible(world, item)
        return replace(world, items=known)

    def picture(self, item: int) -> Picture | None:
        return item_picture(item) if item in self.shown else None


@dataclass(frozen=True)
class SeenWorld:
    """A world and the features of its pictures.

    Attributes:
        features: float16 ``[items + 1, places, width]``, zeros without a picture; None where nothing has one.
    """

    world: World
    features: Tensor | None
    _shown: dict[tuple[object, ...], WorldItems] = field(default_factory=dict, compare=False)

    def shown(self, fields: Sequence[str] | None, captions: bool = False, titles: bool = True) -> WorldItems:
        """The items as prompts show them.

        Args:
            fields: those that make the text; None: all.
            captions: whether items with a picture have been summarised.
            titles: whether they have titles; else numbers.
        """
        key = (None if fields is None else tuple(fields), captions, titles)
        if key not in self._shown:
            texts = [text if number in self.pictured else None for number, text in enumerate(self.captions, 1)]
            frame = self.world.frame(fields, texts if captions else None, titles)
            self._shown[key] = WorldItems(frame, self.pictured)
        return self._shown[key]

    @cached_property
    def pictured(self) -> frozenset[int]:
        """Items with a picture."""
        if self.features is None:
            return frozenset()
        return frozenset(self.features.flatten(1).any(1).nonzero()[:, 0].tolist())

    @cached_property
    def captions(self) -> list[str]:
        """What the picture of each item shows; ``captions[n - 1]`` is that of item ``n``."""
        return [caption(item.traits) for item in self.world.items]

    @cached_property
    def blocks(self) -> list[list[int]]:
        """Items by the first trait of their first aspect: those of a kind are hard to tell apart by their kind."""
        aspect = next(iter(self.world.wording))
        groups: dict[str, list[int]] = {}
        for number, item in enumerate(self.world.items, 1):
            groups.setdefault(next(iter(item.traits.get(aspect, ())), ""), []).append(number)
        mates: list[list[int]] = [[] for _ in range(len(self.world.items) + 1)]
        for group in groups.values():
            for number in group:
                mates[number] = group
        return mates
