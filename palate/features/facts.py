"""What every ``store.json`` holds, of whatever layout: the names and types that the code relies on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from palate.errors import PalateError


class _Facts(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Encoder(_Facts):
    name: str
    fingerprint: str


class _Content(_Facts):
    kind: str
    fields: list[str] | None = None
    without: str | None = None


class StoreFacts(_Facts):
    """The content of a ``store.json``; further keys may stand beside these."""

    complete: bool
    modality: str
    encoder: _Encoder
    content: _Content
    items: int
    width: int
    coverage: dict[str, float]
    missing: list[dict[str, Any]]
    fingerprint: str


def check_store_facts(info: dict[str, Any], path: Path, remedy: str) -> None:
    """Refuse a ``store.json`` that lacks a key, or has a value of another type.

    Raises:
        PalateError: naming the key.
    """
    try:
        StoreFacts.model_validate(info)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise PalateError(f"{path} is damaged ('{key}': {first['msg']})", remedy) from None
