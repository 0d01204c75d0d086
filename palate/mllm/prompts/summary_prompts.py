"""Chats that ask a model to describe an item, or a user's preference."""

from __future__ import annotations

from collections.abc import Sequence

from palate.errors import PalateError
from palate.mllm.prompts.chat import Chat
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.sanitise import quoted, sanitise_summary
from palate.mllm.prompts.templates import Part, Templates


class SummaryPrompts:
    """Makes chats whose answers are summaries.

    Args:
        items: texts and pictures of items.
        templates: the wording.
        pictures: whether the model is shown pictures; else items are described from their text.
    """

    def __init__(self, items: Items, templates: Templates, pictures: bool = True) -> None:
        self.items, self.templates, self.pictures = items, templates, pictures

    def item(self, item: int) -> Chat:
        """Ask what the picture of an item shows, or, where there is none to show, what the item is."""
        picture = self.items.picture(item) if self.pictures else None
        parts: list[Part] = [f"Title: {quoted(self.items.title(item))}"]
        if self.items.text(item):
            parts.append(f"\nText: {quoted(self.items.text(item))}")
        if picture is None:
            return self.templates.chat("item-text", item=parts)
        return self.templates.chat("item", item=[*parts, "\nPicture: ", picture])

    def first(self, block: Sequence[int]) -> Chat:
        """Ask for the preference behind a user's first items, given oldest first."""
        return self.templates.chat("user-first", items=self._listed(block))

    def next(self, block: Sequence[int], preference: str) -> Chat:
        """Ask for the preference after the next items, from the one before them."""
        text = sanitise_summary(preference)
        if not text:
            raise PalateError("the preference so far is empty", "Ask for it again.")
        return self.templates.chat("user-next", preference=quoted(text), items=self._listed(block))

    def direct(self, history: Sequence[int]) -> Chat:
        """Ask for the preference behind a whole history, given oldest first."""
        return self.templates.chat("user-direct", items=self._listed(history))

    def _listed(self, block: Sequence[int]) -> str:
        """One item per line: its title, and its written summary or else the catalogue's text."""
        if not block:
            raise PalateError("there is no item to read a preference from", "Leave users without a history out.")
        lines = []
        for item in block:
            more = self.items.summary(item) or self.items.text(item)
            lines.append(f"- {quoted(self.items.title(item))}" + (f": {quoted(more)}" if more else ""))
        return "\n".join(lines)
