"""Prompt templates: plain text files with ``{{holes}}``; users may replace each by one of their own.

Lines that start with ``#`` at the top of a file are comments. A paragraph (paragraphs are set apart by blank lines)
whose holes are all empty is left out, with its words. Holes are filled in one pass: what fills a hole is never
searched for holes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palate.errors import PalateError, suggest
from palate.mllm.prompts.chat import Chat, Picture
from palate.storage.files import digest, write_text
from palate.storage.small_files import check_regular

BUILT_IN = Path(__file__).parent
# The holes of each template, each exactly once. The last one must stand last: what is the same for all candidates of a
# user comes before them, so that it is read once (:mod:`palate.mllm.scoring.scorer`).
HOLES: dict[str, tuple[str, ...]] = {
    "item": ("item",),
    "item-text": ("item",),
    "user-first": ("items",),
    "user-next": ("preference", "items"),
    "user-direct": ("items",),
    "yes-no": ("preference", "history", "candidate"),
    "yes-no-blind": ("candidate",),
    "choose": ("preference", "history", "candidates"),
    "choose-blind": ("candidates",),
}
# Changes when the code that fills holes words them differently: stored answers are then out of date.
FORMAT = 1
_HOLE = re.compile(r"\{\{\s*([A-Za-z0-9_-]+)\s*\}\}")

Part = str | Picture
Value = str | Sequence[Part]


@dataclass(frozen=True)
class Template:
    """One template.

    Attributes:
        path: its file, for messages.
        text: all of the file.
        body: the text without the comments at the top, which is what is sent.
    """

    path: Path
    text: str
    body: str

    @classmethod
    def read(cls, name: str, path: Path) -> Template:
        """Read and check a file.

        Raises:
            PalateError: not readable, empty, or the holes are not those of the template called ``name``.
        """
        check_regular(path, "Write it as plain UTF-8 text.")
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise PalateError(f"the prompt {path} cannot be read ({error})", "Write it as plain UTF-8 text.") from None
        lines = text.splitlines()
        while lines and (lines[0].startswith("#") or not lines[0].strip()):
            lines.pop(0)
        body = "\n".join(line.rstrip() for line in lines).strip()
        _check_holes(path, body, HOLES[name])
        return cls(path, text, body)


class Templates:
    """The templates in use; :meth:`load` makes it."""

    def __init__(self, templates: Mapping[str, Template]) -> None:
        self._templates = dict(templates)

    @classmethod
    def load(cls, folder: Path | None = None) -> Templates:
        """The built-in templates, with those in ``folder`` (``NAME.txt``) in place of their namesakes.

        Raises:
            PalateError: no such folder; a file that is no template or has wrong holes, named with the hole.
        """
        paths = {name: BUILT_IN / f"{name}.txt" for name in HOLES}
        if folder is not None:
            folder = Path(folder)
            if not folder.is_dir():
                raise PalateError(f"the folder of prompts {folder} does not exist", "Check the path.")
            for path in sorted(folder.glob("*.txt")):
                if path.stem not in HOLES:
                    raise PalateError(f"{path} is no prompt of Palate's", suggest(path.stem, HOLES))
                paths[path.stem] = path
        return cls({name: Template.read(name, path) for name, path in paths.items()})

    def __getitem__(self, name: str) -> Template:
        try:
            return self._templates[name]
        except KeyError:
            raise PalateError(f"there is no prompt '{name}'", suggest(name, self._templates)) from None

    def fingerprint(self, name: str) -> str:
        """Hash of what the template sends; comments do not count."""
        return digest(f"format {FORMAT}", self[name].body)

    def parts(self, name: str, **values: Value) -> tuple[Part, ...]:
        """The template with its holes filled by text, or by text and pictures; neighbouring texts are joined.

        Raises:
            PalateError: a hole without a value, or a value without a hole.
        """
        template, holes = self[name], HOLES[name]
        for hole in holes:
            if hole not in values:
                raise PalateError(f"the prompt {template.path} has no value for its hole '{{{{{hole}}}}}'", "Give one.")
        for hole in values:
            if hole not in holes:
                raise PalateError(f"the prompt {template.path} has no hole '{{{{{hole}}}}}'", suggest(hole, holes))
        paragraphs = [_filled(paragraph, values) for paragraph in re.split(r"\n{2,}", template.body)]
        out: list[Part] = []
        for number, paragraph in enumerate(one for one in paragraphs if one is not None):
            out += paragraph if number == 0 else ["\n\n", *paragraph]
        return joined(out)

    def chat(self, name: str, **values: Value) -> Chat:
        """:meth:`parts` as a chat."""
        return Chat(self.parts(name, **values))

    def render(self, name: str, **values: str) -> str:
        """:meth:`parts` where all values are text."""
        return "".join(str(part) for part in self.parts(name, **values))

    def save(self, folder: Path) -> None:
        """Write all of them, as they are, into ``folder``; :meth:`load` reads them back."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, template in self._templates.items():
            write_text(Path(folder) / f"{name}.txt", template.text)


def joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The same parts with neighbouring texts as one and empty ones gone.

    >>> joined(["a", "", "b"])
    ('ab',)
    """
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)


def _filled(paragraph: str, values: Mapping[str, Value]) -> list[Part] | None:
    """A paragraph's parts; None if it has holes and all of them are empty."""
    pieces = _HOLE.split(paragraph)  # text, hole, text, hole, ... text
    holes = pieces[1::2]
    if holes and not any(values[hole] for hole in holes):
        return None
    out: list[Part] = []
    for number, piece in enumerate(pieces):
        value: Value = values[piece] if number % 2 else piece
        out += [value] if isinstance(value, str) else value
    return out


def _check_holes(path: Path, body: str, required: tuple[str, ...]) -> None:
    found = _HOLE.findall(body)
    list_of = ", ".join(f"{{{{{hole}}}}}" for hole in required)
    for hole in found:
        if hole not in required:
            raise PalateError(f"the prompt {path} has an unknown hole '{{{{{hole}}}}}'", f"It may have: {list_of}.")
        if found.count(hole) > 1:
            raise PalateError(f"the prompt {path} has the hole '{{{{{hole}}}}}' twice", "Keep one of them.")
    for hole in required:
        if hole not in found:
            raise PalateError(f"the prompt {path} lacks the hole '{{{{{hole}}}}}'", f"It needs: {list_of}.")
    if "{{" in _HOLE.sub("", body):
        raise PalateError(f"the prompt {path} has braces that are no hole", f"A hole is one of: {list_of}.")
    if found[-1] != required[-1]:
        raise PalateError(
            f"the prompt {path} has '{{{{{required[-1]}}}}}' before '{{{{{found[-1]}}}}}'", "Put it behind all others."
        )
