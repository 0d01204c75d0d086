"""The file of business rules: TOML, and the lists of items that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints, ValidationError

from palate.config import Config
from palate.errors import PalateError
from palate.serve.business.item_list import read_item_list
from palate.storage.files import digest
from palate.storage.small_files import parse_toml, read_small

_MOST_BYTES = 16 * 1024 * 1024
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'")
Word = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class _Rules(Config):
    """A table of the file; its lists hold ids and conditions, in which a comma is a character."""

    comma_lists: ClassVar[bool] = False


class Boost(_Rules):
    """Items that come earlier, or later: the rank of each is divided by ``factor``."""

    name: Word | None = None
    items: tuple[Word, ...] = ()
    only: tuple[Word, ...] = ()
    without: tuple[Word, ...] = ()
    factor: float = Field(ge=0.1, le=10)


class Pin(_Rules):
    """One item at one position, for everybody or after some histories."""

    name: Word | None = None
    item: Word
    position: int = Field(ge=1, le=1000)
    history: tuple[Word, ...] = Field((), description="Conditions; one item of the history must meet all of them.")


class Cap(_Rules):
    """At most ``most`` items with the same value of a field among the first ``first``."""

    name: Word | None = None
    field: Word
    most: int = Field(ge=1)
    first: int = Field(10, ge=1, le=1000)


class RulesFile(_Rules):
    """What a file of rules may hold."""

    in_stock: Word | None = None
    deny_file: Word | None = None
    allow: tuple[Word, ...] | None = None
    deny: tuple[Word, ...] = ()
    only: tuple[Word, ...] = ()
    without: tuple[Word, ...] = ()
    boost: tuple[Boost, ...] = Field((), max_length=100)
    pin: tuple[Pin, ...] = Field((), max_length=100)
    cap: tuple[Cap, ...] = Field((), max_length=20)


@dataclass(frozen=True)
class RuleSet:
    """Rules as they were read.

    Attributes:
        path: of the file.
        text: its content, in which messages look for lines.
        in_stock: the ids of the list, or None: there is none.
        deny: the ids of the file and of its list.
        version: changes when anything in the file or its lists does.
    """

    path: Path
    text: str
    rules: RulesFile
    in_stock: list[str] | None
    deny: list[str]
    version: str

    def where(self, word: str) -> str:
        """File and line at which a word stands.

        >>> RuleSet(Path("r.toml"), "\\nonly = ['brand=Nivea']", RulesFile(), None, [], "").where("brand=Nivea")
        'r.toml, line 2'
        """
        return _at(self.path, self._lines.get(word))

    def where_for_clients(self, word: str) -> str:
        """The same without the folder, which is for the owner alone.

        >>> rules = RuleSet(Path("/srv/r.toml"), "only = ['brand=Nivea']", RulesFile(), None, [], "")
        >>> rules.where_for_clients("brand=Nivea"), rules.where_for_clients("of a list")
        ('r.toml, line 1', 'r.toml')
        """
        return _at(Path(self.path.name), self._lines.get(word))

    @cached_property
    def _lines(self) -> dict[str, int]:
        """What stands in quotes -> its first line: a list may name many thousands that are looked for here."""
        found: dict[str, int] = {}
        for number, line in enumerate(self.text.splitlines(), 1):
            for quoted in _QUOTED.finditer(line):
                found.setdefault(quoted[1] if quoted[2] is None else quoted[2], number)
        return found


def read_rules_file(path: Path) -> tuple[str, RulesFile]:
    """Read a file of rules without its lists: its text, and what it says.

    Raises:
        PalateError: it is missing or broken; the message names file and line.
    """
    text = read_small(path, "Check --rules.", _MOST_BYTES)
    tables = parse_toml(text, str(path), "Correct the file.")
    try:
        rules = RulesFile.model_validate(tables)
    except ValidationError as error:
        first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
        rules = RulesFile.parse(tables, _at(path, line_of(text, first["loc"])))
    for boost in rules.boost:
        if not (boost.items or boost.only or boost.without):
            number = rules.boost.index(boost)
            where = _at(path, line_of(text, ("boost", number)))
            raise PalateError(f"{where}: this boost names no items", "Give it items, only or without.")
    return text, rules


def read_lists(path: Path, text: str, rules: RulesFile) -> RuleSet:
    """Read the lists that a file of rules names.

    Raises:
        PalateError: one is missing or broken; the message names file and line.
    """
    listed, denied = _lists(path, rules)
    version = digest(text, *(listed or []), "", *denied)[:12]
    return RuleSet(path, text, rules, listed, [*rules.deny, *denied], version)


def lists_of(path: Path, rules: RulesFile) -> list[Path]:
    """The lists that a file of rules names."""
    return [path.parent / name for name in (rules.in_stock, rules.deny_file) if name is not None]


def line_of(text: str, where: tuple[Any, ...]) -> int | None:
    """The line of a TOML text at which an option stands, or the table that lacks it.

    >>> line_of("deny = []\\n[[boost]]\\nfactor = 2\\n[[boost]]\\nfactor = 99", ("boost", 1, "factor"))
    5
    >>> line_of("[[pin]]\\nitem = 'a'", ("pin", 0, "position"))
    1
    """
    lines = text.splitlines()
    name, *rest = where
    start, end = 0, len(lines)
    if rest and isinstance(rest[0], int):
        head = re.compile(rf"\s*\[\[\s*{re.escape(str(name))}\s*\]\]")
        heads = [number for number, line in enumerate(lines) if head.match(line)]
        if rest[0] < len(heads):
            start = heads[rest[0]]
            tables = (n for n in range(start + 1, end) if re.match(r"\s*\[\[?\s*[A-Za-z_]+\s*\]", lines[n]))
            end = next(tables, end)
            if len(rest) == 1:
                return start + 1
            name = rest[1]
    key = re.compile(rf"\s*[\"']?{re.escape(str(name))}[\"']?\s*=|\s*\[+\s*{re.escape(str(name))}\s*\]")
    found = next((number for number in range(start, end) if key.match(lines[number])), None)
    if found is None:
        return start + 1 if name is not where[0] else None
    return found + 1


def _lists(path: Path, rules: RulesFile) -> tuple[list[str] | None, list[str]]:
    stock, denied = (
        None if name is None else read_item_list(path.parent / name) for name in (rules.in_stock, rules.deny_file)
    )
    return stock, denied or []


def _at(path: Path, line: int | None) -> str:
    return str(path) if line is None else f"{path}, line {line}"
