"""A real HTTP server that speaks the OpenAI protocol and fails as real ones do, by a seed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

Payload = dict[str, Any]
FAILURES = (
    "500", "503", "429", "drop", "cut off", "stall", "truncated json", "html", "no choices", "empty", "null", "rubbish",
)  # fmt: skip


def prompt_of(payload: Payload) -> str:
    """All text of a request's last message."""
    content = payload["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def completion(text: Any, **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@dataclass
class FlakyServer:
    """Answers ``POST .../chat/completions``.

    Attributes:
        answer: payload -> the text of a good answer, or (status, headers, body) as it stands.
        share: of calls that fail, each in one of :data:`FAILURES`; which one depends on the seed, the payload and how
            often it came before, never on timing.
        payloads: what was asked, in the order of arrival.
        failed: how often each failure was served.
        most: how many requests were open at a time.
    """

    answer: Callable[[Payload], str | tuple[int, dict[str, str], bytes]]
    share: float = 0.0
    seed: int = 0
    failures: tuple[str, ...] = FAILURES
    payloads: list[Payload] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    most: int = 0
    url: str = ""
    _open: int = 0
    _seen: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request of a kept-alive connection; whether another may follow."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        payload = json.loads(raw)
        self.payloads.append(payload)
        self.headers.append(headers)
        self.paths.append(head[0].split()[1])
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            await asyncio.sleep(0.001)  # so that requests overlap
            return await self._respond(payload, raw, reader, writer)
        finally:
            self._open -= 1

    async def _respond(
        self, payload: Payload, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        name = hashlib.sha256(raw).hexdigest()
        self._seen[name] += 1
        dice = random.Random(f"{self.seed} {name} {self._seen[name]}")
        failure = dice.choice(self.failures) if dice.random() < self.share else None
        if failure is not None:
            self.failed[failure] += 1
        good = completion("Likes the quiet things of life.")
        if failure == "drop":
            return False
        if failure == "stall":
            await reader.read()  # until the client gives up
            return False
        if failure == "cut off":
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n" + good[:60]
            )
            await writer.drain()
            return False
        found: str | tuple[int, dict[str, str], bytes]
        if failure is None:
            found = self.answer(payload)
        else:
            found = {
                "500": (500, {}, b'{"error": {"message": "out of luck"}}'),
                "503": (503, {}, b"<html>Service Unavailable</html>"),
                "429": (429, {"retry-after": "2"}, b'{"error": {"message": "slow down"}}'),
                "truncated json": (200, {}, good[: len(good) // 2]),
                "html": (200, {"content-type": "text/html"}, b"<html><h1>Welcome to the proxy</h1></html>"),
                "no choices": (200, {}, b'{"error": "the engine died"}'),
                "empty": (200, {}, completion("  ")),
                "null": (200, {}, completion(None)),
                "rubbish": (200, {}, completion("<|im_end|> ### ### ### %%% 0000000")),
            }[failure]
        status, more, body = (200, {}, completion(found)) if isinstance(found, str) else found
        lines = {"content-type": "application/json", "content-length": str(len(body)), **more}
        top = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        writer.write(f"HTTP/1.1 {status} X\r\n{top}\r\n".encode() + body)
        await writer.drain()
        return True


def no_waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The package openai waits between attempts in no time; the seconds that it would have waited are listed."""
    taken: list[float] = []

    async def sleep(seconds: float) -> None:
        taken.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("anyio.sleep", sleep)
    return taken


@contextmanager
def running(server: FlakyServer) -> Iterator[FlakyServer]:
    """The server at work in a thread, at ``server.url``."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        listening = loop.run_until_complete(asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512))
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        ready.set()
        loop.run_forever()
        listening.close()
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
