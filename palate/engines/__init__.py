"""Where work in pieces is done: in this process, or by workers of a Ray cluster. An engine is one file and one line
here, or an entry point of the group ``palate.engines``: a class of :class:`palate.engines.base.Engine` whose parameters
are the options that it has."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from palate.engines.base import Engine
from palate.errors import PalateError
from palate.registry import Registry

ENGINES: Registry[Callable[..., Engine]] = Registry(
    "engines",
    {
        "local": "palate.engines.local:LocalEngine",
        "ray": "palate.engines.ray_engine:RayEngine",
    },
)


def make_engine(name: str = "local", **options: Any) -> Engine:
    """The engine of a name; nothing is started yet.

    Args:
        options: as the engine takes them (``address``, ``workers`` ...); those that are None have its own default.

    Raises:
        PalateError: no such engine, an option that it does not have, or a library that is not installed.
    """
    kind = ENGINES[name]
    chosen = {option: value for option, value in options.items() if value is not None}
    accepted = inspect.signature(kind).parameters
    for option in chosen:
        if option not in accepted:
            raise PalateError(
                f"the engine '{name}' has no option --{option.replace('_', '-')}", "Leave it out, or give --engine ray."
            )
    return kind(**chosen)
