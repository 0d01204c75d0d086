"""What a comparison recipe says: arms, seeds, searches, curves; that its names exist and its arms lead somewhere.

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

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from palate.config import Config
from palate.errors import PalateError, suggest
from palate.experiments.space import Space, read_spaces
from palate.storage.files import digest
from palate.storage.toml import read_toml

Table = dict[str, Any]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TABLES = ("compare", "train", "attach", "align", "blend", "mllm", "evaluate", "arm", "curve")
# What an arm from scratch is made by, and what continues it.
NEXT = {"train": "align", "mllm sft": "mllm align", "mllm align": "mllm align", "align": "align", "attach": "align"}
_FIRST = ("train", "mllm sft")
# What a ranker's run may be continued by instead, where an arm says so.
_ATTACH = "attach"
BLEND = "blend"
# Made by a command whose runs rank the whole catalogue, so that they can be parts of a blend.
_BLENDABLE = ("train", "attach", "align")
_MLLM = ("warm-up", "sft", "zero-shot", "align", "audit", "merge", "probe")


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
        return override(merged(below, arm.own), chosen.get(name, {}))

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


def read_recipe(path: Path | str, also: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        also: names of tables that belong to other commands and are left alone.

    Raises:
        PalateError: anything that makes no sense by itself; options of commands are not looked at here.
    """
    path = Path(path)
    tables = read_toml(path)
    for name in tables:
        if name not in (*_TABLES, *also):
            raise PalateError(f"{path}: unknown table [{name}]", suggest(name, _TABLES))
    for name in tables.get("mllm", {}) if isinstance(tables.get("mllm", {}), dict) else ():
        if name not in _MLLM:
            raise PalateError(f"{path}: unknown table [mllm.{name}]", suggest(name, _MLLM))
    for name in _TABLES:
        if not isinstance(tables.get(name, {}), dict):
            raise PalateError(f"{path}: '{name}' is not a table", f"Write [{name}].")
    compare = CompareTable.parse(tables.get("compare", {}), where=f"{path} [compare]")
    if not tables.get("arm"):
        raise PalateError(f"{path} has no arms", "Give each thing to compare a table [arm.NAME].")
    arms = {name: _arm(name, table, path) for name, table in tables["arm"].items()}
    for name, arm in arms.items():
        for key, other in (("from", arm.start), ("like", arm.like)):
            if other is not None and other not in arms:
                raise PalateError(f"{path} [arm.{name}]: '{key}' names no arm: '{other}'", suggest(other, arms))
    _refuse_cycles(arms, path)
    for arm in arms.values():
        _check_blend(arm, arms, compare.seeds, path)
    arms = {name: _with_start(arm, arms, path) for name, arm in arms.items()}
    arms = {name: replace(arm, command=_command(arm, arms, path)) for name, arm in arms.items()}
    for arm in arms.values():
        for other in arm.blend:
            if arms[other].command not in _BLENDABLE:
                raise PalateError(
                    f"{path} [arm.{arm.name}]: 'blend' names '{other}', a language model", "Name arms that are fast."
                )
    curves = {name: _curve(name, table, arms, path) for name, table in tables.get("curve", {}).items()}
    shared = {name: dashed(_table(tables, name)) for name in (*NEXT, BLEND)}
    recipe = Recipe(path, compare, arms, curves, shared, dashed(tables.get("evaluate", {})), digest(path.read_bytes()))
    for key, names in (("base", [recipe.base]), ("family", recipe.family)):
        for name in names:
            if name not in arms:
                raise PalateError(f"{path} [compare]: '{key}' names no arm: '{name}'", suggest(name, arms))
    if recipe.base in recipe.family:
        raise PalateError(f"{path} [compare]: the base '{recipe.base}' is in the family", "Leave it out.")
    return recipe


def _arm(name: str, table: Any, path: Path) -> Arm:
    where = f"{path} [arm.{name}]"
    if not isinstance(table, dict):
        raise PalateError(f"{where} is not a table", f"Write [arm.{name}].")
    _check_name(name, where)
    own = dashed(table)
    search = own.pop("search", {})
    words = {key: own.pop(key, None) for key in ("from", "like")}
    command = own.pop("command", None)
    blend = own.pop(BLEND, [])
    if not isinstance(blend, list) or len(blend) == 1 or not all(isinstance(one, str) for one in blend):
        raise PalateError(f"{where}: 'blend' is {blend!r}", 'Write a list of two arms or more: blend = ["a", "b"].')
    if blend and (command or words["from"] or words["like"]):
        raise PalateError(f"{where}: a blend is made of its arms alone", "Leave out 'command', 'from' and 'like'.")
    if command is not None and command not in (*_FIRST, _ATTACH):
        raise PalateError(f"{where}: 'command' is {command!r}", suggest(str(command), (*_FIRST, _ATTACH)))
    if command == _ATTACH and not words["from"]:
        raise PalateError(f"{where}: neighbours are attached to a run", "Name its arm: from = ...")
    if command is not None and command != _ATTACH and (words["from"] or words["like"]):
        raise PalateError(f"{where}: 'command' is decided by 'from' and 'like'", "Leave it out.")
    for key, other in words.items():
        if other is not None and not isinstance(other, str):
            raise PalateError(f"{where}: '{key}' is {other!r}", "Give the name of an arm.")
    shared = own.pop("shared", True)
    if not isinstance(shared, bool):
        raise PalateError(f"{where}: 'shared' is {shared!r}", "Write false to leave out what the arms share.")
    if not shared and words["like"]:
        raise PalateError(f"{where}: 'shared' and 'like' exclude each other", "Leave one of them out.")
    if not isinstance(search, dict):
        raise PalateError(f"{where}: 'search' is {search!r}", f"Write a table [arm.{name}.search].")
    spaces = {_setting(key): space for key, space in read_spaces(search, f"{where}: search").items()}
    made_by = BLEND if blend else command or "train"
    return Arm(name, words["from"], words["like"], own, shared, spaces, made_by, tuple(blend))


def _check_blend(arm: Arm, arms: Mapping[str, Arm], seeds: Sequence[int], path: Path) -> None:
    """Refuse a blend of what is no arm or a blend itself, and an arm that goes on from a blend."""
    where = f"{path} [arm.{arm.name}]"
    for other in arm.blend:
        if other not in arms:
            raise PalateError(f"{where}: 'blend' names no arm: '{other}'", suggest(other, arms))
        if arms[other].blend:
            raise PalateError(f"{where}: 'blend' names '{other}', a blend itself", "Name its arms in its place.")
        if arm.blend.count(other) > len(seeds):
            raise PalateError(
                f"{where}: 'blend' names '{other}' {arm.blend.count(other)} times, with {len(seeds)} seeds",
                "Each time stands for another seed: give [compare] more of them.",
            )
    for start in (arm.start, arm.like):
        if start is not None and arms[start].blend:
            raise PalateError(f"{where}: nothing goes on from '{start}', which is a blend", "Start from its arms.")


def _curve(name: str, table: Any, arms: Mapping[str, Arm], path: Path) -> Curve:
    where = f"{path} [curve.{name}]"
    _check_name(name, where)
    if not isinstance(table, dict):
        raise PalateError(f"{where} is not a table", f"Write [curve.{name}].")
    curve = Curve.parse(table, where=where)
    if curve.arm not in arms:
        raise PalateError(f"{where}: 'arm' names no arm: '{curve.arm}'", suggest(curve.arm, arms))
    curve = curve.model_copy(update={"setting": _setting(curve.setting)})
    if curve.scale == "log" and any(not isinstance(v, str) and v <= 0 for v in curve.values):
        raise PalateError(f"{where}: a logarithmic axis has no place for 0 or less", 'Use scale = "linear".')
    return curve


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise PalateError(f"{where}: names become folders", "Use letters, digits, '-', '_', '+' and '.'.")


def _refuse_cycles(arms: Mapping[str, Arm], path: Path) -> None:
    for name in arms:
        trail = [name]
        waiting = [(name, trail)]
        while waiting:
            here, trail = waiting.pop()
            for other in (arms[here].start, arms[here].like):
                if other == name:
                    raise PalateError(
                        f"{path} [arm.{name}] leads back to itself: {' -> '.join([*trail, name])}",
                        "Let one of them start from scratch.",
                    )
                if other is not None and other not in trail:
                    waiting.append((other, [*trail, other]))


def _with_start(arm: Arm, arms: Mapping[str, Arm], path: Path) -> Arm:
    """An arm that is like an aligned one starts where that one starts, unless it says otherwise."""
    if arm.like is None:
        return arm
    other = _with_start(arms[arm.like], arms, path)
    if arm.start is not None and other.start is None:
        raise PalateError(
            f"{path} [arm.{arm.name}] is aligned, and '{other.name}', which it is like, is trained from scratch",
            "Leave out 'from' or 'like'.",
        )
    return replace(arm, start=arm.start or other.start)


def _command(arm: Arm, arms: Mapping[str, Arm], path: Path) -> str:
    """By which command an arm is made: that of the arm it is like, or what continues that of the arm it starts from."""
    if arm.start is not None:
        own = NEXT[_command(arms[arm.start], arms, path)]
        if own == "align" and _ATTACH in (arm.command, arms[arm.like].command if arm.like else None):
            own = _ATTACH
        if arm.like is not None and _command(arms[arm.like], arms, path) != own:
            raise PalateError(
                f"{path} [arm.{arm.name}] is made by `palate {own}`, and '{arm.like}', which it is like, is not",
                "Leave out 'like', or start from an arm of its kind.",
            )
        return own
    return arm.command if arm.like is None else _command(arms[arm.like], arms, path)


def _table(tables: Mapping[str, Any], command: str) -> Table:
    """The shared options of a command: those of ``mllm sft`` stand in ``[mllm.sft]``."""
    found: Any = tables
    for word in command.split():
        found = found.get(word, {})
    return found if isinstance(found, dict) else {}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> Table:
    """``above`` over ``below``: tables key by key, anything else replaces. ``x = "a"`` counts as ``x = {name = "a"}``
    where the other is a table.

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


def _setting(name: str) -> str:
    return name if "." in name else name.replace("_", "-")


def override(table: Mapping[str, Any], values: Mapping[str, Any]) -> Table:
    """A table with single settings set, each an option or ``section.key``.

    >>> override({"pool-k": 5, "trainer": {"epochs": 3}}, {"pool-k": 10, "trainer.ema": 0.9})
    {'pool-k': 10, 'trainer': {'epochs': 3, 'ema': 0.9}}
    """
    result = dict(table)
    for name, value in values.items():
        nested: Any = value
        for part in reversed(_setting(name).split(".")):
            nested = {part: nested}
        result = merged(result, nested)
    return result
