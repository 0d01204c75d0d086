"""Conditions on the fields of items: ``colour=red,blue``, ``price<20``, ``year=1990..1999``, ``kind!=vase``.

One way to write them for ``palate recommend``, the service, its files of rules and Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from palate.errors import PalateError, suggest
from palate.names import split_names, unquoted_name

Mask = npt.NDArray[np.bool_]
OPERATORS = ("!=", "<=", ">=", "=", "<", ">")
_OPERATOR = re.compile("|".join(OPERATORS))
_AFTER_FIELD = re.compile(rf"\s*({_OPERATOR.pattern})")
_RANGE = re.compile(r"(.+?)\.\.(.+)", re.DOTALL)
# Values of a field may be whole sentences: only the most frequent are compared.
_VALUES_LIMIT = 500


@dataclass(frozen=True)
class Condition:
    """A condition, read: ``field`` and one of :data:`OPERATORS`, and what comes after it."""

    text: str
    field: str
    operator: str
    value: str


@dataclass(frozen=True)
class Matches:
    """What a condition finds.

    Attributes:
        mask: bool ``[num_items + 1]``; padding False.
        missing: values of ``=`` and ``!=`` that no item has, each as a condition ``FIELD=VALUE``: most likely misspelt.
            Ranges and the other operators have none.
    """

    mask: Mask
    missing: list[str]


def parse_condition(text: str, fields: Sequence[str]) -> Condition:
    """Read a condition on some fields.

    >>> parse_condition("price<=20", ["colour", "price"])
    Condition(text='price<=20', field='price', operator='<=', value='20')

    Raises:
        PalateError: no operator, or an unknown field.
    """
    for name in sorted(fields, key=len, reverse=True):  # a field's own name may hold an operator
        if text.startswith(name) and (found := _AFTER_FIELD.match(text, len(name))):
            return Condition(text, name, found[1], text[found.end() :].strip())
    at = _OPERATOR.search(text)
    problem = f"'{text}' is not a condition on this catalogue"
    if at is None:
        name = text if text in fields else "FIELD"
        ways = f'Write {name}=VALUE, {name}=ONE,OTHER, {name}!=VALUE or, for numbers, "{name}<20" in quotes'
        raise PalateError(problem, f"{ways}." if name == text else f"{ways}, with a field of: {', '.join(fields)}.")
    raise PalateError(problem, suggest(text[: at.start()].strip(), fields))


def find_matches(frame: pl.DataFrame, text: str, fields: Sequence[str] | None = None) -> Matches:
    """The items that meet a condition.

    ``=`` holds where the field is one of the values between commas: the same text, whatever the case; the same number,
    however it is written, or one within ``LOW..HIGH``, both included. ``!=`` is the opposite, so it also holds where
    nothing is known. ``<``, ``<=``, ``>`` and ``>=`` compare numbers. Of a list, one entry has to match. A text that
    holds a comma goes in double quotes, unless an item has all of it: that is then the value.

    Args:
        frame: one row per item.
        fields: the columns that may be named; by default all.

    Raises:
        PalateError: naming the field and the value: an unknown field, no number where one is needed, a field of
            another kind.
    """
    one = parse_condition(text, frame.columns if fields is None else fields)
    if _kind(frame, one.field).is_nested():
        raise PalateError(
            f"the field '{one.field}' ({frame.schema[one.field]}) cannot be filtered by", "Use a text, number or list."
        )
    if one.operator not in ("=", "!="):
        return Matches(_mask(frame, one, _compared(frame, one)), [])
    numeric = _kind(frame, one.field).is_numeric()
    values = [one.value]
    masks = [] if numeric else [_one_value(frame, one, one.value)]
    if numeric or not masks[0].any():
        values = [unquoted_name(part) for part in split_names(one.value, f"{one.field}{one.operator}")]
        masks = [_one_value(frame, one, value) for value in values]
    missing = [
        f"{one.field}={value}"
        for value, mask in zip(values, masks, strict=True)
        if not mask.any() and not (numeric and _RANGE.fullmatch(value))
    ]
    met: Mask = np.logical_or.reduce(masks)
    if one.operator == "!=":
        met[1:] = ~met[1:]
    return Matches(met, missing)


def allowed_items(
    frame: pl.DataFrame, only: Sequence[str], without: Sequence[str], fields: Sequence[str] | None = None
) -> Mask | None:
    """Mask of the items that meet all conditions of ``only`` and none of ``without``: bool ``[num_items + 1]``, or
    None for all of them.

    Args:
        frame: one row per item.
        fields: the columns that may be named; by default all.

    Raises:
        PalateError: what :func:`find_matches` refuses, a value that no item has, or conditions that leave no item.
    """
    if not only and not without:
        return None
    allowed = np.ones(len(frame) + 1, np.bool_)
    allowed[0] = False
    for required, conditions in ((True, only), (False, without)):
        for condition in conditions:
            met = find_matches(frame, condition, fields)
            # Without an error, what was to be left out would be shown. No item under a price may well be so.
            missing = met.missing or ([condition] if required and not met.mask.any() else [])
            if missing:
                within = "" if missing[0] == condition else f", a part of '{condition}'"
                raise PalateError(f"no item meets '{missing[0]}'{within}", _values_hint(frame, missing[0]))
            allowed &= met.mask if required else ~met.mask
    if not allowed.any():
        words = [f"only {c}" for c in only] + [f"without {c}" for c in without]
        raise PalateError(f"no item is left by: {', '.join(words)}", "Relax the conditions.")
    return allowed


def _kind(frame: pl.DataFrame, name: str) -> Any:
    """The type of a field's values; of a list, that of its entries."""
    kind = frame.schema[name]
    return kind.inner if isinstance(kind, pl.List) else kind


def _cell(frame: pl.DataFrame, name: str) -> pl.Expr:
    """One value of a field; of a list, one of its entries."""
    return pl.element() if isinstance(frame.schema[name], pl.List) else pl.col(name)


def _mask(frame: pl.DataFrame, one: Condition, hits: pl.Expr) -> Mask:
    """Where an expression over :func:`_cell` holds."""
    if isinstance(frame.schema[one.field], pl.List):
        hits = pl.col(one.field).list.eval(hits).list.any()
    try:
        met = frame.select(hits.fill_null(False).alias("met"))["met"]
        return np.concatenate([[False], met.to_numpy()])
    except pl.exceptions.PolarsError:
        raise PalateError(
            f"the field '{one.field}' ({frame.schema[one.field]}) cannot be filtered by", "Use a text, number or list."
        ) from None


def _one_value(frame: pl.DataFrame, one: Condition, value: str) -> Mask:
    """Where the field is a value."""
    kind, cell = _kind(frame, one.field), _cell(frame, one.field)
    if not kind.is_numeric():
        return _mask(frame, one, cell.cast(pl.String).str.to_lowercase() == value.lower())
    within = _RANGE.fullmatch(value)
    if within is None:
        return _mask(frame, one, cell == _number(frame, one, value))
    low, high = (_number(frame, one, end) for end in within.groups())
    if low > high:
        raise PalateError(f"'{one.text}': {value} is empty", f"Write {one.field}={high}..{low}.")
    return _mask(frame, one, (cell >= low) & (cell <= high))


def _compared(frame: pl.DataFrame, one: Condition) -> pl.Expr:
    kind, cell = _kind(frame, one.field), _cell(frame, one.field)
    if not kind.is_numeric():
        values = _values(frame, one.field)
        example = f", such as '{values[0][:40]}'" if len(values) else ""
        raise PalateError(
            f"'{one.text}': the field '{one.field}' holds text{example}, and {one.operator} compares numbers",
            f"Write {one.field}=VALUE, or prepare the catalogue with '{one.field}' as a column of numbers.",
        )
    number = _number(frame, one, one.value)
    held = {"<": cell < number, "<=": cell <= number, ">": cell > number, ">=": cell >= number}[one.operator]
    return held & cell.is_not_nan() if kind.is_float() else held  # polars takes NaN for the largest number


def _number(frame: pl.DataFrame, one: Condition, value: str) -> int | float:
    with suppress(ValueError):
        whole = int(value)
        if -(2**63) <= whole < 2**63:
            return whole
    with suppress(ValueError):
        if (number := float(value)) == number:
            return number
    some = next(iter(_values(frame, one.field)), "20")
    raise PalateError(
        f"'{one.text}': '{value}' is no number, and the field '{one.field}' holds numbers",
        f"Write {one.field}{one.operator}{some}, for example.",
    )


def _values(frame: pl.DataFrame, name: str) -> pl.Series:
    """All values of a field as text; the entries of lists."""
    column = frame[name]
    return (column.explode() if isinstance(column.dtype, pl.List) else column).cast(pl.String).drop_nulls()


def _values_hint(frame: pl.DataFrame, condition: str) -> str:
    """What the field of a condition holds instead: the closest value, the most frequent ones, or a range."""
    one = parse_condition(condition, frame.columns)
    values = _values(frame, one.field)
    if values.is_empty():
        return f"The field '{one.field}' is empty."
    if _kind(frame, one.field).is_numeric():
        column = frame[one.field]
        numbers = column.explode() if isinstance(column.dtype, pl.List) else column
        return f"The field holds numbers from {numbers.min()!s} to {numbers.max()!s}."
    near = near_condition(frame, condition)
    if near is not None:
        return f"Did you mean '{near}'?"
    common = values.value_counts(sort=True)[one.field].to_list()
    return f"The field holds, for example: {', '.join(common[:8])}."


def near_condition(frame: pl.DataFrame, condition: str, fields: Sequence[str] | None = None) -> str | None:
    """The condition ``FIELD=VALUE`` with the closest of the frequent values that its field has; None: none is close.

    Args:
        fields: the columns that may be named; by default all.
    """
    one = parse_condition(condition, frame.columns if fields is None else fields)
    if _kind(frame, one.field).is_numeric():
        return None
    common = _values(frame, one.field).value_counts(sort=True)[one.field].to_list()
    lower = {word.lower(): word for word in reversed(common[:_VALUES_LIMIT])}
    near = get_close_matches(one.value.lower(), lower, n=1)
    return f"{one.field}={lower[near[0]]}" if near else None
