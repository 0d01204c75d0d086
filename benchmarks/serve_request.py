"""Processor time of one request of the service alone, in this process: of the model, and of the whole application.

    python benchmarks/serve_request.py --items 12101 [--neighbours 4] [--index faiss] [--rules] [--feedback]

The smallest of many repeats over the same requests, so that work beside it on the machine tells little. "On a thread":
the same application where every request is handed to the model's thread, in turns with the other, and the median of the
differences between neighbouring repeats. A connection
and reading HTTP come on top: ``benchmarks/serve_load.py`` measures those (its line "alone"). ``--rules``: nine of ten
items in stock, a kind of items left out, another boosted, a pin, and a cap. ``--feedback``: answers are kept on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from serve_load import random_service, requests

_RULES = """
in_stock = "stock.txt"
without = ["kind=7"]

[[boost]]
only = ["kind=8"]
factor = 2

[[pin]]
item = "5"
position = 3

[[cap]]
field = "kind"
most = 2
"""
_HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]


async def post(app: Any, body: bytes) -> None:
    """Send one request to an ASGI application."""
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/v1/recommend",
        "query_string": b"", "headers": [*_HEADERS, (b"content-length", str(len(body)).encode())],
    }  # fmt: skip
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 200, sent


async def milliseconds(ask: Callable[[int], Awaitable[None]], count: int) -> float:
    """Of processor time, for each of ``count`` requests."""
    begun = time.process_time()
    for number in range(count):
        await ask(number)
    return 1000 * (time.process_time() - begun) / count


async def smallest(ask: Callable[[int], Awaitable[None]], count: int, repeats: int) -> float:
    """The best of ``repeats``."""
    return round(min([await milliseconds(ask, count) for _ in range(repeats)]), 3)


async def in_turns(batcher: Any, ask: Callable[[int], Awaitable[None]], count: int, repeats: int) -> dict[str, float]:
    """With quick requests answered in the event loop, and with all of them on the model's thread."""
    found: dict[bool, list[float]] = {True: [], False: []}
    turn = batcher._turn
    for repeat in range(repeats):
        for here in (True, False) if repeat % 2 else (False, True):
            batcher._turn = turn if here else None
            found[here].append(await milliseconds(ask, count))
    batcher._turn = turn
    differences = [one - other for one, other in zip(found[True], found[False], strict=True)]
    return {
        "application_ms": round(min(found[True]), 3),
        "on_a_thread_ms": round(min(found[False]), 3),
        "median_difference_ms": round(statistics.median(differences), 3),
    }


def add_rules(service: Any, folder: Path) -> None:
    """Business rules of every kind."""
    from palate.serve.business.business_rules import BusinessRules

    ids = service.loaded.default.items.ids[1:]
    (folder / "stock.txt").write_text("\n".join(one for number, one in enumerate(ids) if number % 10))
    (folder / "rules.toml").write_text(_RULES)
    BusinessRules(folder / "rules.toml", service.telemetry).start(service.loaded.models)


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    from palate.serve.app import create_app
    from palate.serve.engine import Ask

    service = random_service(options.items, 1, options.index, options.neighbours)
    if options.rules:
        add_rules(service, folder)
    if options.feedback:
        from palate.serve.feedback.feedback import Feedback
        from palate.serve.feedback.recorder import Recorder

        recorder = Recorder(folder / "feedback", service.telemetry)
        recorder.start()
        service.feedback = Feedback(service.telemetry, recorder)
    engine, app = service.loaded.default.engine, create_app(service)
    bodies = requests([str(number) for number in range(1, options.items + 1)], options.requests, 3)
    asks = [Ask([int(item) for item in json.loads(body)["history"]], 10, exclude_seen=True) for body in bodies]

    async def find(number: int) -> None:
        engine.find([asks[number]])

    async def ask(number: int) -> None:
        await post(app, bodies[number])

    return {
        "model_ms": await smallest(find, len(asks), options.repeats),
        **await in_turns(service.loaded.default._found, ask, len(asks), options.repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=12_101)
    parser.add_argument("--neighbours", type=int, default=0, metavar="SOURCES")
    parser.add_argument("--index", default="exact", choices=["exact", "faiss"])
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--feedback", action="store_true")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(parser.parse_args(), Path(folder)))))


if __name__ == "__main__":
    main()
