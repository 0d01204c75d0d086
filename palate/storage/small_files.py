"""Small structured files, whoever wrote them: read if they are regular files of a bounded size, parsed or refused.

A FIFO or a device would be read for ever, a list in a list in a list ends Python's stack, and a number of a million
digits takes minutes: all of them are "not valid", in one sentence.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any

from palate.errors import PalateError

MOST_BYTES = 256 * 1024 * 1024  # the manifest of a bundle names a million pictures in less
MOST_DEEP = 100


def check_regular(path: Path | str, remedy: str = "Check the path.") -> int:
    """The size of a regular file in bytes.

    Raises:
        PalateError: nothing is there, or something else: a folder, a device, a pipe.
    """
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        raise PalateError(f"{path} does not exist", remedy) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file has, with a zero byte
        raise PalateError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})", remedy) from None
    if not S_ISREG(found.st_mode):
        raise PalateError(f"{path} is not a file (but a folder, a device or a pipe)", remedy)
    return found.st_size


def read_small(path: Path | str, remedy: str = "Check the path.", most: int = MOST_BYTES) -> str:
    """The UTF-8 text of a regular file; a mark of byte order at its beginning is left out.

    Raises:
        PalateError: no such file, one of more than ``most`` bytes, or no text.
    """
    size = check_regular(path, remedy)
    if size > most:
        raise PalateError(f"{path} is not valid: it has {size:,} bytes, and at most {most:,} are read", remedy)
    try:
        with Path(path).open("rb") as file:
            return file.read(most + 1).decode("utf-8-sig")
    except OSError as error:
        raise PalateError(f"{path} cannot be read ({error.strerror})", remedy) from None
    except UnicodeDecodeError as error:
        raise PalateError(f"{path} is not valid: it is no UTF-8 text ({error})", remedy) from None


def parse_json(text: str | bytes, where: str, remedy: str) -> Any:
    """A JSON value of at most 100 levels.

    Args:
        where: the file, and perhaps the line, for messages.

    Raises:
        PalateError: it is not valid.
    """
    try:
        return _shallow(json.loads(text))
    except (ValueError, RecursionError) as error:  # ValueError: also broken UTF-8 and numbers of too many digits
        raise PalateError(f"{where} is not valid JSON ({_why(error)})", remedy) from None


def parse_toml(text: str, where: str, remedy: str) -> dict[str, Any]:
    """The tables of a TOML text of at most 100 levels.

    Raises:
        PalateError: it is not valid.
    """
    try:
        tables: dict[str, Any] = _shallow(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        raise PalateError(f"{where} is not valid TOML ({_why(error)})", remedy) from None
    return tables


def read_object(path: Path | str, remedy: str = "Make the artefact again.") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        PalateError: it is missing, broken, or holds something else.
    """
    value = parse_json(read_small(path), str(path), remedy)
    if not isinstance(value, dict):
        raise PalateError(f"{path} is not valid: it holds no JSON object", remedy)
    return value


def json_rows(path: Path | str, remedy: str = "Train the run again.") -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines, such as ``metrics.jsonl``; empty lines are left out.

    Raises:
        PalateError: there is no such file, or a line is no object: its number is named.
    """
    check_regular(path)
    with Path(path).open("rb") as file:
        number = 0
        while line := file.readline(MOST_BYTES):
            number += 1
            if not line.strip():
                continue
            row = parse_json(line, f"{path}, line {number}", remedy)
            if not isinstance(row, dict):
                raise PalateError(f"{path}, line {number} is not valid: it holds no JSON object", remedy)
            yield row


def _shallow(value: Any) -> Any:
    """The value; what is deeper than the code that walks it could go is a ValueError."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEEP):
        if not level:
            return value
        within = chain.from_iterable(one.values() if isinstance(one, dict) else one for one in level)
        level = [one for one in within if isinstance(one, dict | list)]
    if not level:
        return value
    raise ValueError(f"it is nested more than {MOST_DEEP} levels deep")


def _why(error: Exception) -> str:
    """The reason in a few words, without the text that was read."""
    if isinstance(error, RecursionError):
        return f"it is nested more than {MOST_DEEP} levels deep"
    return "a number has too many digits" if "integer string conversion" in str(error) else str(error)
