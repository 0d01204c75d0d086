"""Named parts that users can choose and add to: readers, encoders, rankers, objectives, metrics.

A part is one file and one line. Inside Palate the line is an entry in the room's own table; in a user's
package it is an entry point of the group ``palate.<kind>``::

    [project.entry-points."palate.rankers"]
    my-ranker = "my_package.my_ranker:MyRanker"
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from palate.errors import PalateError, suggest

if TYPE_CHECKING:
    from pydantic import ValidationInfo


Part = TypeVar("Part")


class Registry(Generic[Part]):
    """Name -> part, loaded on first use so that heavy imports wait until they are needed.

    Args:
        kind: Plural noun; also the entry-point group's last word, e.g. ``"rankers"``.
        builtin: Name -> ``"module:attribute"``, or the part itself where it is light.
        noun: What one part is called in messages; ``kind`` without its last letter if it is left out.
        check: Called with a name and its part before the part is given out: refuses what a plug-in must not be.

    >>> constants: Registry[float] = Registry("constants", {"pi": "math:pi"})
    >>> constants["pi"]
    3.141592653589793
    """

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, Part | str],
        noun: str | None = None,
        check: Callable[[str, Part], None] | None = None,
    ) -> None:
        self.kind, self.noun, self._check = kind, noun or kind[:-1], check
        self._builtin = dict(builtin)
        self._local: dict[str, Part | str] = {}

    def register(self, name: str, part: Part | str) -> None:
        """Add a part from Python, for this process (a notebook); one that was added in this way is replaced.

        Raises:
            PalateError: a built-in part or a plug-in has this name.
        """
        other = {**self._builtin, **self._plugins()}.get(name)
        if other is not None:
            owner = "the built-in" if name in self._builtin else "a plug-in's"
            raise PalateError(
                f"'{address_of(part)}' takes the name of {owner} {self.noun} '{name}' ('{address_of(other)}')",
                "Register it under another name.",
            )
        self._local[name] = part

    @contextmanager
    def registered(self, name: str, part: Part | str) -> Iterator[None]:
        """:meth:`register` for a ``with`` block (a test): afterwards the registry is as it was before."""
        before = dict(self._local)
        self.register(name, part)
        try:
            yield
        finally:
            self._local = before

    def _plugins(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in _entry_points(f"palate.{self.kind}", tuple(sys.path)):
            if point.name in self._builtin:
                raise PalateError(
                    f"the plug-in '{point.value}' takes the name of the built-in {self.noun} '{point.name}'",
                    "Rename its entry point.",
                )
            other = found.setdefault(point.name, point)
            if other.value != point.value:
                raise PalateError(
                    f"the plug-ins '{other.value}' and '{point.value}' are both the {self.noun} '{point.name}'",
                    "Rename one of the entry points, or uninstall one of the packages.",
                )
        return found

    @property
    def builtin(self) -> tuple[str, ...]:
        """Names of Palate's own parts, in the order in which they were written down."""
        return tuple(self._builtin)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._builtin, *self._plugins(), *self._local}))

    def __contains__(self, name: object) -> bool:
        return name in self._builtin or name in self._local or name in self._plugins()

    def __getitem__(self, name: str) -> Part:
        plugins = self._plugins()
        if name in plugins and name not in self._local:
            part: Part = plugins[name].load()
        elif name in self:
            part = _imported({**self._builtin, **self._local}[name])
        else:
            raise PalateError(f"there is no {self.noun} named '{name}'", suggest(name, self))
        if self._check is not None:
            self._check(name, part)
        return part


def _imported(target: Part | str) -> Part:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    part: Part = getattr(import_module(module), attribute)
    return part


def address_of(part: object) -> str:
    """Where a part is, as an entry point would say it."""
    if isinstance(part, str):
        return part
    if isinstance(value := getattr(part, "value", None), str):  # an entry point, of importlib or of its backport
        return value
    maker = part if hasattr(part, "__qualname__") else type(part)
    return f"{maker.__module__}:{maker.__qualname__}"


@lru_cache
def _entry_points(group: str, path: tuple[str, ...]) -> EntryPoints:
    """Looking through all installed packages takes milliseconds, so it is done once for each search path."""
    return entry_points(group=group)


class NameIn(Generic[Part]):
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

    def __init__(self, registry: Registry[Part], fits: Callable[[Part], bool] | None = None) -> None:
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
