"""What a service may be told: addresses, limits, and how it looks for the best items."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from palate.config import Config

IndexKind = Literal["exact", "faiss"]


class ServeConfig(Config):
    """Options of the service.

    Attributes:
        max_body: bytes of a request's body; more is refused before it is read.
        max_history: items of a history.
        max_k: items of an answer.
        max_batch: histories that a model is given at once.
        max_waiting: requests that may wait for a model; the next one is told to come back later (503).
        timeout: seconds after which a request that still waits for its model is given up (504).
        index: how factored models look for their best items: ``exact``, or ``faiss`` (approximate, for millions).
        image_side: longest side in pixels of a picture as it is served.
        image_cache: bytes of pictures kept ready.
        outside_pictures: also serve pictures that lie outside of a bundle, in the folder that it says its pictures
            were in when it was made: it may say any folder.
        allowed_hosts: names by which clients may address the service; empty: any.
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
