"""A generated catalogue with people in it: what every task of pretraining is made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from PIL import Image

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """One item of a generated catalogue.

    Attributes:
        title: as a shop would write it, or None.
        fields: further text by name, such as ``brand`` or ``director``; None where the catalogue is silent.
        traits: the truth in words, by aspect, the words that a preference uses: ``{"kind": ("mug",), "colour":
            ("teal",)}``.
        picture: RGB, or None.
    """

    title: str | None
    fields: Mapping[str, str | None]
    traits: Mapping[str, tuple[str, ...]]
    picture: Image.Image | None = None


@dataclass(frozen=True)
class Person:
    """One person and what was taken.

    Attributes:
        history: int64 ``[steps]``, item numbers from 1, oldest first.
        utility: from a step to float64 ``[items + 1]``: what each item is worth to the person then, popularity left
            out; ``-inf`` for padding (0) and for what is not on sale.
    """

    history: Ints
    utility: Callable[[int], Floats]


@dataclass(frozen=True)
class World:
    """A catalogue, its people, and how preferences of it are worded.

    Attributes:
        name: unique: what it was drawn from, and its seed.
        items: number 0 is padding's and is not in it: ``items[n - 1]`` is item ``n``.
        people: in no order.
        wording: aspects in the order in which a preference names them, each with a format that has one ``{}``, such as
            ``{"kind": "{}", "colour": "in {}", "brand": "by {}"}``. The first aspect opens the sentence.
    """

    name: str
    items: Sequence[Item]
    people: Sequence[Person]
    wording: Mapping[str, str]

    def frame(
        self, fields: Sequence[str] | None = None, summaries: Sequence[str | None] | None = None, titles: bool = True
    ) -> pl.DataFrame:
        """Texts as :class:`palate.mllm.prompts.items.Items` takes them, pictures left out.

        Args:
            fields: those that make an item's text, in order; None: all.
            summaries: one per item.
            titles: whether items have their titles; else their numbers stand for them.
        """
        names = list(self.items[0].fields) if fields is None else fields
        texts = [". ".join(filter(None, (item.fields.get(name) for name in names))) for item in self.items]
        return pl.DataFrame(
            {
                "item_id": [f"{number:04d}" for number in range(1, len(self.items) + 1)],
                "title": [item.title if titles else None for item in self.items],
                "text": [text or None for text in texts],
                "summary": list(summaries) if summaries is not None else [None] * len(self.items),
                "image": [None] * len(self.items),
            },
            schema=dict.fromkeys(("item_id", "title", "text", "summary", "image"), pl.String),
        )

    def pictured(self, item: int) -> bool:
        """Whether an item has a picture."""
        return self.items[item - 1].picture is not None
