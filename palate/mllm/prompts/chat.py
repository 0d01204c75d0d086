"""One question to a language model, of text and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from palate.data.images import open_image
from palate.storage.files import digest, file_digest

# The picture in place of a missing one under the policy "blank": the same plain grey for every item.
_BLANK = (224, (127, 127, 127))


@dataclass(frozen=True)
class Picture:
    """A picture in a chat.

    Attributes:
        path: the file, of unknown origin; None is a plain grey square.
    """

    path: Path | None

    def open(self, longest: int | None = None) -> Image.Image:
        """Decode it as RGB, shrunk so that no side is longer than ``longest`` pixels.

        Raises:
            PalateError: the file is missing or is not a picture that can be trusted.
        """
        if self.path is None:
            side, grey = _BLANK
            return Image.new("RGB", (side, side), grey)
        image = open_image(self.path)
        if longest is not None and max(image.size) > longest:
            image.thumbnail((longest, longest), Image.Resampling.BICUBIC)
        return image

    @property
    def fingerprint(self) -> str:
        """Hash of the file's bytes."""
        return "blank" if self.path is None else file_digest(self.path)


@dataclass(frozen=True)
class Chat:
    """A user's message to the model, whose next message is the answer.

    Text in ``parts`` has been sanitised before (:mod:`palate.mllm.prompts.sanitise`): here, what a template writes and
    what a catalogue wrote look alike.

    Attributes:
        parts: strings and pictures, in the order in which the model meets them.
        system: the system message, or None for the model's own default.

    >>> chat = Chat(("Look: ", Picture(None), "What is it?"))
    >>> chat.text, len(chat.pictures)
    ('Look: What is it?', 1)
    """

    parts: tuple[str | Picture, ...]
    system: str | None = None

    @property
    def pictures(self) -> list[Picture]:
        return [part for part in self.parts if isinstance(part, Picture)]

    @property
    def text(self) -> str:
        """All text, without the pictures."""
        return "".join(part for part in self.parts if isinstance(part, str))

    @property
    def fingerprint(self) -> str:
        """Hash of everything the model is shown: text, order, the bytes of the pictures."""
        return digest(
            self.system or "",
            *(f"t{part}" if isinstance(part, str) else f"p{part.fingerprint}" for part in self.parts),
        )
