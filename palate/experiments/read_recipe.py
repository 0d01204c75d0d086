"""Reading a comparison's recipe: its tables and names exist, and every arm leads back to one from scratch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from palate.errors import PalateError, suggest
from palate.experiments.recipe import BLEND, Arm, CompareTable, Curve, Recipe, Table, dashed, setting_name
from palate.experiments.space import read_spaces
from palate.storage.files import digest
from palate.storage.toml import read_toml

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TABLES = ("compare", "train", "attach", "align", "blend", "mllm", "evaluate", "arm", "curve")
_MLLM = ("warm-up", "sft", "zero-shot", "align", "audit", "merge", "probe")
# The command that continues the runs of another, and those that start from scratch.
_NEXT = {"train": "align", "mllm sft": "mllm align", "mllm align": "mllm align", "align": "align", "attach": "align"}
_FIRST = ("train", "mllm sft")
# What continues the run of a ranker instead, where an arm names it.
_ATTACH = "attach"
# Made by a command whose runs rank the whole catalogue, so that they can be parts of a blend.
_BLENDABLE = ("train", "attach", "align")


def read_recipe(path: Path | str, also: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        also: names of tables that belong to other commands and are left alone.

    Raises:
        PalateError: anything that is wrong by itself; options of commands are not checked here.
    """
    path = Path(path)
    tables = read_toml(path)
    _check_tables(tables, path, also)
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
        slow = next((other for other in arm.blend if arms[other].command not in _BLENDABLE), None)
        if slow is not None:
            where = f"{path} [arm.{arm.name}]"
            raise PalateError(f"{where}: 'blend' names '{slow}', a language model", "Name arms that are fast.")
    curves = {name: _curve(name, table, arms, path) for name, table in tables.get("curve", {}).items()}
    shared = {name: dashed(_table(tables, name)) for name in (*_NEXT, BLEND)}
    _check_evaluate(tables.get("evaluate", {}), path)
    recipe = Recipe(path, compare, arms, curves, shared, dashed(tables.get("evaluate", {})), digest(path.read_bytes()))
    for key, names in (("base", [recipe.base]), ("family", recipe.family)):
        for name in names:
            if name not in arms:
                raise PalateError(f"{path} [compare]: '{key}' names no arm: '{name}'", suggest(name, arms))
    if recipe.base in recipe.family:
        raise PalateError(f"{path} [compare]: the base '{recipe.base}' is in the family", "Leave it out.")
    return recipe


def _check_evaluate(table: Mapping[str, Any], path: Path) -> None:
    """Refuse what `palate evaluate` offers for finished runs only."""
    if table.get("retriever"):
        raise PalateError(
            f"{path} [evaluate]: a comparison has no cascades",
            "Leave out 'retriever'; `palate evaluate` takes it with finished runs.",
        )
    if table.get("engine", "local") != "local":
        raise PalateError(
            f"{path} [evaluate]: a comparison is evaluated in one process",
            "Leave out 'engine'; `palate evaluate` takes it.",
        )


def _check_tables(tables: Mapping[str, Any], path: Path, also: Sequence[str]) -> None:
    """Refuse what is unknown or no table."""
    for name in tables:
        if name not in (*_TABLES, *also):
            raise PalateError(f"{path}: unknown table [{name}]", suggest(name, _TABLES))
    for name in tables.get("mllm", {}) if isinstance(tables.get("mllm", {}), dict) else ():
        if name not in _MLLM:
            raise PalateError(f"{path}: unknown table [mllm.{name}]", suggest(name, _MLLM))
    for name in _TABLES:
        if not isinstance(tables.get(name, {}), dict):
            raise PalateError(f"{path}: '{name}' is not a table", f"Write [{name}].")


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
    spaces = {setting_name(key): space for key, space in read_spaces(search, f"{where}: search").items()}
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
    curve = curve.model_copy(update={"setting": setting_name(curve.setting)})
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
        own = _NEXT[_command(arms[arm.start], arms, path)]
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
