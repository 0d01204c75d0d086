"""Filters of the interaction log. Each one is a pure function; :func:`apply` counts what it takes away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from palate.config import Config
from palate.data import blocks
from palate.data.blocks import row_blocks, user_blocks
from palate.data.log import Log
from palate.data.sequences import offsets_of
from palate.errors import PalateError

# Times that all rows are looked at for putting them in order, at most.
_PASSES = 16


class Filters(Config):
    """What to keep of a log. The steps run in the order of these options."""

    min_rating: float | None = Field(None, description="Keep interactions rated at least this.")
    disliked_at_most: float | None = Field(
        None,
        description="Keep interactions rated at most this apart, as dislikes to align on; needs a higher --min-rating.",
    )
    missing_items: Literal["keep", "drop"] = Field("keep", description="Interactions with items outside the catalogue.")
    ties: Literal["file", "seed"] = Field(
        "file",
        description="Order of a user's interactions at the same time: as in the file, or drawn by the seed.",
    )
    duplicates: Literal["first", "last", "none"] = Field(
        "first", description="Which of a user's interactions with the same item stays; none removes none."
    )
    k_core: int = Field(
        0, ge=0, description="Drop users and items with fewer interactions, until none is left; 0 is off."
    )
    min_history: int = Field(
        0, ge=0, description="Drop users with fewer interactions; with --k-core the core still holds."
    )
    max_users: int | None = Field(
        None,
        ge=1,
        description="Draw at most this many of the users that are left, by the seed; "
        "their items may have fewer than --k-core interactions afterwards.",
    )


def apply(
    log: Log,
    filters: Filters,
    catalogue_ids: pl.Series | None,
    seed: int,
    watch: Callable[[str, Log, Log], None] | None = None,
) -> tuple[Log, list[dict[str, Any]]]:
    """Run the requested filters.

    Args:
        catalogue_ids: ids of the items that have a catalogue row; None where the source has no catalogue.
        watch: called after every step with its name and the log before and after it.

    Returns:
        The log in user order, each user's oldest first, without unused ids; and one record per step:
        ``{"step", ..., "before": {users, items, interactions}, "after": {...}}``.
    """
    records: list[dict[str, Any]] = []

    def run(step: str, change: Callable[[Log], Log], **facts: Any) -> None:
        nonlocal log
        before = records[-1]["after"] if records else log.counts()
        whole, log = log, change(log)
        if watch is not None:
            watch(step, whole, log)
        records.append({"step": step, **facts, "before": before, "after": log.counts()})
        if not len(log):
            raise PalateError(f"the filter '{step}' ({facts}) leaves no interaction", "Make it less strict.")

    f = filters
    if f.min_rating is not None:
        run("min-rating", lambda log: min_rating(log, float(f.min_rating or 0)), least=f.min_rating)
    if f.missing_items == "drop":
        run("missing-items", lambda log: drop_missing_items(log, catalogue_ids), items=f.missing_items)
    log = in_order(log, f.ties, seed)
    if f.duplicates != "none":
        run("duplicates", lambda log: drop_duplicates(log, f.duplicates == "first"), keep=f.duplicates)
    if f.k_core > 1:
        run("k-core", lambda log: core(log, f.k_core, f.k_core), k=f.k_core)
    if f.min_history > 1:
        run("min-history", lambda log: core(log, max(f.k_core, f.min_history), f.k_core), least=f.min_history)
    if f.max_users is not None:
        run("max-users", lambda log: max_users(log, int(f.max_users or 0), seed), most=f.max_users, seed=seed)
    # Users keep the order in which the source names them, so rows only need new codes.
    return log.compact(), records


def min_rating(log: Log, least: float) -> Log:
    """Interactions whose weight is at least ``least``."""
    if log.weights is None:
        raise PalateError("the source has no ratings for --min-rating", "Leave the option out.")
    return log.take(log.weights >= least)


def drop_missing_items(log: Log, catalogue_ids: pl.Series | None) -> Log:
    """Interactions whose item has a catalogue row."""
    if catalogue_ids is None:
        raise PalateError("--missing-items drop: the source has no catalogue", "Give one, or leave the option out.")
    known = log.item_ids.is_in(catalogue_ids.implode()).to_numpy()
    return log.take(known[log.items])


def max_users(log: Log, most: int, seed: int) -> Log:
    """All interactions of at most ``most`` users, drawn without replacement."""
    there = np.flatnonzero(log.user_counts())
    if len(there) <= most:
        return log
    chosen = np.zeros(len(log.user_ids), bool)
    chosen[np.random.default_rng([seed, 1]).choice(there, most, replace=False)] = True
    return log.take(chosen[log.users])


def in_order(log: Log, ties: Literal["file", "seed"], seed: int) -> Log:
    """Rows in user order, each user's oldest first."""
    keys: list[npt.NDArray[Any]] = [*reversed(log.time_keys), log.users]
    if ties == "seed":
        if log.timestamps is None:
            raise PalateError("--ties seed: the source has no times, so nothing ties", "Leave the option out.")
        keys.insert(0, np.random.default_rng([seed, 2]).permutation(len(log)).astype(np.uint32))
    if _is_sorted(keys):
        return log
    # Some users at a time: an index of all rows, and what sorting it needs, would be larger than the log itself.
    offsets = offsets_of(log.user_counts())
    parts = list(user_blocks(offsets, max(blocks.ROWS, len(log) // _PASSES)))
    if len(parts) == 1:
        return log.take(np.lexsort(keys))
    ordered = log.empty()
    for users, place in parts:
        rows = _rows_of(users, log)
        ordered.put(place, log.take(rows[np.lexsort([key[rows] for key in keys])]))
    return ordered


def _rows_of(users: slice, log: Log) -> npt.NDArray[np.int64]:
    """int64: the rows of some users, in the order of the log."""
    found = []
    for rows in row_blocks(len(log)):
        block = log.users[rows]
        found.append(np.flatnonzero((block >= users.start) & (block < users.stop)) + rows.start)
    return np.concatenate(found)


def _is_sorted(keys: list[npt.NDArray[Any]]) -> bool:
    """Whether rows are in order by the last key, then the one before it, and so on (cheap beside a sort)."""
    if len(keys) > 2:
        return False
    later = keys[-1][1:] > keys[-1][:-1]
    same = keys[-1][1:] == keys[-1][:-1]
    if len(keys) == 2:
        same &= keys[0][1:] >= keys[0][:-1]
    return bool((later | same).all())


def drop_duplicates(log: Log, first: bool) -> Log:
    """One interaction per user and item, of rows in user order: the first or the last of them."""
    keep = np.zeros(len(log), bool)
    for _, block in user_blocks(offsets_of(log.user_counts())):
        pairs = log.users[block].astype(np.int64) * len(log.item_ids) + log.items[block]
        rows = np.argsort(pairs, kind="stable")
        pairs = pairs[rows]
        change = np.flatnonzero(pairs[1:] != pairs[:-1])
        chosen = rows[np.concatenate([[0], change + 1])] if first else rows[np.concatenate([change, [len(rows) - 1]])]
        keep[block][chosen] = True
    return log if keep.all() else log.take(keep)


def core(log: Log, users_least: int, items_least: int) -> Log:
    """The largest part of the log in which every user and every item has enough interactions.

    One pass is not enough: a user that leaves takes interactions from items, and the other way round.
    """
    counts = {"users": log.user_counts(), "items": log.item_counts()}
    keep = np.ones(len(log), bool)
    while True:
        enough = counts["users"] >= users_least, counts["items"] >= items_least
        gone = 0
        for rows in row_blocks(len(log)):
            users, items, left = log.users[rows], log.items[rows], keep[rows]
            drop = left & ~(enough[0][users] & enough[1][items])
            left &= ~drop
            gone += int(np.count_nonzero(drop))
            counts["users"] -= np.bincount(users[drop], minlength=len(enough[0]))
            counts["items"] -= np.bincount(items[drop], minlength=len(enough[1]))
        if not gone:
            return log if keep.all() else log.take(keep)
