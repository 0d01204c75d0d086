"""Titles, texts, summaries and pictures of items for prompts, sanitised once and saved with a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import polars as pl

from palate.data.catalogue import Catalogue
from palate.data.images import inside, open_image
from palate.errors import PalateError
from palate.mllm.prompts.chat import Picture
from palate.mllm.prompts.sanitise import sanitise, sanitise_summary, sanitise_title
from palate.storage.files import atomic_file, digest, read_json, write_json
from palate.storage.remote import follow, recorded, under
from palate.storage.tables import read_parquet

# Thinner pictures are refused by some processors, and scaled to gigabytes by others.
_LONGEST_RATIO = 20
_COLUMNS = ("item_id", "title", "text", "summary", "image")


class Items:
    """Title, text, summary and picture of the items 1..num_items.

    Args:
        frame: one row per item, in index order: the strings ``item_id``, ``title``, ``text``, ``summary`` and ``image``
            (a path relative to ``root``), each of them null where there is none.
        root: folder of the pictures, or its URL.

    Attributes:
        refused: item id -> why its picture is not shown (missing, broken, outside of ``root`` ...), of the items whose
            pictures were requested so far.
    """

    def __init__(self, frame: pl.DataFrame, root: Path | str) -> None:
        missing = [name for name in _COLUMNS if name not in frame.columns]
        if missing:
            raise PalateError(f"the items' texts lack the column '{missing[0]}'", "Make the run again.")
        self._place = root
        self.ids = ["", *frame["item_id"].to_list()]
        self._images = [None, *frame["image"].to_list()]
        self.refused: dict[str, str] = {}
        self._pictures: dict[int, Picture | None] = {}
        self._raw = frame.select("title", "text", "summary")

    @classmethod
    def of(
        cls, catalogue: Catalogue, summaries: Mapping[str, str] | None = None, fields: Sequence[str] | None = None
    ) -> Items:
        """From a catalogue: its titles, its other text fields as one text, its pictures.

        Args:
            summaries: written summaries by item id; items may be missing.
            fields: the fields that make the text, in order; None: every field of text beside the title.

        Raises:
            PalateError: no such field.
        """
        frame = catalogue.frame
        fields = catalogue.text_fields if fields is None else [name for name in fields if name != "title"]
        return cls(
            pl.DataFrame(
                {
                    "item_id": frame["item_id"],
                    "title": frame["title"],
                    "text": catalogue.texts(fields) if fields else [None] * len(catalogue),
                    "summary": [(summaries or {}).get(item) for item in frame["item_id"]],
                    "image": frame["image"],
                },
                schema=dict.fromkeys(_COLUMNS, pl.String),
            ),
            catalogue.pictures,
        )

    # Sanitised when they are first shown: options are checked without them.
    @cached_property
    def _titles(self) -> list[str]:
        return ["", *(_named(title, item) for title, item in zip(self._raw["title"], self.ids[1:], strict=True))]

    @cached_property
    def _texts(self) -> list[str]:
        return ["", *(sanitise(text or "") for text in self._raw["text"])]

    @cached_property
    def _summaries(self) -> list[str]:
        return ["", *(sanitise_summary(text or "") for text in self._raw["summary"])]

    @cached_property
    def root(self) -> Path:
        """The folder of the pictures; from a URL they are fetched when they are first needed."""
        return follow(self._place)

    def __len__(self) -> int:
        """Number of items, padding not counted."""
        return len(self.ids) - 1

    def title(self, item: int) -> str:
        """Never empty: the id where there is no title."""
        return self._titles[self._checked(item)]

    def text(self, item: int) -> str:
        """All text fields beyond the title; empty where there is none."""
        return self._texts[self._checked(item)]

    def summary(self, item: int) -> str:
        """The item's written summary; empty where there is none."""
        return self._summaries[self._checked(item)]

    def picture(self, item: int) -> Picture | None:
        """The item's own picture; None where there is none, or none that can be shown (see :attr:`refused`)."""
        item = self._checked(item)
        if item not in self._pictures:
            self._pictures[item] = self._seen(item)
        return self._pictures[item]

    def with_pictures(self, instead: Mapping[int, int | None]) -> Items:
        """The same items, some of them shown by another item's picture, or by none.

        Args:
            instead: item -> the item whose picture it gets; None: it has none. Others keep their own.

        Raises:
            PalateError: there is no such item.
        """
        made = copy.copy(self)
        made.__dict__.pop("fingerprint", None)
        whose: dict[int, int | None] = {item: item for item in range(1, len(self) + 1)}
        for item, other in instead.items():
            whose[self._checked(item)] = None if other is None else self._checked(other)
        made._images = [None, *(None if other is None else self._images[other] for other in whose.values())]
        made.refused = {}
        # What was decoded once need not be again; what was refused is refused again, under the item's own name.
        made._pictures = {
            item: picture
            for item, other in whose.items()
            if other is not None and (picture := self._pictures.get(other)) is not None
        }
        return made

    def _seen(self, item: int) -> Picture | None:
        """The picture, decoded once to know that a model can be shown it."""
        name = self._images[item]
        if not name:
            return None
        try:
            path = inside(self.root, name)
            size = open_image(path).size
            if max(size) > _LONGEST_RATIO * min(size):
                raise PalateError(f"{path} is too long and thin ({size[0]} x {size[1]} pixels)")
        except PalateError as error:
            self.refused[self.ids[item]] = error.message
            return None
        return Picture(path)

    @property
    def pictured(self) -> int:
        """How many items name a picture, whether it can be shown or not."""
        return sum(bool(name) for name in self._images)

    def _checked(self, item: int) -> int:
        if not 1 <= item <= len(self):
            raise PalateError(f"there is no item with index {item}", f"Indices go from 1 to {len(self)}.")
        return int(item)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all text and all image paths."""
        images = (image or "" for image in self._images)
        return digest(*self.ids, *self._titles, *self._texts, *self._summaries, *images)

    def save(self, folder: Path) -> None:
        """Write ``items.parquet`` and ``items.json`` (the folder of the pictures) into ``folder``."""
        frame = pl.DataFrame(
            [self.ids[1:], self._titles[1:], self._texts[1:], self._summaries[1:], self._images[1:]],
            schema=dict.fromkeys(_COLUMNS, pl.String),
        )
        with atomic_file(Path(folder) / "items.parquet") as part:
            frame.write_parquet(part)
        write_json(Path(folder) / "items.json", {"images": recorded(self._place)})

    @classmethod
    def load(cls, folder: Path, root: Path | str | None = None) -> Items:
        """Read what :meth:`save` wrote.

        Args:
            root: where the pictures are now, if they have moved.

        Raises:
            PalateError: a file is missing, cut off, or something else.
        """
        path = Path(folder) / "items.parquet"
        try:
            frame = read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise PalateError(f"{path} is damaged ({error})", "Make the run again.") from None
        if root is None:
            facts = read_json(Path(folder) / "items.json")
            if not isinstance(facts, dict) or not isinstance(facts.get("images"), str):
                raise PalateError(
                    f"{Path(folder) / 'items.json'} does not say where the pictures are", "Make the run again."
                )
            root = under(Path(folder), facts["images"])  # an absolute path stays what it is
        return cls(frame, root)


def _named(title: str | None, item: str) -> str:
    return sanitise_title(title or "") or sanitise_title(item) or "untitled"
