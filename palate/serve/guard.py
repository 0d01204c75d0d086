"""What every request passes before anything reads it: host, size and key; and every answer gets its headers."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import time
import uuid
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from palate.serve.config import ServeConfig
from palate.serve.telemetry import Telemetry

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# Open without a key: whether it lives, and the page that asks for the key.
_OPEN = ("/", "/docs", "/healthz", "/readyz", "/favicon.ico")
# Asked by machines that know an address only.
_PROBES = ("/healthz", "/readyz")
# Whose answers have an id that feedback takes back.
_ANSWERS = "/v1/recommend"
_METHODS = ("GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
_BODY_SECONDS = 30.0


def error_body(code: str, message: str, remedy: str | None = None) -> bytes:
    """The one form that errors have."""
    return json.dumps({"error": {"code": code, "message": message, "remedy": remedy}}).encode()


class Refused(Exception):
    """A request that is answered here and now."""

    def __init__(self, status: int, code: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.status, self.body = status, error_body(code, message, remedy)


class ShownAt:
    """ASGI middleware that knows below which path a proxy shows the service; the proxy may cut that path off or not.

    Args:
        root_path: without a slash at its end; empty: the root of a host, or what a server or another application sets.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app, self.root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.root_path:
            root, path = self.root_path, scope["path"]
            scope = {**scope, "root_path": root, "path": f"{root}/" if path in (root, "") else path}
        await self.app(scope, receive, send)


class Guard:
    """ASGI middleware around everything else.

    Args:
        key: what clients must send as ``Authorization: Bearer KEY``; None: nothing.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, telemetry: Telemetry, key: str | None = None) -> None:
        self.app, self.config, self.telemetry = app, config, telemetry
        self._key = None if key is None else key.encode()
        self._hosts = {host.lower() for host in config.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        given = _given_id(scope["headers"])
        name = given or uuid.uuid4().hex.encode()
        # A client's id may stand on several requests, as that of a trace does; an answer's own is given out once.
        answer_id = uuid.uuid4().hex if given else name.decode()
        scope["state"] = {**scope.get("state", {}), "answer_id": answer_id}
        begun = False

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS, (b"x-request-id", name)]
            await send(message)

        try:
            self._check(scope)
            await self.app(scope, await self._bounded(scope, receive), answer)
        except Refused as refused:
            await _tell(answer, refused.status, refused.body)
        except Exception as error:
            self.telemetry.log.error("failed", request=name.decode(), path=scope["path"], exc_info=error)
            if begun:
                raise
            await _tell(answer, 500, error_body("internal", "something went wrong here", "The log has the details."))
        finally:
            self._note(scope, status, time.perf_counter() - started, name)

    def _check(self, scope: Scope) -> None:
        headers, path = scope["headers"], route_path(scope)
        if self._hosts and path not in _PROBES and _host(_header(headers, b"host")) not in self._hosts:
            raise Refused(400, "host", "this service does not go by that name", "Start it with --allowed-host NAME.")
        if scope.get("state", {}).get("crowded") and path not in _PROBES:
            raise Refused(503, "crowded", "too many connections are open", "Try again soon.")
        if self._key is None or path in _OPEN or path.startswith("/static/"):
            return
        value = _header(headers, b"authorization")
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(token.strip(), self._key):
            raise Refused(401, "key", "this service needs a key", "Send the header: Authorization: Bearer KEY.")

    async def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        """The request's body, read whole but never more of it than is allowed."""
        headers = scope["headers"]
        length, chunked = _header(headers, b"content-length"), _header(headers, b"transfer-encoding")
        if not chunked and length in (b"", b"0"):
            return receive
        most = self.config.max_body
        too_large = Refused(413, "too-large", f"the body is larger than {most:,} bytes", "Send less at a time.")
        if length.isdigit() and int(length) > most:
            raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        deadline = asyncio.get_running_loop().time() + _BODY_SECONDS
        while more:
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise Refused(408, "slow", "the body did not arrive in time") from None
            if message["type"] == "http.disconnect":
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > most:
                raise too_large
            more = message.get("more_body", False)
        whole: Message | None = {"type": "http.request", "body": b"".join(parts), "more_body": False}

        async def again() -> Message:
            nonlocal whole
            if whole is not None:
                message, whole = whole, None
                return message
            return await receive()

        return again

    def _note(self, scope: Scope, status: int, seconds: float, name: bytes) -> None:
        # Labels come from us, never from the client: each new one would cost memory for ever.
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self.telemetry.requests.labels(route, method, status).inc()
        self.telemetry.seconds.labels(route).observe(seconds)
        with contextlib.suppress(OSError, ValueError):  # a log that nobody reads any more must not cost an answer
            answer_id = scope["state"]["answer_id"]
            other = {"answer": answer_id} if route == _ANSWERS and answer_id != name.decode() else {}
            self.telemetry.log.info(
                "request", request=name.decode(), **other, method=scope["method"], path=scope["path"], status=status,
                ms=round(1000 * seconds, 2),
            )  # fmt: skip


def route_path(scope: Scope) -> str:
    """The path as the routes have it: without where a proxy, or another application, shows this one.

    >>> route_path({"path": "/palate/v1/models", "root_path": "/palate"}), route_path({"path": "/v1/models"})
    ('/v1/models', '/v1/models')
    """
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes:
    return next((value for key, value in headers if key == name), b"")


def _host(value: bytes) -> str:
    """The name in a Host header, without its port.

    >>> _host(b"localhost:8000"), _host(b"[::1]:8000"), _host(b"example.org")
    ('localhost', '[::1]', 'example.org')
    """
    text = value.decode("latin-1").lower()
    name, _, port = text.rpartition(":")
    return name if name and port.isdigit() else text


def _given_id(headers: Any) -> bytes:
    """The client's own id of the request, if it is one that a log can hold."""
    value = _header(headers, b"x-request-id")
    return value if 0 < len(value) <= 64 and value.replace(b"-", b"").isalnum() else b""


async def _tell(send: Send, status: int, body: bytes) -> None:
    # After 408 nobody waits for the rest of the body.
    extra = {
        401: [(b"www-authenticate", b"Bearer")],
        408: [(b"connection", b"close")],
        503: [(b"retry-after", b"1")],
    }.get(status, [])
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
