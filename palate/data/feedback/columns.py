"""The columns of a table of feedback, by their usual names or by those that the user gives."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from palate.data.identity import id_text
from palate.data.readers.base import TimeUnit
from palate.data.readers.times import shape_time
from palate.errors import PalateError, suggest
from palate.names import quoted_name

# Our names, and those under which each is found without being named.
_USUAL = {
    "user": ("user", "user_id"),
    "item": ("item", "item_id"),
    "time": ("time", "timestamp"),
    "request": ("request", "request_id"),
    "position": ("position",),
    "event": ("event",),
    "taken": ("taken",),
    "kind": ("kind",),
}
_NEEDED = ("user", "item", "time")


def pick_feedback_columns(there: list[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Our name -> the table's. Of ``event`` and ``taken`` there is exactly one.

    >>> pick_feedback_columns(["uid", "item", "time", "clicked"], {"user": "uid", "taken": "clicked"}, "shown.csv")
    {'user': 'uid', 'item': 'item', 'time': 'time', 'taken': 'clicked'}
    """
    columns: dict[str, str] = {}
    for ours, theirs in named.items():
        if ours not in _USUAL:
            raise PalateError(f"--feedback-columns: there is no '{ours}'", suggest(ours, tuple(_USUAL)))
        if theirs and theirs not in there:
            raise PalateError(f"{where} has no column '{theirs}'", suggest(theirs, map(quoted_name, there)))
    for ours, usual in _USUAL.items():
        theirs = named.get(ours, next((name for name in usual if name in there), ""))
        if theirs:
            columns[ours] = theirs
        elif ours in _NEEDED:
            raise _lacks(ours, there, where)
    if "event" in columns and "taken" in columns:
        # The one that the user named wins; else that of the files which a service writes.
        columns.pop("event" if "taken" in named and "event" not in named else "taken")
    if "event" not in columns and "taken" not in columns:
        raise _lacks("event", there, where)
    return columns


def _lacks(ours: str, there: list[str], where: str) -> PalateError:
    also = " (or taken=NAME, a column of 0 and 1)" if ours == "event" else ""
    shown = ", ".join(map(quoted_name, there))
    return PalateError(
        f"{where} has no column '{ours}'", f"Say which it is: --feedback-columns {ours}=NAME{also}, of {shown}."
    )


def shape_feedback(frame: pl.LazyFrame, columns: Mapping[str, str], where: str) -> tuple[pl.LazyFrame, TimeUnit]:
    """The columns ``user``, ``item``, ``request``, ``kind``, ``time``, ``position``, ``shown`` and ``taken``.

    A cell that is no time or no event is null, as is a user, request, kind or position that is not known.

    Returns:
        The frame, and the unit of its times: ``auto`` where they are numbers.
    """
    schema = frame.collect_schema()
    time, unit = shape_time(frame, columns["time"], where, None)
    shapes = {"time": time}
    for ours in ("user", "item", "request", "kind"):
        theirs = columns.get(ours)
        if theirs is None or schema[theirs] == pl.Null:
            shapes[ours] = pl.lit(None, pl.String)
        else:
            cell = pl.col(theirs)
            shapes[ours] = pl.when(cell.cast(pl.String) != "").then(id_text(cell, schema[theirs], theirs, where))
    position = pl.col(columns["position"]) if "position" in columns else pl.lit(None)
    shapes["position"] = position.cast(pl.Int32, strict=False)
    if "event" in columns:
        event = pl.col(columns["event"]).cast(pl.String).str.strip_chars().str.to_lowercase()
        known = pl.when(event.is_in(["shown", "taken"]))
        shapes |= {"shown": known.then(event == "shown"), "taken": known.then(event == "taken")}
    else:
        cell = pl.col(columns["taken"]).cast(pl.String).str.strip_chars().str.to_lowercase()
        yes, no = cell.is_in(["1", "1.0", "true"]), cell.is_in(["0", "0.0", "false"])
        taken = pl.when(yes | no).then(yes)
        shapes |= {"shown": pl.when(taken.is_not_null()).then(True), "taken": taken}
    return frame.select(**shapes), unit
