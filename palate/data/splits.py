"""Splits: which interactions train, which choose the model and which test it, and what each split leaks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from palate.config import Config
from palate.data.blocks import user_blocks
from palate.data.dataset import Part
from palate.data.moments import iso_time
from palate.errors import PalateError

SplitName = Literal["leave-last-out", "leave-last-n", "global-time", "user", "none"]


class Split(Config):
    """The split and its options; an option of another split is refused.

    ``leave-last-out``: a user's last item tests, the last but one validates. ``leave-last-n``: the last ``last_n``
    test, the ``last_n`` before them validate. ``global-time``: what happened from one moment on validates, from a later
    one on tests. ``user``: some users are held out altogether; their last item is the target. ``none``: everything
    trains.
    """

    split: SplitName = Field("leave-last-out", description="What validates and what tests.")
    last_n: int | None = Field(None, ge=1, description="leave-last-n: targets per user.")
    valid_from: str | None = Field(
        None, description="global-time: validation begins (UTC where no zone is named).", examples=["ISO-DATE"]
    )
    test_from: str | None = Field(None, description="global-time: test begins.", examples=["ISO-DATE"])
    valid_quantile: float | None = Field(
        None, gt=0, lt=1, description="global-time: share of interactions before validation."
    )
    test_quantile: float | None = Field(None, gt=0, lt=1, description="global-time: share of interactions before test.")
    valid_share: float | None = Field(None, gt=0, lt=1, description="user: share of users to validate on.")
    test_share: float | None = Field(None, gt=0, lt=1, description="user: share of users to test on.")


_OPTIONS: dict[str, set[str]] = {
    "leave-last-out": set(),
    "leave-last-n": {"last_n"},
    "global-time": {"valid_from", "test_from", "valid_quantile", "test_quantile"},
    "user": {"valid_share", "test_share"},
    "none": set(),
}
Parts = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rows:
    """What a split looks at: interactions in user order, each user's oldest first.

    Attributes:
        offsets: int64 ``[users + 1]``; user ``u`` owns rows ``offsets[u]:offsets[u + 1]``.
        timestamps: int64 ``[rows]`` Unix milliseconds, or None.
    """

    offsets: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64] | None

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)


def assign(rows: Rows, options: Split, seed: int) -> tuple[Parts, dict[str, Any]]:
    """Give every interaction its :class:`~palate.data.dataset.Part`.

    Returns:
        uint8 ``[rows]`` and the manifest's record: ``{"name", options...}``.

    Raises:
        PalateError: an option of another split, no times for ``global-time``, or no target at all.
    """
    named = {name for name in options.model_fields_set if getattr(options, name) is not None} - {"split"}
    foreign = sorted(named - _OPTIONS[options.split])
    if foreign:
        option = foreign[0].replace("_", "-")
        owner = next(name for name, known in _OPTIONS.items() if foreign[0] in known)
        raise PalateError(f"--{option} does not belong to --split {options.split}", f"It is an option of {owner}.")
    if options.split == "none":
        return np.full(rows.offsets[-1], Part.TRAIN, np.uint8), {"name": "none"}
    if options.split == "global-time":
        parts, facts = _global_time(rows, options)
    elif options.split == "user":
        parts, facts = _by_user(rows, options, seed)
    else:
        if options.split == "leave-last-n" and options.last_n is None:
            raise PalateError("--split leave-last-n does not know how many", "Give --last-n N.")
        n = options.last_n or 1
        parts, facts = last_n(rows, n), {"last_n": n} if options.split == "leave-last-n" else {}
    for part, word in ((Part.TRAIN, "training row"), (Part.VALID, "validation target"), (Part.TEST, "test target")):
        if not (parts == part).any():
            remedy = "Check the options of the split and the filters, or bring more data."
            if options.split == "global-time" and rows.timestamps is not None and len(rows.timestamps):
                first, last = (iso_time(int(moment)) for moment in (rows.timestamps.min(), rows.timestamps.max()))
                remedy = f"The log runs from {first} to {last}: cut within it."
            raise PalateError(f"--split {options.split} leaves no {word} among {len(rows.lengths)} users", remedy)
    return parts, {"name": options.split, **facts}


def last_n(rows: Rows, n: int) -> Parts:
    """A user's last ``n`` test and the ``n`` before them validate; whoever has no more than that only trains."""
    lengths, parts = rows.lengths, np.full(rows.offsets[-1], Part.TRAIN, np.uint8)
    for users, block in user_blocks(rows.offsets):
        own = lengths[users]
        # 0 for a user's last interaction, 1 for the one before it, and so on.
        back = np.repeat(rows.offsets[1:][users], own) - 1 - np.arange(block.start, block.stop)
        enough = np.repeat(own > 2 * n, own)
        parts[block][enough & (back < 2 * n)] = Part.VALID
        parts[block][enough & (back < n)] = Part.TEST
    return parts


def _global_time(rows: Rows, options: Split) -> tuple[Parts, dict[str, Any]]:
    times = rows.timestamps
    if times is None:
        raise PalateError(
            "--split global-time: the source has no times", "Choose leave-last-out, leave-last-n or user."
        )
    cuts: list[int] = []
    for name, default in (("valid", 0.8), ("test", 0.9)):
        date, share = getattr(options, f"{name}_from"), getattr(options, f"{name}_quantile")
        if date is not None and share is not None:
            raise PalateError(f"--{name}-from and --{name}-quantile both say where to cut", "Give one of them.")
        if date is not None:
            cuts.append(_milliseconds(date, f"--{name}-from"))
        else:
            cuts.append(int(np.quantile(times, share if share is not None else default, method="higher")))
    if cuts[0] >= cuts[1]:
        raise PalateError(
            f"the validation cut {iso_time(cuts[0])} is not before the test cut {iso_time(cuts[1])}",
            "Move --valid-from/--valid-quantile back or --test-from/--test-quantile on.",
        )
    parts = np.full(len(times), Part.TRAIN, np.uint8)
    parts[times >= cuts[0]] = Part.VALID
    parts[times >= cuts[1]] = Part.TEST
    return parts, {"valid_from": iso_time(cuts[0]), "test_from": iso_time(cuts[1])}


def _by_user(rows: Rows, options: Split, seed: int) -> tuple[Parts, dict[str, Any]]:
    shares = {"valid_share": options.valid_share or 0.1, "test_share": options.test_share or 0.1}
    if sum(shares.values()) >= 1:
        raise PalateError("--valid-share and --test-share leave no user to train on", "Make them smaller.")
    # A user with one interaction has no history to be judged on.
    able = np.flatnonzero(rows.lengths >= 2)
    drawn = np.random.default_rng([seed, 3]).permutation(able)
    valid, test = (max(1, round(share * len(able))) for share in shares.values())
    last = np.full(len(rows.lengths), Part.TRAIN, np.uint8)
    last[drawn[:valid]], last[drawn[valid : valid + test]] = Part.VALID, Part.TEST
    parts = np.repeat(np.where(last == Part.TRAIN, Part.TRAIN, Part.CONTEXT).astype(np.uint8), rows.lengths)
    targets = np.flatnonzero(last != Part.TRAIN)
    parts[rows.offsets[targets + 1] - 1] = last[targets]
    return parts, {**shares, "seed": seed}


def _milliseconds(date: str, option: str) -> int:
    try:
        moment = datetime.fromisoformat(date)
    except ValueError:
        raise PalateError(f"{option} {date}: not an ISO date", "For example 2015-01-31 or 2015-01-31T18:00.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
