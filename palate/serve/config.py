"""Options of a service: addresses, limits, and how it looks for the best items."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from palate.config import Config
from palate.errors import PalateError

IndexKind = Literal["exact", "faiss"]
# What the service's own paths begin with: no proxy shows it below one of these, as its paths could not be told apart.
OWN_PATHS = ("v1", "static", "docs", "openapi.json", "metrics", "healthz", "readyz")


class ServeConfig(Config):
    """Options of the service.

    Attributes:
        max_body: bytes of a request's body; more is refused before it is read.
        max_history: items of a history.
        max_k: items of an answer.
        max_batch: histories that a model scores at once.
        max_waiting: requests that may wait for a model; the next one is refused (503).
        timeout: seconds after which a request that still waits for its model is given up (504).
        index: how factored models look for their best items: ``exact``, or ``faiss`` (approximate, for millions).
        image_side: longest side in pixels of a picture as it is served.
        image_cache: bytes of pictures kept ready.
        outside_pictures: also serve pictures outside of a bundle, from the folder that it names as theirs when it was
            made: it may name any folder.
        allowed_hosts: names by which clients may address the service; empty: any.
        root_path: where a proxy shows the service, if not at the root of a host: ``/shop/palate``. Paths that arrive
            with it and without it (as the proxy has it) both work.
        max_connections: connections that may be open; None: 512, or as many as the limit of open files allows.
        head_timeout: seconds for the first line and the headers of a request.
        grace: seconds for which new connections are accepted after SIGTERM, until no more are sent here.
    """

    max_body: int = Field(256 * 1024, ge=1024)
    max_history: int = Field(1000, ge=1)
    max_k: int = Field(200, ge=1)
    max_batch: int = Field(64, ge=1)
    max_waiting: int = Field(1024, ge=1)
    timeout: float = Field(60.0, gt=0)
    index: IndexKind = "exact"
    image_side: int = Field(512, ge=16, le=2048)
    image_cache: int = Field(64 * 1024 * 1024, ge=0)
    outside_pictures: bool = True
    allowed_hosts: tuple[str, ...] = ()
    root_path: str = ""
    max_connections: int | None = Field(None, ge=1)
    head_timeout: float = Field(10.0, gt=0)
    grace: float = Field(5.0, ge=0)

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
