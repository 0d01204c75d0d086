"""The web page, its parts, and what machines look at: health, readiness, metrics."""

from __future__ import annotations

from html import escape
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from palate.serve import schema
from palate.serve.guard import Refused

pages = APIRouter()
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# Read once: only these can be asked for, so no path can lead elsewhere.
_PARTS = {
    part.name: (part.read_bytes(), _TYPES[suffix])
    for part in sorted(files("palate.serve").joinpath("page").iterdir(), key=lambda part: part.name)
    if (suffix := f".{part.name.rpartition('.')[2]}") in _TYPES
}


@pages.head("/", include_in_schema=False)
@pages.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return _document("index.html", request)


@pages.get("/docs", include_in_schema=False)
async def docs(request: Request) -> Response:
    return _document("docs.html", request)


@pages.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    return _part(name)


def _document(name: str, request: Request) -> Response:
    """A page. Its links are relative, and lead from where the service is shown if that is known: a proxy may show the
    page itself without a slash at its end."""
    root = escape(request.scope.get("root_path", ""))
    return _part(name, f'="{root}/'.encode() if root else b'="./')


def _part(name: str, links: bytes | None = None) -> Response:
    if name not in _PARTS:
        raise Refused(404, "not-found", "there is nothing here")
    data, kind = _PARTS[name]
    if links is not None:
        data = data.replace(b'="./', links)
    return Response(data, media_type=kind, headers={"cache-control": "no-cache"})


@pages.head("/healthz", include_in_schema=False)
@pages.get("/healthz", response_model=schema.Health, tags=["operate"])
async def healthz(request: Request) -> schema.Health:
    """The process is running."""
    return schema.Health(status=request.app.state.service.state)


@pages.head("/readyz", include_in_schema=False)
@pages.get("/readyz", response_model=schema.Health, tags=["operate"], responses={503: {"model": schema.Failure}})
async def readyz(request: Request) -> schema.Health:
    """The models are loaded, and the service is not stopping."""
    state = request.app.state.service.state
    if state != "ok":
        raise Refused(503, state, f"the service is {state}", "Try again soon.")
    return schema.Health(status=state)


@pages.get("/metrics", tags=["operate"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Metrics in the text format of Prometheus."""
    return Response(
        request.app.state.service.telemetry.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
    )  # fmt: skip
