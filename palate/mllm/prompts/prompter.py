"""Chats that a model is trained and scored on, from a user's history and candidates."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Literal

from pydantic import Field, model_validator

from palate.config import Config
from palate.errors import PalateError
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.sanitise import quoted, sanitise_summary
from palate.mllm.prompts.templates import Part, Templates

YES, NO = "Yes", "No"
LETTERS = ascii_uppercase
NO_PICTURE = "no picture"
UNNAMED = "an item"  # in place of a title that is not shown
_LISTED = 10


class PromptOptions(Config):
    """What a prompt shows."""

    task: Literal["yes-no", "choose"] = Field(
        "yes-no", description="Ask about one candidate, or show lettered ones to choose from."
    )
    summary: Literal["none", "direct", "recurrent"] = Field(
        "none", description="Show the history itself, or a preference written from it."
    )
    history_items: int | None = Field(
        None,
        ge=0,
        description="List the last N items by title (default: 10, or 0 with a summary, and no fewer than "
        "prompt.history_images where pictures of the history are shown).",
    )
    blind: bool = Field(
        False, description="Show nothing of the user: the control that any use of the history must beat."
    )
    images: Literal["none", "candidate", "history", "both"] = Field("none", description="Whose pictures are shown.")
    history_images: int = Field(3, ge=1, description="The last N listed items come with their picture.")
    missing_image: Literal["omit", "blank"] = Field(
        "omit",
        description="An item without a picture, or with one that cannot be opened: say that it has none, or show a "
        "grey square. It is never another item's picture.",
    )
    item_text: Literal["none", "title", "full"] = Field(
        "title", description="Of a candidate, its title, all its text, or none: its picture or summary alone."
    )
    history_text: Literal["none", "title", "full"] = Field(
        "title", description="Of the listed items of the history, the title, all text, or none: pictures or summaries."
    )
    item_summaries: bool = Field(False, description="Add the candidate's written summary.")
    history_summaries: bool = Field(False, description="Add the written summary of each listed item.")
    fields: tuple[str, ...] | None = Field(
        None, description="With full texts: these fields (default: all).", examples=["genres,director"]
    )

    @model_validator(mode="after")
    def _room_for_pictures(self) -> PromptOptions:
        if self.history_items == 0 and self.images in ("history", "both") and not self.blind:
            raise ValueError("history_items is 0, which leaves no place for pictures of the history")
        return self

    @model_validator(mode="after")
    def _history_shown(self) -> PromptOptions:
        pictures = self.images in ("history", "both")
        if self.history_text == "none" and self.listed and not pictures and not self.history_summaries:
            raise ValueError("history_text is none, and neither pictures nor summaries of the history are shown")
        return self

    @property
    def shows_candidates(self) -> bool:
        """Whether anything of a candidate is shown. No rule of its own: a store of summaries is named elsewhere."""
        return self.item_text != "none" or self.images in ("candidate", "both") or self.item_summaries

    @property
    def pictured(self) -> int:
        """How many of the listed items come with their picture: all, if nothing else of them is shown."""
        if self.images not in ("history", "both"):
            return 0
        alone = self.history_text == "none" and not self.history_summaries
        return self.listed if alone else self.history_images

    @property
    def listed(self) -> int:
        """How many items of the history are listed."""
        if self.blind:
            return 0
        if self.history_items is not None:
            return self.history_items
        default = _LISTED if self.summary == "none" else 0
        return max(default, self.history_images) if self.images in ("history", "both") else default


class Prompter:
    """Makes chats. Those of one user are the same up to the first word of the candidate.

    Args:
        items: texts and pictures of items.
        options: which of them are shown.
        templates: the wording.
        candidates: texts and pictures of candidates, where they differ from those of the history's items.

    Raises:
        PalateError: pictures are to be shown, and the folder of the items' pictures is gone.
    """

    def __init__(
        self, items: Items, options: PromptOptions, templates: Templates, candidates: Items | None = None
    ) -> None:
        if options.images != "none" and items.pictured and not items.root.is_dir():
            raise PalateError(f"the folder of the pictures {items.root} is gone", "Bring it back to where it was.")
        self.items, self.options, self.templates = items, options, templates
        self.candidates = items if candidates is None else candidates

    def yes_no(self, history: Sequence[int], candidate: int, preference: str | None = None) -> Chat:
        """The question whether a user likes ``candidate``, to be answered :data:`YES` or :data:`NO`.

        Args:
            history: item indices, oldest first, of items before the candidate only.
            preference: the summary of that history, where the options show one.

        Raises:
            PalateError: an unknown item, a history without the summary that the options show, or one they do not show.
        """
        shown = self._candidate(candidate)
        if self.options.blind:
            return self.templates.chat("yes-no-blind", candidate=shown)
        return self.templates.chat("yes-no", candidate=shown, **self._user(history, preference))

    def choose(self, history: Sequence[int], candidates: Sequence[int], preference: str | None = None) -> Chat:
        """The question which of ``candidates`` a user likes best, to be answered by a letter of :data:`LETTERS`.

        Raises:
            PalateError: as in :meth:`yes_no`; no candidate, or more than there are letters.
        """
        if not 1 <= len(candidates) <= len(LETTERS):
            raise PalateError(f"{len(candidates)} candidates cannot be lettered", f"Give 1 to {len(LETTERS)}.")
        shown: list[Part] = []
        for letter, candidate in zip(LETTERS, candidates, strict=False):
            shown += ["\n" if shown else "", f"{letter}. ", *self._candidate(candidate)]
        if self.options.blind:
            return self.templates.chat("choose-blind", candidates=shown)
        return self.templates.chat("choose", candidates=shown, **self._user(history, preference))

    def _user(self, history: Sequence[int], preference: str | None) -> dict[str, str | list[Part]]:
        """The holes that depend on the user."""
        shows_summary = self.options.summary != "none"
        if shows_summary and history and not preference:
            raise PalateError(
                f"the prompt wants a {self.options.summary} summary of the history, and there is none",
                "Write it with: palate summarise users.",
            )
        if preference and not shows_summary:
            raise PalateError("a summary of the history is given, and the prompt shows none", "Set summary.")
        text = sanitise_summary(preference or "")
        return {"preference": quoted(text) if text else "", "history": self._history(history)}

    def _history(self, history: Sequence[int]) -> list[Part]:
        """The last items, oldest first, one per line, the last few with their pictures."""
        listed = list(history)[max(0, len(history) - self.options.listed) :]
        pictured = self.options.pictured
        parts: list[Part] = []
        for number, item in enumerate(listed):
            parts += ["\n" if parts else "", f"- {self._name(self.items, item, self.options.history_text)}"]
            texts = [
                self.items.text(item) if self.options.history_text == "full" else "",
                self.items.summary(item) if self.options.history_summaries else "",
            ]
            if any(texts):
                parts.append(f": {'; '.join(quoted(text) for text in texts if text)}")
            if number >= len(listed) - pictured:
                picture = self._picture(self.items, item)
                parts += [" ", picture] if isinstance(picture, Picture) else [f" ({picture})"]
        return parts

    def _candidate(self, item: int) -> list[Part]:
        options, items = self.options, self.candidates
        parts: list[Part] = [self._name(items, item, options.item_text)]
        if options.item_text == "full" and items.text(item):
            parts.append(f"\nText: {quoted(items.text(item))}")
        if options.item_summaries and items.summary(item):
            parts.append(f"\nDescription: {quoted(items.summary(item))}")
        if options.images in ("candidate", "both"):
            parts += ["\nPicture: ", self._picture(items, item)]
        return parts

    @staticmethod
    def _name(items: Items, item: int, text: str) -> str:
        return UNNAMED if text == "none" else quoted(items.title(item))

    def _picture(self, items: Items, item: int) -> Part:
        picture = items.picture(item)
        if picture is None:
            return Picture(None) if self.options.missing_image == "blank" else NO_PICTURE
        return picture
