"""Options of a service: addresses, limits, and how it looks for the best items."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from palate.config import Config
from palate.errors import PalateError

IndexKind = Literal["exact", "faiss"]
# What the service's own paths begin with: no proxy shows it below one of these, as its paths would be ambiguous.
OWN_PATHS = ("v1", "static", "docs", "openapi.json", "metrics", "healthz", "readyz")


class ServeConfig(Config):
    """Options of the service."""

    max_body: int = Field(256 * 1024, ge=1024, description="Bytes of a request's body; more is refused unread.")
    max_history: int = Field(1000, ge=1, description="Items of a history.")
    max_k: int = Field(200, ge=1, description="Items of an answer.")
    max_batch: int = Field(64, ge=1, description="Histories that a model scores at once.")
    max_waiting: int = Field(
        1024, ge=1, description="Requests that may wait for a model; the next one is refused (503)."
    )
    timeout: float = Field(
        60.0, ge=0.1, description="Seconds until a request that waits for its model is given up (504)."
    )
    index: IndexKind = Field(
        "exact",
        description="How factored models find their best items: exact, or faiss (approximate, for millions; an extra).",
    )
    rules_every: float = Field(
        1.0, gt=0, description="Seconds between looks for changed business rules; they are read at the second look."
    )
    feedback_every: float = Field(
        3600.0,
        gt=0,
        description="Seconds after which feedback becomes a Parquet file, if it has not by its size",
        examples=["SECONDS"],
    )
    image_side: int = Field(512, ge=16, le=2048, description="Longest side in pixels of a picture as it is served.")
    image_cache: int = Field(64 * 1024 * 1024, ge=0, description="Bytes of pictures kept ready.")
    outside_pictures: bool = Field(
        True,
        description="Also serve pictures that are stored outside of a bundle, in the folder that it names (which may "
        "be any).",
    )
    allowed_hosts: tuple[str, ...] = Field((), description="Names by which clients may address the service; none: any.")
    root_path: str = Field(
        "",
        description="Where a proxy shows the service, if below the root: /palate. Paths work with it and without it.",
        examples=["PATH"],
    )
    max_connections: int | None = Field(
        None, ge=1, description="Open at a time; usually 512, or fewer where the limit of open files is low."
    )
    head_timeout: float = Field(10.0, ge=0.1, description="Seconds for the first line and the headers of a request.")
    grace: float = Field(
        5.0, ge=0, description="Seconds for which requests are accepted after SIGTERM.", examples=["SECONDS"]
    )

    @field_validator("root_path")
    @classmethod
    def _path(cls, path: str) -> str:
        path = path.rstrip("/")
        first = path.removeprefix("/").partition("/")[0]
        if path and (not re.fullmatch(r"(/[A-Za-z0-9_.~-]*[A-Za-z0-9_~-])+", path) or first in OWN_PATHS):
            raise PalateError(
                f"'{path}' is no path to show the service at",
                "Write one like /palate: letters, digits, - and _, and not one of the service's own paths.",
            )
        return path
