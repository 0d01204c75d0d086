"""What a shell completes: options of a command and the values they can have, kept on disk so that a TAB is quick.

Options that come from a Config need its module, and with it perhaps torch. That is worth a second when a command runs,
and too much for a TAB: what was found once is read from a file until the command's modules change.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

import palate
from palate.storage.cache import cache_folder

COMPLETE = "_PALATE_COMPLETE"
# Registries by the parameters that take a name from them; elsewhere the choices stand in an option's metavar.
_NAMES = {
    "prepare.reader": "palate.data.readers:READERS",
    "train.model": "palate.rankers.registry:RANKERS",
    "train.objective": "palate.objectives:OBJECTIVES",
    "align.objective": "palate.objectives:PREFERENCES",
    "align.negatives": "palate.negatives:NEGATIVES",
    "encode.text": "palate.features.encoders:ENCODERS",
    "encode.image": "palate.features.encoders:ENCODERS",
    "evaluate.metrics": "palate.evaluation.metrics:METRICS",
    "report.metrics": "palate.evaluation.metrics:METRICS",
}
_WORDS = {
    "models.action": ["list", "install"],
    "train.modalities": ["auto", "id", "text", "image", "fields"],
    "train.neighbours": ["auto", "none", "co-occurrence", "lexical", "text", "image"],
    "attach.neighbours": ["co-occurrence", "lexical", "text", "image"],
    "neighbours.source": ["co-occurrence", "lexical", "text", "image"],
    "evaluate.candidates": ["uniform", "popularity"],
    "report.candidates": ["uniform", "popularity"],
}
# Names that are made by commands of their own.
_NOT = {"train.model": ("blend", "mllm")}
_DEVICES = ["auto", "cpu", "cuda", "mps"]


class KnownOption(NamedTuple):
    """What completion knows of a parameter; ``names`` is empty for an argument, ``several``: values between commas."""

    name: str
    names: list[str]
    off: list[str]
    flag: bool
    multiple: bool
    help: str
    values: list[str]
    several: bool


def completing() -> bool:
    """Whether a shell asks what could come next."""
    return COMPLETE in os.environ


@contextmanager
def shell_completion() -> Iterator[None]:
    """As if a shell asked."""
    before = os.environ.setdefault(COMPLETE, "")
    try:
        yield
    finally:
        if not before:
            del os.environ[COMPLETE]


def completion_parameters(function: Callable[..., Any], make: Callable[[], list[Any]]) -> list[Any]:
    """Parameters of a command that only completion may use.

    Args:
        function: the command's.
        make: its real parameters; called where nothing is known of them, or what is known is of older modules.
    """
    own = _own(function)
    path = cache_folder() / "completion" / f"{own.__module__}.{own.__name__}.json"
    stamp = _stamp(function)
    with suppress(OSError, ValueError, TypeError, KeyError):
        found = json.loads(path.read_text("utf-8"))
        if found["stamp"] == stamp:
            return _parameters([KnownOption(*one) for one in found["options"]])
    known = [_known(function.__name__, one) for one in make() if one.name not in ("help",)]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps({"stamp": stamp, "options": known}), "utf-8")
        part.replace(path)
    return _parameters(known)


def _stamp(function: Callable[..., Any]) -> list[str]:
    """The version, and the times of the files that the options come from."""
    modules = [_own(function).__module__, __name__, *(group.config.partition(":")[0] for group in _groups(function))]
    root = Path(palate.__file__).parent.parent
    files = [root / f"{name.replace('.', '/')}.py" for name in dict.fromkeys(modules)]
    return [palate.__version__, *(f"{file.name} {file.stat().st_mtime_ns}" for file in files if file.is_file())]


def _own(function: Any) -> Any:
    """The function that is written in the command's module, without what adds options to it."""
    return getattr(function, "function", function)


def _groups(function: Any) -> Any:
    return getattr(function, "groups", ())


def _known(command: str, parameter: Any) -> KnownOption:
    option = parameter.param_type_name == "option"
    metavar = str(parameter.metavar or "")
    return KnownOption(
        str(parameter.name),
        list(parameter.opts) if option else [],
        list(parameter.secondary_opts),
        bool(getattr(parameter, "is_flag", False)),
        bool(parameter.multiple) or parameter.nargs == -1,
        str(getattr(parameter, "help", "") or ""),
        _values(f"{command}.{parameter.name}", metavar),
        "," in metavar and not metavar.startswith("{"),
    )


def _values(name: str, metavar: str) -> list[str]:
    """Names from a registry, or the choices of a metavar such as ``{full,sampled}``."""
    if name in _NAMES:
        module, _, attribute = _NAMES[name].partition(":")
        with suppress(Exception):  # a plug-in that is broken is no reason to complete nothing at all
            return [one for one in getattr(import_module(module), attribute) if one not in _NOT.get(name, ())]
    if name.endswith(".device"):
        return _DEVICES
    if name in _WORDS:
        return _WORDS[name]
    braces = re.fullmatch(r"\{(.+)\}", metavar)
    return [word for word in braces[1].split(",") if not word.isupper()] if braces else []


def _parameters(known: list[KnownOption]) -> list[Any]:
    """What typer makes of options that complete, and do nothing else."""
    made = []
    for one in known:
        kind: Any = bool if one.flag else (list[str] if one.multiple else str)
        info: Any
        if one.names:
            declared = ["/".join([name, *one.off]) if name.startswith("--") else name for name in one.names]
            info = typer.Option(*declared, help=one.help, autocompletion=None if one.flag else _complete(one))
        else:
            info = typer.Argument(help=one.help, autocompletion=_complete(one))
        annotation = Annotated[kind | None, info]
        made.append(inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))

    def holder(**values: Any) -> None: ...

    holder.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    holder.__annotations__ = {}
    app = typer.Typer(add_completion=False)
    app.command()(holder)
    return list(typer.main.get_command(app).params)


def _complete(one: KnownOption) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if one.several else ("", "", incomplete)
        taken = before.split(",")
        return [f"{before}{comma}{value}" for value in one.values if value.startswith(last) and value not in taken]

    return complete
