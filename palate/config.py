"""Options as pydantic models: unknown keys are errors that suggest the right one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import PalateError, suggest


class Config(BaseModel):
    """Base of every configuration: frozen, typed, and closed to unknown keys, infinities and nan."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

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
            raise PalateError(f"{where}: {at}{first['msg']}{shown}", "Correct the value.") from None


def _known_keys(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The option names at ``path`` inside ``model`` (those of the outermost model as a fallback)."""
    for name in path:
        field = model.model_fields.get(str(name))
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            break
        model = annotation
    return list(model.model_fields)
