"""What training may know of the feedback: impressions of users and items that are there, none from the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.data.dataset import Part
from palate.data.feedback.join import DAY
from palate.data.feedback.read import NONE, Feedback
from palate.data.impressions import Impressions
from palate.data.log import Log
from palate.data.numbering import recode
from palate.errors import PalateError

# Why something shown is no impression of the dataset, in the order in which it is checked: manifest's word -> ours.
REASONS = {
    "anonymous": "to a user without a name",
    "outside": "of a user or an item that the dataset does not have",
    "repeated": "there twice in its request",
    "untrained": "to a user without a training interaction",
    "too_late": "in a request that went on after the user's last training interaction",
    "taken": "taken by the user at another time in training",
}
_REQUEST = ("user", "request", "unnamed")


def keep_impressions(
    feedback: Feedback, log: Log, parts: npt.NDArray[np.uint8]
) -> tuple[Impressions | None, dict[str, Any]]:
    """The impressions of a dataset.

    A request is kept if all of it, what was taken included, came before its user's cut-off: the last training
    interaction, and before any that is held out. Part of a request would reject what is held out: it was shown beside
    what trains, and not taken *yet*. What was shown and not taken is left out if the user took it at another time in
    training. Held-out interactions decide nothing about single items, or rejecting the others would give them away.

    Something is taken where an event of its request says so. An item that no request's event takes is also taken if the
    log, or an event that names no request, has it within a day of being shown.

    Args:
        log: interactions after all filters, in user order, each user's oldest first.
        parts: of its rows.

    Returns:
        The impressions (None where there is none), and the manifest's record.

    Raises:
        PalateError: no user or no item of the feedback is in the log: their ids are others.
    """
    assert log.timestamps is not None
    left: dict[str, int] = dict.fromkeys(REASONS, 0)
    shown = int(np.count_nonzero(feedback.shown))
    record: dict[str, Any] = {
        "files": len(feedback.files),
        "events": len(feedback),
        "shown": shown,
        "taken": int(np.count_nonzero(feedback.taken)),
        "taken_kinds": _kinds(feedback),
        "without_position": int(np.count_nonzero(feedback.shown & (feedback.positions == 0))),
        "left_out": left,
    }
    left["anonymous"] = int(np.count_nonzero(feedback.shown & (feedback.users == NONE)))
    named = feedback.take(feedback.users != NONE)
    users = recode(named.ids["user"], log.user_ids)[named.users]
    items = recode(named.ids["item"], log.item_ids)[named.items]
    _refuse_other_ids(named, log, users, items)
    inside = (users >= 0) & (items >= 0)
    left["outside"] = int(np.count_nonzero(named.shown & ~inside))
    rows = _rows(named.take(inside), users[inside], items[inside])
    left["repeated"] = shown - left["anonymous"] - left["outside"] - int(rows["shown"].sum())
    record["taken_unshown"] = len(rows.filter("taken", ~pl.col("shown")))
    rows = _taken_by_log(rows, log)

    def only(condition: pl.Expr, reason: str) -> None:
        nonlocal rows
        before = int(rows["shown"].sum())
        rows = rows.filter(condition)
        left[reason] = before - int(rows["shown"].sum())

    rows = rows.with_columns(cutoff=_cutoffs(log, parts)[rows["user"]])
    only(pl.col("cutoff").is_not_null(), "untrained")
    known = rows.filter("taken", pl.col("taken_time") <= pl.col("cutoff")).select("user", "item")
    ever = pl.concat([_train_pairs(log, parts), known]).unique()
    end = pl.max_horizontal("time", "taken_time").max().over(*_REQUEST)
    only(end <= pl.col("cutoff"), "too_late")
    had = ever.with_columns(had=True)
    rows = rows.filter("shown").join(had, on=["user", "item"], how="left", maintain_order="left")
    rows = rows.filter(pl.col("taken") | pl.col("had").is_null())
    left["taken"] = shown - sum(left.values()) - len(rows)
    impressions = _numbered(rows)
    record["kept"] = impressions.counts()
    return (impressions if len(impressions) else None), record


def _kinds(feedback: Feedback) -> dict[str, int]:
    """How often each kind was taken, the most frequent first."""
    names = feedback.ids["kind"].to_list()
    codes = feedback.kinds[feedback.taken & (feedback.kinds != NONE)]
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return {names[code]: counts[code] for code in np.argsort(counts, kind="stable")[::-1] if counts[code]}


def _refuse_other_ids(named: Feedback, log: Log, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
    for name, codes, known in (("user", users, log.user_ids), ("item", items, log.item_ids)):
        if len(codes) and not (codes >= 0).any():
            raise PalateError(
                f"no {name} of the feedback is in the dataset: '{named.ids[name][0]}' there, '{known[0]}' in the log",
                f"Write the ids of {name}s alike, or make the filters less strict.",
            )


def _rows(named: Feedback, users: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> pl.DataFrame:
    """One row per request and item. Events without a request belong together where user and time are the same."""
    frame = pl.DataFrame(
        {
            "user": users.astype(np.uint32),
            "item": items.astype(np.uint32),
            "request": np.where(named.requests == NONE, named.times, named.requests.astype(np.int64)),
            "unnamed": named.requests == NONE,
            "time": named.times,
            "position": named.positions,
            "shown": named.shown,
            "taken": named.taken,
        }
    )
    first = pl.col("time").filter("shown").min()
    return frame.group_by(*_REQUEST, "item", maintain_order=True).agg(
        shown=pl.col("shown").any(),
        taken=pl.col("taken").any(),
        time=pl.coalesce(first, pl.col("time").min()),
        taken_time=pl.col("time").filter("taken").min(),
        position=pl.col("position").filter(pl.col("shown") & (pl.col("position") > 0)).min().fill_null(0),
    )


def _taken_by_log(rows: pl.DataFrame, log: Log) -> pl.DataFrame:
    """Items that no event takes where they were shown: taken, if the user did so within a day of being shown.

    By the log, or by an event that does not name the request.
    """
    linked = rows.filter("taken", "shown").select("user", "item").unique()
    open_rows = rows.with_row_index("row").filter("shown", ~pl.col("taken")).select("row", "user", "item", "time")
    own = pl.DataFrame({"user": log.users, "item": log.items, "moment": log.timestamps})
    elsewhere = rows.filter("taken", ~pl.col("shown")).select("user", "item", moment="time")
    found = (
        open_rows.join(linked, on=["user", "item"], how="anti")
        .join(pl.concat([own, elsewhere]), on=["user", "item"])
        .filter(
            pl.col("moment") + _resolution(log) > pl.col("time"),
            pl.col("moment") - pl.col("time") < DAY,
        )
        .group_by("row")
        .agg(bought=pl.col("moment").min())
    )
    joined = rows.with_row_index("row").join(found, on="row", how="left", maintain_order="left")
    return joined.with_columns(
        taken=pl.col("taken") | pl.col("bought").is_not_null(), taken_time=pl.coalesce("taken_time", "bought")
    ).drop("row", "bought")


def _resolution(log: Log) -> int:
    """Milliseconds that a time of the log stands for: a day, if all of its times are dates."""
    assert log.timestamps is not None
    return DAY if not (log.timestamps % DAY).any() else 1


def _cutoffs(log: Log, parts: npt.NDArray[np.uint8]) -> pl.Series:
    """The last moment of each user that training may know of; null for users who do not train."""
    assert log.timestamps is not None
    part = pl.col("part")
    frame = pl.DataFrame({"user": log.users, "time": log.timestamps, "part": parts})
    of_users = frame.group_by("user").agg(
        last=pl.col("time").filter(part == int(Part.TRAIN)).max() + _resolution(log) - 1,
        held_out=pl.col("time").filter(part.is_in([int(Part.VALID), int(Part.TEST)])).min() - 1,
    )
    everyone = pl.DataFrame({"user": np.arange(len(log.user_ids), dtype=np.uint32)})
    joined = everyone.join(of_users, on="user", how="left", maintain_order="left")
    return joined.select(pl.when(pl.col("last").is_not_null()).then(pl.min_horizontal("last", "held_out"))).to_series()


def _train_pairs(log: Log, parts: npt.NDArray[np.uint8]) -> pl.DataFrame:
    train = parts == Part.TRAIN
    return pl.DataFrame({"user": log.users[train], "item": log.items[train]}).unique()


def _numbered(rows: pl.DataFrame) -> Impressions:
    """By user, time, request and position; requests are numbered in this order."""
    rows = rows.with_row_index("row").with_columns(
        begin=pl.col("time").min().over(*_REQUEST), first=pl.col("row").min().over(*_REQUEST)
    )
    rows = rows.sort("user", "begin", "first", "position", "row")
    new = (rows["user"].diff().fill_null(1) != 0).to_numpy() | (rows["first"].diff().fill_null(1) != 0).to_numpy()
    numbers = np.maximum(np.cumsum(new) - 1, 0).astype(np.uint32)
    return Impressions(
        rows["user"].to_numpy(),
        (rows["item"] + 1).cast(pl.Int32).to_numpy(),
        rows["time"].to_numpy(),
        rows["taken"].to_numpy(),
        numbers,
        rows["position"].cast(pl.Int32).to_numpy(),
    )
