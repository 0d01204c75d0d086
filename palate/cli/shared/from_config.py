"""Options of a command from the fields of a Config, where their name, type, bounds, default and help are written.

::

    @from_config(Fields("palate.training.config:TrainerConfig", "epochs", "device", section="trainer"))
    def train(dataset: ..., settings: Settings) -> None:
        ...  # palate train DATA --epochs 3 --set trainer.ema=0.9: {"trainer": {"ema": 0.9, "epochs": 3}}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from palate.cli.shared.options import Set, parse_assignments, parse_mapping
from palate.errors import PalateError
from palate.names import field_names

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# What was set, by field; fields of a section are a dict below its name.
Settings = dict[str, Any]


class Fields:
    """Fields of a Config that a command offers as options.

    Args:
        config: ``module:Class``; imported when the options are needed, for it may import torch.
        names: of the fields; none: all.
        section: of the settings they belong to, which ``--set SECTION.KEY=VALUE`` reaches as well.
        panel: their heading in ``--help``.
        spelled: field -> the option as written, where that is not ``--FIELD``: ``--encoder-ffn``, ``--resume/--anew``.
        defaults: field -> the default that ``--help`` shows, where it is not the Config's; or what returns them,
            where that imports much.
    """

    def __init__(
        self,
        config: str,
        *names: str,
        section: str | None = None,
        panel: str | None = None,
        spelled: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        self.config, self.names, self.section, self.panel = config, names, section, panel
        self.spelled, self.defaults = spelled or {}, defaults or {}

    def default(self, key: str, own: Any) -> Any:
        """The default of a field that ``--help`` shows; ``own`` is the Config's."""
        return (self.defaults() if callable(self.defaults) else self.defaults).get(key, own)

    def __iter__(self) -> Iterator[ConfigOption]:
        module, _, name = self.config.partition(":")
        fields: dict[str, FieldInfo] = getattr(import_module(module), name).model_fields
        return (ConfigOption(self, key, fields[key]) for key in self.names or fields)


class ConfigOption:
    """One field as an option. A flag without an opposite (``--blind``) can only be switched on."""

    def __init__(self, group: Fields, key: str, field: FieldInfo) -> None:
        self.group, self.key, self.field = group, key, field
        self.declared = group.spelled.get(key, f"--{key.replace('_', '-')}")
        types = _alternatives(field.annotation)
        self.choices = [str(value) for one in types if get_origin(one) is Literal for value in get_args(one)]
        self.types = [one for one in types if get_origin(one) not in (Literal, None) or isinstance(one, type)]
        if self.types == [bool] and field.default is True and "/" not in self.declared:
            self.declared += f"/--no-{key.replace('_', '-')}"

    @property
    def name(self) -> str:
        """The parameter's name."""
        return self.declared.partition("/")[0].removeprefix("--").replace("-", "_")

    @property
    def parameter(self) -> inspect.Parameter:
        """As typer reads it; None is an option that is not given."""
        kind, metavar = str, None
        if self.choices:
            metavar = f"{{{','.join([*('N' for _ in self.types), *self.choices])}}}"
        elif get_origin(self.types[0]) is None:
            kind = self.types[0]
        elif get_origin(self.types[0]) is dict:
            metavar = "OUR=THEIRS,..."
        bounds = {
            name: getattr(bound, key)
            for bound in self.field.metadata
            for name, key in (("min", "ge"), ("max", "le"))
            if hasattr(bound, key)
        }
        option = typer.Option(
            self.declared,
            help=f"{(self.field.description or '').removesuffix('.')}{self._default()}.",
            metavar=next(iter(self.field.examples or ()), metavar),
            rich_help_panel=self.group.panel,
            show_default=False,
            **bounds,
        )
        default = inspect.Parameter.empty if self.field.is_required() else None
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, option]
        )

    def _default(self) -> str:
        value = self.group.default(self.key, self.field.default)
        if isinstance(value, bool) or not isinstance(value, int | float | str) or value == "":
            return ""
        return f" (default: {value:g})" if isinstance(value, float) else f" (default: {value})"

    def read(self, value: Any) -> Any:
        """The field's value, of what typer read; None where the option was not given."""
        option = self.declared.partition("/")[0]
        if value is None or (value is False and "/" not in self.declared):
            return None
        if self.choices and value not in self.choices:
            if int in self.types and value.isdigit():
                return int(value)
            choices = ", ".join([*("a number" for _ in self.types), *self.choices])
            raise PalateError(f"{option} {value}: not a choice of '{self.key}'", f"Choose one of: {choices}.")
        origin = get_origin(self.types[0]) if self.types else None
        if origin is dict:
            return value if self.field.examples == ["JSON"] else parse_mapping(value, option)
        return value if origin is None else tuple(field_names(value, option))


def _alternatives(annotation: Any) -> list[Any]:
    """The types of a union, without None."""
    union = get_origin(annotation) in (Union, UnionType)
    return [one for one in get_args(annotation) if one is not NoneType] if union else [annotation]


class from_config:  # a decorator
    """Replaces a command's parameter ``settings`` by options; the command is given the :data:`Settings` that were set.

    Options of a section come with ``--set``, whose values they win over.
    """

    def __init__(self, *groups: Fields) -> None:
        self.groups = groups

    def __call__(self, function: Callable[..., None]) -> ConfiguredCommand:
        return ConfiguredCommand(function, self.groups)


class ConfiguredCommand:
    """A function with options of Configs, as typer sees it: its signature is made when it is needed."""

    def __init__(self, function: Callable[..., None], groups: Sequence[Fields]) -> None:
        self.function, self.groups = function, groups
        self.__name__, self.__doc__, self.__annotations__ = function.__name__, function.__doc__, {}

    @property
    def __signature__(self) -> inspect.Signature:
        parameters: list[inspect.Parameter] = []
        for one in inspect.signature(self.function, eval_str=True).parameters.values():
            if one.name != "settings":
                parameters.append(one.replace(kind=inspect.Parameter.KEYWORD_ONLY))
                continue
            parameters += [option.parameter for group in self.groups for option in group]
            if any(group.section for group in self.groups):
                parameters.append(
                    inspect.Parameter("set_", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Set)
                )
        return inspect.Signature(parameters)

    def __call__(self, **values: Any) -> None:
        own = {name: values[name] for name in inspect.signature(self.function).parameters if name != "settings"}
        self.function(**own, settings=settings_of(self.groups, values, values.get("set_")))


def settings_of(groups: Sequence[Fields], values: Mapping[str, Any], assignments: Sequence[str] | None) -> Settings:
    """Settings of options by parameter name, over those of ``--set``; what is not given is left out."""
    settings: Settings = parse_assignments(list(assignments or []))
    for option in (option for group in groups for option in group):
        value = option.read(values.get(option.name))
        if value is not None:
            section = option.group.section
            place = settings if section is None else settings.setdefault(section, {})
            place[option.key] = value
    return settings
