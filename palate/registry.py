"""Named parts that users can choose and add to: readers, encoders, rankers, objectives, metrics.

A part is one file and one line. Inside Palate the line is an entry in the room's own table; in a user's
package it is an entry point of the group ``palate.<kind>``::

    [project.entry-points."palate.rankers"]
    my-ranker = "my_package.my_ranker:MyRanker"
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from palate.errors import PalateError, suggest

if TYPE_CHECKING:
    from pydantic import ValidationInfo


class Registry:
    """Name -> part, loaded on first use so that heavy imports wait until they are needed.

    Args:
        kind: Plural noun; also the entry-point group's last word, e.g. ``"rankers"``.
        builtin: Name -> ``"module:attribute"``, or the part itself where it is light.
        noun: What one part is called in messages; ``kind`` without its last letter if it is left out.

    >>> Registry("metrics", {"pi": "math:pi"})["pi"]
    3.141592653589793
    """

    def __init__(self, kind: str, builtin: Mapping[str, Any], noun: str | None = None) -> None:
        self.kind, self.noun = kind, noun or kind[:-1]
        self._builtin = dict(builtin)
        self._local: dict[str, Any] = {}

    def register(self, name: str, part: Any) -> None:
        """Add a part from Python, for this process (a notebook, a test)."""
        self._local[name] = part

    def _targets(self) -> dict[str, Any]:
        plugins = _plugins(f"palate.{self.kind}", tuple(sys.path))
        clash = sorted(set(plugins) & set(self._builtin))
        if clash:
            raise PalateError(
                f"the plug-in {plugins[clash[0]].value!r} takes the name of the built-in {self.noun} {clash[0]!r}",
                "Rename its entry point.",
            )
        return {**self._builtin, **plugins, **self._local}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._targets()))

    def __contains__(self, name: object) -> bool:
        return name in self._targets()

    def __getitem__(self, name: str) -> Any:
        targets = self._targets()
        if name not in targets:
            raise PalateError(f"there is no {self.noun} named '{name}'", suggest(name, targets))
        target = targets[name]
        if isinstance(target, str):
            module, _, attribute = target.partition(":")
            return getattr(import_module(module), attribute)
        return target.load() if hasattr(target, "load") and hasattr(target, "group") else target


@lru_cache
def _plugins(group: str, path: tuple[str, ...]) -> dict[str, EntryPoint]:
    """Entry points by name; looking through all installed packages takes milliseconds, so once for each search path."""
    return {point.name: point for point in entry_points(group=group)}


class NameIn:
    """Marks a field of a :class:`~palate.config.Config` as the name of a part:
    ``fusion: Annotated[str, NameIn(FUSIONS)] = "sum"``.

    Args:
        registry: where the part is.
        fits: whether a part can be used here; None: every one can.

    >>> NameIn(Registry("metrics", {"pi": "math:pi", "e": "math:e"}), lambda number: number > 3).check("e")
    Traceback (most recent call last):
        ...
    palate.errors.PalateError: the metric 'e' cannot be used here. Choose pi.
    """

    def __init__(self, registry: Registry, fits: Callable[[Any], bool] | None = None) -> None:
        self.registry, self.fits = registry, fits

    @property
    def choices(self) -> list[str]:
        """The names that can be used here; they may load the parts."""
        return [name for name in self.registry if self.fits is None or self.fits(self.registry[name])]

    def check(self, name: str) -> str:
        """The name itself.

        Raises:
            PalateError: there is no such part, or it cannot be used here.
        """
        if self.fits is not None or name not in self.registry:
            part = self.registry[name]
            if self.fits is not None and not self.fits(part):
                raise PalateError(
                    f"the {self.registry.noun} '{name}' cannot be used here", f"Choose {', '.join(self.choices)}."
                )
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.with_info_after_validator_function(self._check_field, handler(source))

    def _check_field(self, name: str, info: ValidationInfo) -> str:
        try:
            return self.check(name)
        except PalateError as error:
            raise PalateError(f"'{info.field_name}': {error.message}", error.remedy) from None
