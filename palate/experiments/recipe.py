"""The recipe of a comparison: arms, seeds, searches and curves; and the options that follow for each arm.

::

    [compare]
    dataset = "data/beauty"
    seeds = [0, 1, 2]
    base = "base"

    [train]                                # shared by arms trained from scratch: words of `palate train`
    model = "sasrec"
    [align]                                # shared by arms with `from`: words of `palate align`
    objective = "dpo"

    [arm.base]
    [arm.rodpo]
    from = "base"                          # aligned from the run of `base` with the same seed
    [arm.rodpo.search]                     # chosen on validation with the first seed
    "preference.beta" = [0.03, 0.1, 0.3]
    [arm.uniform]
    like = "rodpo"                         # what rodpo has, its chosen settings included, but for
    negatives = "uniform"

    [arm.near]
    command = "attach"                     # neighbours for the run of `base` with the same seed: `palate attach`
    from = "base"
    neighbours = "co-occurrence,lexical"

    [arm.llm]
    command = "mllm sft"                   # a language model; [mllm.sft] is shared by all of its kind
    [arm.llm-dpo]
    from = "llm"                           # `palate mllm align`; [mllm.align] is shared
    negatives = "top-k"
    retriever = "base"                     # an arm that ranks the catalogue

    [curve.pool-k]
    arm = "rodpo"
    setting = "pool-k"
    values = [1, 10, 100, "all"]
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from palate.config import Config
from palate.experiments.space import Space

Table = dict[str, Any]
# Switches a part off, and needs no settings.
_NOTHING = "none"
BLEND = "blend"


class CompareTable(Config):
    """The table ``[compare]``.

    Attributes:
        dataset: folder made by ``palate prepare``.
        seeds: of the final runs; the first one is that of the trials.
        base: the arm that the others are compared with (default: the first).
        trials: at most, for each arm that has a search table.
        family: the arms over which p-values are adjusted (default: all but the base).
        split: what the table is made on.
    """

    dataset: str | None = None
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2], min_length=1)
    base: str | None = None
    trials: int = Field(12, ge=1)
    family: list[str] | None = None
    split: Literal["valid", "test"] = "test"

    @field_validator("seeds")
    @classmethod
    def _different(cls, seeds: list[int]) -> list[int]:
        if min(seeds) < 0 or len(set(seeds)) != len(seeds):
            raise ValueError("seeds are different whole numbers of at least 0")
        return seeds


class Curve(Config):
    """A table ``[curve.NAME]``: the primary metric on validation over one setting of an arm.

    Attributes:
        arm: whose other settings, chosen ones included, stay as they are.
        setting: an option of the arm's command, or ``section.key``.
        values: what it is set to; a word such as ``all`` stands at the right end of the axis.
        seeds: (default: the first of the comparison).
        scale: of the axis.
    """

    arm: str
    setting: str
    values: list[bool | int | float | str] = Field(min_length=1)
    seeds: list[int] | None = Field(None, min_length=1)
    scale: Literal["linear", "log"] = "linear"

    comma_lists: ClassVar[bool] = False  # numbers and words alike: only TOML says which

    @field_validator("values", "seeds")
    @classmethod
    def _different(cls, values: list[Any] | None) -> list[Any] | None:
        if values is not None and len({str(one) for one in values}) != len(values):
            raise ValueError("a value occurs twice")
        return values


@dataclass(frozen=True)
class Arm:
    """One row of the table.

    Attributes:
        start: the arm that it is aligned from, or None where it is trained from scratch.
        like: the arm whose options it takes over.
        own: its own options and sections, as written.
        shared: whether the shared table of its command is below them.
        search: option or ``section.key`` -> what to try.
        command: ``train``, ``attach``, ``align``, ``blend``, ``mllm sft`` or ``mllm align``.
        blend: the arms whose runs it blends.
    """

    name: str
    start: str | None = None
    like: str | None = None
    own: Table = field(default_factory=dict)
    shared: bool = True
    search: dict[str, Space] = field(default_factory=dict)
    command: str = "train"
    blend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A comparison, read and checked for itself; options are checked by who knows the commands.

    Attributes:
        arms: by name, in the order of the file.
        shared: tables of options by command.
        evaluate: the table ``[evaluate]``.
        digest: of the file's bytes.
    """

    path: Path
    compare: CompareTable
    arms: dict[str, Arm]
    curves: dict[str, Curve]
    shared: dict[str, Table]
    evaluate: Table
    digest: str

    @property
    def base(self) -> str:
        return self.compare.base or next(iter(self.arms))

    @property
    def family(self) -> list[str]:
        values = self.compare.family
        return [name for name in self.arms if name != self.base] if values is None else list(dict.fromkeys(values))

    def options(self, name: str, chosen: Mapping[str, Mapping[str, Any]]) -> Table:
        """All options of an arm: the shared ones or those of its model, its own over them, the chosen over all."""
        arm = self.arms[name]
        shared = self.shared[arm.command] if arm.shared else {}
        below = self.options(arm.like, chosen) if arm.like else shared
        found = override(merged(below, arm.own), chosen.get(name, {}))
        return {key: _with_settings(value, shared.get(key)) for key, value in found.items()}

    def parents_of(self, name: str, seed: int) -> list[tuple[str, int]]:
        """Arm and seed of every run that an arm starts from: one, or the parts of a blend, or none.

        An arm that is named again by a blend gives its run of the next seed of the comparison, the first one after the
        last.
        """
        seeds, found = self.compare.seeds, []
        for place, arm in enumerate(self.arms[name].blend):
            later = self.arms[name].blend[:place].count(arm)
            within = seeds[(seeds.index(seed) + later) % len(seeds)] if seed in seeds else seed + later
            found.append((arm, within))
        start = self.arms[name].start
        return [(start, seed)] if start else found

    def retriever_of(self, name: str, table: Table) -> str | None:
        """The arm that proposes items to an alignment of a language model; None where it is no arm, or none at all."""
        named = table.get("retriever")
        return named if self.arms[name].command == "mllm align" and named in self.arms else None

    def choices_of(self, name: str) -> list[str]:
        """The arms whose searches decide an arm's options: itself and those it is like."""
        arm = self.arms[name]
        return [*(self.choices_of(arm.like) if arm.like else []), *([name] if arm.search else [])]


def _with_settings(value: Any, shared: Any) -> Any:
    """A choice with the shared settings that belong to no choice in particular.

    >>> _with_settings("text", {"keep": 300}), _with_settings({"name": "text", "keep": 50}, {"keep": 300, "lags": 3})
    ({'keep': 300, 'name': 'text'}, {'keep': 50, 'lags': 3, 'name': 'text'})
    >>> _with_settings("none", {"keep": 300}), _with_settings("dpo", {"name": "ipo", "beta": 1})
    ('none', 'dpo')
    """
    if not isinstance(shared, Mapping) or "name" in shared or value == _NOTHING:
        return value
    own = {"name": value} if isinstance(value, str) else value
    return merged(shared, own) if isinstance(own, Mapping) else value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    """``above`` over ``below``: tables key by key, anything else replaces. ``x = "a"`` counts as ``x = {name = "a"}``
    where the other is a table; another word takes the settings of the first one with it.

    >>> merged({"objective": "dpo", "negatives": {"k": 1}}, {"objective": {"beta": 0.1}, "negatives": {"p": 2}})
    {'objective': {'name': 'dpo', 'beta': 0.1}, 'negatives': {'k': 1, 'p': 2}}
    """
    result = deepcopy(dict(below))
    for key, value in above.items():
        under = result.get(key)
        if isinstance(value, Mapping):
            if isinstance(under, str):
                under = {"name": under}
            result[key] = merged(under, value) if isinstance(under, Mapping) else deepcopy(dict(value))
        else:
            result[key] = deepcopy(value)
    return result


def dashed(table: Mapping[str, Any]) -> Table:
    """Options are spelt with dashes; ``pool_k`` is the same option. Sections and their settings stay as they are."""
    return {key if isinstance(value, Mapping) else key.replace("_", "-"): value for key, value in table.items()}


def setting_name(name: str) -> str:
    """``pool-k`` for the option ``pool_k``; ``section.key`` stays as it is."""
    return name if "." in name else name.replace("_", "-")


def override(table: Mapping[str, Any], values: Mapping[str, Any]) -> Table:
    """A table with single settings set, each an option or ``section.key``.

    >>> override({"pool-k": 5, "trainer": {"epochs": 3}}, {"pool-k": 10, "trainer.ema": 0.9})
    {'pool-k': 10, 'trainer': {'epochs': 3, 'ema': 0.9}}
    """
    result = dict(table)
    for name, value in values.items():
        nested: Any = value
        for part in reversed(setting_name(name).split(".")):
            nested = {part: nested}
        result = merged(result, nested)
    return result
