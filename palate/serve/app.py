"""The application: routes, what errors look like, and the guard around it all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from palate import __version__
from palate.errors import PalateError
from palate.serve.api import router
from palate.serve.batching import Overloaded
from palate.serve.config import ServeConfig
from palate.serve.guard import Guard, Refused, ShownAt, error_body
from palate.serve.pages import pages
from palate.serve.service import NotReady, Service

_WORDS = {400: "invalid", 404: "not-found", 405: "method"}
# What pydantic says in words of its own.
_MISTAKES = {"json_invalid": "the body is not JSON", "extra_forbidden": "there is no such field"}


def create_app(service: Service, key: str | None = None, watch: float = 0.0) -> FastAPI:
    """The service as an ASGI application.

    Args:
        key: what clients must send; None: nothing.
        watch: seconds between looks for changed bundles; 0: never.
    """

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(service.watch(watch))] if watch else []
        if service.business is not None:
            tasks.append(asyncio.create_task(service.watch_rules()))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        redirect_slashes=False,  # a redirect would go to whatever host the client names
        title="Palate",
        version=__version__,
        description="Recommendations from pictures and text. Errors are `{error: {code, message, remedy}}`.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        middleware=[
            Middleware(ShownAt, root_path=service.config.root_path),
            Middleware(Guard, config=service.config, telemetry=service.telemetry, key=key),
        ],
    )
    app.state.service, app.state.keyed = service, key is not None
    app.openapi = lambda: _with_limits(FastAPI.openapi(app), service.config)  # type: ignore[method-assign]
    app.include_router(router)
    app.include_router(pages)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _answer(error.status, error.body)

    @app.exception_handler(PalateError)
    async def mistaken(request: Request, error: PalateError) -> Response:
        return _answer(422, error_body("invalid", error.message, error.remedy))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if tuple(first["loc"]) == ("body",) and not kind.endswith("json"):  # as curl -d sends it
            remedy = "Send the header: content-type: application/json."
            return _answer(422, error_body("invalid", "the body is not sent as JSON", remedy))
        where = ".".join(str(part) for part in first["loc"])
        message = f"{where}: {_MISTAKES.get(first['type'], first['msg'])}"
        return _answer(422, error_body("invalid", message, "/docs says what is read."))

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> Response:
        return _answer(503, error_body("busy", "too many requests are waiting", "Try again soon."))

    @app.exception_handler(NotReady)
    async def not_ready(request: Request, error: NotReady) -> Response:
        return _answer(503, error_body("loading", "the models are being loaded", "Try again soon."))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code = _WORDS.get(error.status_code, "refused")
        remedy = "/docs lists the endpoints." if error.status_code in (404, 405) else None
        return _answer(error.status_code, error_body(code, str(error.detail), remedy), dict(error.headers or {}))

    return app


def _with_limits(page: dict[str, Any], config: ServeConfig) -> dict[str, Any]:
    """The OpenAPI page, which knows of this service's own limits."""
    for name in ("RecommendRequest", "SimilarRequest", "ExplainRequest"):
        properties = page["components"]["schemas"][name]["properties"]
        for field in ("history", "deny"):
            if field in properties:
                properties[field]["maxItems"] = config.max_history
        if "history_times" in properties:
            properties["history_times"]["anyOf"][0]["maxItems"] = config.max_history
        if "k" in properties:
            properties["k"]["maximum"] = config.max_k
    return page


def _answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    extra = {"retry-after": "1"} if status == 503 else {}
    return Response(body, status, {**(headers or {}), **extra}, "application/json")
