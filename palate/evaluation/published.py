"""A table's figures as a small file for a page or an appendix: readable, comparable line by line, and traceable.

It is a part of ``table.json`` (:func:`palate.evaluation.saved.load_table` reads both), without the folders of the runs,
with the metrics that tables print and the primary one in every slice. ``website/result_tables.py`` writes the tables
of the documentation from such files.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.evaluation.saved import SavedRow, SavedTable, load_table
from palate.storage.files import write_text

OPTION = "--publish"
# Figures are written to this many places: far below what an interval can tell apart.
_PLACES = 6
_WIDTH = 130
# What of the environment may change a figure.
_ENVIRONMENT = ("palate", "commit", "python", "torch", "numpy", "machine", "threads")
_FACTS = ("name", "protocol", "split", "cases", "users", "dataset", "base", "primary", "family", "notes", "recipe")


def check_publish(path: Path) -> None:
    """Refuse a path that is no JSON file, or an existing file that was not published: it would be replaced.

    Raises:
        PalateError: naming the path.
    """
    if path.suffix != ".json" or path.is_dir():
        raise PalateError(f"{OPTION} {path}: not the name of a JSON file", "For example docs/results/beauty.json.")
    if not path.exists():
        return
    try:
        facts = load_table(path).facts
    except PalateError as error:
        raise PalateError(
            f"{OPTION} {path} would replace a file that holds no table ({error.message})", "Choose another name."
        ) from None
    if "title" not in facts:  # the whole table of a folder, with its runs
        raise PalateError(f"{OPTION} {path} would replace the table of {path.parent}", "Choose another name.")


def publish(table: SavedTable, path: Path) -> None:
    """Write the published form of a table, in place of an earlier one."""
    write_published(path, published(table))


def published(table: SavedTable) -> dict[str, Any]:
    """What a reader needs of a table, with the command that made it."""
    environment: Mapping[str, Any] = table.environment or {}
    metrics = table.shown_metrics()
    return {
        **{name: table.facts[name] for name in _FACTS if name in table.facts},
        "title": table.title,
        "command": command_line(environment.get("command") or []),
        "environment": {name: environment[name] for name in _ENVIRONMENT if name in environment},
        "models": [_row(row, metrics) for row in table.models],
        "slices": {
            name: {"users": part.users, "models": [_row(row, [table.primary]) for row in part.models]}
            for name, part in table.slices.items()
        },
    }


def write_published(path: Path, facts: Mapping[str, Any]) -> None:
    """Keys in alphabetical order, one figure per line: two versions can be compared."""
    write_text(path, laid_out(facts) + "\n")


def laid_out(value: Any, indent: str = "") -> str:
    """JSON with sorted keys, in which every part that fits on a line is on one.

    >>> print(laid_out({"b": {"mean": 0.5, "low": 0.25}, "a": [1, 2]}))
    {
      "a": [1, 2],
      "b": {"low": 0.25, "mean": 0.5}
    }
    """
    flat = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    inner = indent + "  "
    if isinstance(value, Mapping) and value and (not indent or len(indent) + len(flat) > _WIDTH):
        rows = [f"{inner}{json.dumps(key, ensure_ascii=False)}: {laid_out(value[key], inner)}" for key in sorted(value)]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value and len(indent) + len(flat) > _WIDTH:
        return "[\n" + ",\n".join(inner + laid_out(one, inner) for one in value) + f"\n{indent}]"
    return flat


def command_line(words: Sequence[str]) -> str:
    """The command as a reader repeats it: without where it was published.

    >>> command_line(["__main__.py", "compare", "my recipe.toml", "--publish", "x.json", "--seeds", "0,1"])
    "palate compare 'my recipe.toml' --seeds 0,1"
    """
    return shlex.join(["palate", *_without_option(words[1:])])


def _without_option(words: Sequence[str]) -> Iterable[str]:
    rest = iter(words)
    for word in rest:
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            yield word


def _row(row: SavedRow, metrics: Sequence[str]) -> dict[str, Any]:
    read = row.model_dump(exclude_unset=True)
    figures = {
        kind: {name: read[kind][name] for name in metrics if name in read[kind]}
        for kind in ("metrics", "differences")
        if read.get(kind)
    }
    return {"label": row.label, "seeds": list(row.seeds), **_rounded(figures)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _PLACES)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
