"""Options as pydantic models: unknown keys are errors that suggest the right one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from palate.console import print_note
from palate.errors import PalateError, suggest
from palate.names import field_names

_LISTS = (tuple, list, Sequence, set, frozenset)


class Config(BaseModel):
    """Base of every configuration: frozen, typed, and closed to unknown keys, infinities and nan.

    A list may be written as its values between commas, as the options of a command are.

    >>> class C(Config):
    ...     lags: tuple[float, ...] = ()
    >>> C.parse({"lags": "1,0.5"}, where="settings").lags
    (1.0, 0.5)

    Attributes:
        comma_lists: whether they are read so; False where a single word may hold commas, such as an item's id.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
    comma_lists: ClassVar[bool] = True

    @model_validator(mode="before")
    @classmethod
    def _read_lists(cls, values: Any) -> Any:
        if not cls.comma_lists or not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {
            key: _listed(str(value), key)
            if isinstance(value, str | int | float)
            and not isinstance(value, bool)
            and key in fields
            and _is_list(fields[key].annotation)
            else value
            for key, value in values.items()
        }

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str) -> Self:
        """Validate ``values``; what is wrong becomes one error that names ``where`` and the key.

        >>> class C(Config):
        ...     dropout: float = 0.1
        >>> C.parse({"dropuot": 0.2}, where="recipe.toml [train.ranker]")
        Traceback (most recent call last):
            ...
        palate.errors.PalateError: recipe.toml [train.ranker]: unknown option 'dropuot'. Did you mean 'dropout'?
        """
        try:
            return cls.model_validate(values)
        except PalateError as error:  # of a validator that looks a name up
            raise PalateError(f"{where}: {error.message}", error.remedy) from None
        except ValidationError as error:
            # A misspelt required key is both unknown and missing: the spelling is what helps.
            first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
            key = ".".join(str(part) for part in first["loc"])
            if first["type"] == "extra_forbidden":
                remedy = suggest(str(first["loc"][-1]), _known_keys(cls, first["loc"][:-1]))
                raise PalateError(f"{where}: unknown option '{key}'", remedy) from None
            if first["type"] == "missing":
                raise PalateError(f"{where}: '{key}' is missing", "Give it a value.") from None
            shown = f" (got {first['input']!r})" if key else ""
            at = f"'{key}': " if key else ""
            if first["type"] in ("tuple_type", "list_type"):
                remedy = "Write its values between commas." if cls.comma_lists else 'Write it as ["A", "B"].'
                raise PalateError(f"{where}: {at}not a list{shown}", remedy) from None
            raise PalateError(f"{where}: {at}{first['msg']}{shown}", "Correct the value.") from None

    def unread(self) -> dict[str, str]:
        """Settings that nothing reads, the others being what they are: name -> what would read it."""
        return {}

    def note_unread(self, where: str) -> None:
        """Print a note for every setting that was given and that nothing reads.

        It is no error: arms of a comparison share tables, and the trials of a search their settings.
        """
        for name, reader in self.unread().items():
            if name in self.model_fields_set:
                print_note(f"Note: {where}: '{name}' does nothing without {reader}.")


def _is_list(annotation: Any) -> bool:
    """Whether a field takes lists and nothing else, or None."""
    if get_origin(annotation) is Annotated:
        return _is_list(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        types = [one for one in get_args(annotation) if one is not NoneType]
        return bool(types) and all(_is_list(one) for one in types)
    return get_origin(annotation) in _LISTS


def _listed(text: str, key: str) -> list[str]:
    """The values between commas; around them may be the brackets of a list whose quotes the shell took away."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    return field_names(text, f"'{key}'")


def _known_keys(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The option names at ``path`` inside ``model`` (those of the outermost model as a fallback)."""
    for name in path:
        field = model.model_fields.get(str(name))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
