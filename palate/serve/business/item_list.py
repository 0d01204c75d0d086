"""Long lists of items in a file of their own: one id per line, or a column of a CSV."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

from palate.errors import PalateError, suggest
from palate.storage.small_files import read_small

COLUMN = "item_id"
_LONGEST = 512


def read_item_list(path: Path) -> list[str]:
    """Item ids, in the order of the file.

    ``.csv`` and ``.tsv`` have a header with ``item_id``, and perhaps other columns; any other file has one id per line.
    Empty lines are left out.

    Raises:
        PalateError: the file is missing or is no such list; the message names its line.
    """
    lines = read_small(path, "Check the path: it is relative to the file of rules.").splitlines()
    if path.suffix.lower() in (".csv", ".tsv"):
        return _column(path, lines)
    ids = []
    for number, line in enumerate(lines, 1):
        if one := line.strip():
            ids.append(_checked(one, path, number))
    return ids


def _column(path: Path, lines: list[str]) -> list[str]:
    rows = csv.reader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        header = [name.strip() for name in next(rows, [])]
        if COLUMN not in header:
            raise PalateError(f"{path}, line 1: there is no column '{COLUMN}'", suggest(COLUMN, header))
        place = header.index(COLUMN)
        ids = []
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise PalateError(
                    f"{path}, line {rows.line_num}: {len(row)} columns, the header has {len(header)}",
                    "Correct the file.",
                )
            if one := row[place].strip():
                ids.append(_checked(one, path, rows.line_num))
    except csv.Error as error:
        raise PalateError(f"{path}, line {rows.line_num} is not valid CSV ({error})", "Correct the file.") from None
    return ids


def _checked(item: str, path: Path, number: int) -> str:
    control = next((letter for letter in item if unicodedata.category(letter) == "Cc"), None)
    if len(item) > _LONGEST or control is not None:
        why = f"it is longer than {_LONGEST} characters" if control is None else f"it holds {control!r}"
        raise PalateError(f"{path}, line {number} is no item id ({why})", "Write one id per line.")
    return item
