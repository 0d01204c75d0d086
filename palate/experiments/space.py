"""The values that a search tries for one setting: a few choices, or an interval of numbers.

::

    [arm.sasrec.search]
    "ranker.norm" = ["pre", "post"]                                    # or { choices = ["pre", "post"] }
    "ranker.dropout" = { low = 0.1, high = 0.6, step = 0.1 }
    "trainer.learning_rate" = { low = 1e-4, high = 3e-3, log = true }
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from palate.config import Config
from palate.errors import PalateError


class Choices(Config):
    """One of a few values."""

    choices: list[bool | int | float | str] = Field(min_length=1)

    comma_lists: ClassVar[bool] = False  # numbers and words alike: only TOML says which

    def ends(self) -> list[Any]:
        """What has to be allowed, so that everything between is."""
        return list(self.choices)

    def values(self) -> list[Any] | None:
        """All values, or None where they cannot be listed."""
        return list(self.choices)


class Interval(Config):
    """Numbers from ``low`` to ``high`` (whole ones where both are whole), in steps, or evenly in their logarithm."""

    low: int | float
    high: int | float
    step: int | float | None = None
    log: bool = False

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        if self.log and self.low <= 0:
            raise ValueError("a logarithm needs low > 0")
        if self.step is not None and self.step <= 0:
            raise ValueError("step must be above 0")
        return self

    @property
    def whole(self) -> bool:
        numbers = [self.low, self.high, *([self.step] if self.step is not None else [])]
        return all(isinstance(number, int) for number in numbers)

    def ends(self) -> list[Any]:
        """What has to be allowed, so that everything between is."""
        return [self.low, self.high]

    def values(self) -> list[Any] | None:
        """All values, or None where they are a continuum."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        values = [self.low + n * step for n in range(math.floor((self.high - self.low) / step + 1e-9) + 1)]
        return values if self.whole else [round(value, 12) for value in values]


Space = Choices | Interval


def read_spaces(table: Mapping[str, Any], where: str) -> dict[str, Space]:
    """The spaces of a search table by the name of their setting; ``ranker.dropout`` may be written without quotes.

    Raises:
        PalateError: naming ``where`` and the setting.
    """
    return {name: _read_space(entry, f"{where} '{name}'") for name, entry in _flat(table).items()}


def _read_space(entry: Any, where: str) -> Space:
    if isinstance(entry, Choices | Interval):
        return entry
    if isinstance(entry, list):
        entry = {"choices": entry}
    if not isinstance(entry, Mapping):
        remedy = "Write a list of choices or {low = ..., high = ...}; fixed values go above."
        raise PalateError(f"{where} is {entry!r}", remedy)
    kind: type[Choices] | type[Interval] = Choices if "choices" in entry else Interval
    return kind.parse(entry, where=where)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A table inside of the table is a section of settings, unless it is a space."""
    rows: dict[str, Any] = {}
    for key, value in table.items():
        section = isinstance(value, Mapping) and value and not {"low", "high", "choices"} & set(value)
        rows |= _flat(value, f"{prefix}{key}.") if section else {f"{prefix}{key}": value}
    return rows


def grid_of(spaces: Mapping[str, Space], most: int) -> list[dict[str, Any]] | None:
    """All combinations, the last setting varying fastest; None where there are more than ``most`` or endlessly many.

    >>> grid_of({"k": Choices(choices=[1, 2]), "p": Choices(choices=[0.5])}, 12)
    [{'k': 1, 'p': 0.5}, {'k': 2, 'p': 0.5}]
    """
    axes = [space.values() for space in spaces.values()]
    listed = [axis for axis in axes if axis is not None]
    if len(listed) < len(axes) or math.prod(map(len, listed)) > most:
        return None
    return [dict(zip(spaces, values, strict=True)) for values in itertools.product(*listed)]
