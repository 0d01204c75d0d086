"""Items as answers show them: title, path of the picture, and the fields of the catalogue, each of bounded length."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any
from urllib.parse import quote

from palate.bundle.items import BundleItems
from palate.serve import schema
from palate.serve.config import ServeConfig
from palate.serve.search import MOST_TITLE

# Longer titles, texts and lists are cut in answers: each is written anew for every request.
_MOST_TEXT, _MOST_LIST = 10_000, 1_000


class ShownItems:
    """The items of a bundle as people see them."""

    def __init__(self, items: BundleItems, config: ServeConfig) -> None:
        self.items = items
        self._outside_pictures, self._images = config.outside_pictures, f"{config.root_path}/v1/images/"

    def item(self, index: int, fields: bool = False) -> schema.Item:
        return schema.Item(**self.facts(index, fields))

    def facts(self, index: int, fields: bool = False) -> dict[str, Any]:
        """What :class:`palate.serve.schema.Item` is made of, for kinds of items that add to it."""
        return {
            "id": self.items.ids[index],
            "title": _cut(self.items.titles[index], MOST_TITLE),
            "image": self._images + quote(self.items.ids[index], safe="") if self.pictured[index] else None,
            "fields": self._fields(index) if fields else None,
        }

    def _fields(self, index: int) -> dict[str, Any]:
        known = self.items.facts(index)
        return {name: _plain(known[name]) for name in self.items.fields}

    @cached_property
    def pictured(self) -> list[bool]:
        """Which items have a picture that can be looked for; its content is checked when it is requested."""
        homes = self.items.catalogue.frame["image"].to_list()
        local = self._outside_pictures and self.items.catalogue.root.is_dir()
        pairs = zip(self.items.pictures[1:], homes, strict=True)
        return [False, *(name is not None or bool(home and local) for name, home in pairs)]


def _plain(value: Any) -> Any:
    """A field's value as JSON has it: no NaN, and of a length that an answer can have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return [_plain(one) for one in value[:_MOST_LIST]] if isinstance(value, list) else _cut(str(value), _MOST_TEXT)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
