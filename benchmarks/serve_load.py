"""Time and throughput of `palate serve`, over HTTP from a client on the same machine.

    python benchmarks/serve_load.py bundles/beauty
    python benchmarks/serve_load.py --random 1000000 --index faiss --rate 20
    python benchmarks/serve_load.py --random 12000 --neighbours 4

Alone: one connection, each request sent when the last is answered; also the processor time of the service for each.
Steady: requests are sent on a fixed schedule, and times count from when each was due, so a service that falls behind
cannot hide it. Saturated: N connections, each sending its next request as soon as it is answered. Histories are random
items of the catalogue, 1 to 50 of them. The service runs in its own process, whose memory is reported.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np


def serve_bundle(path: str, port: int, threads: int, index: str) -> None:
    """The command itself, as a user starts it."""
    sys.argv = ["palate", "serve", path, "--port", str(port), "--threads", str(threads), "--index", index]
    sys.argv += ["--log", "warning"]
    from palate.cli.app import main

    main()


def serve_random(items: int, port: int, threads: int, index: str, sources: int = 0) -> None:
    from palate.serve import server

    service = random_service(items, threads, index, sources)
    served = service.loaded.default
    if served.engine.index is not None:  # type: ignore[attr-defined]
        print(f"{'recall@10':<10}", json.dumps(recall(served)), flush=True)
    server.run(service, server.bind("127.0.0.1", port))


def random_service(items: int, threads: int, index: str, sources: int = 0) -> Any:
    """A SASRec of random weights over N items with an id and one of 50 kinds, and random neighbours."""
    import polars as pl
    import torch

    from palate.bundle import Bundle, BundleItems
    from palate.data.catalogue import Catalogue
    from palate.rankers.sasrec import SASRec
    from palate.serve.config import ServeConfig
    from palate.serve.loaded_models import LoadedModels
    from palate.serve.served import Served
    from palate.serve.service import Service
    from palate.serve.telemetry import configure_logs

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = SASRec(SASRec.Config(dim=64, max_length=50), items, {}).eval()
    model._table = torch.randn(items + 1, 64)
    if sources:
        model.neighbours = random_neighbours(items, sources)
    ids = pl.Series("item_id", range(1, items + 1)).cast(pl.String)
    kinds = (ids.cast(pl.Int64) % 50).cast(pl.String)
    pictures = pl.Series([None] * items, dtype=pl.String)
    frame = pl.DataFrame({"item_id": ids, "title": ids, "image": pictures, "kind": kinds})
    facts = {"model": "sasrec", "run": {}, "metrics": {}, "features": {}, "files": {}}
    config = ServeConfig.parse({"index": index}, where="benchmark")
    service = Service([], config)
    bundle = Bundle(Path(), facts, BundleItems(Catalogue(frame), [None] * items), model)
    served = Served("random", "0", bundle, config, service.telemetry)
    served.warm_up()
    service._loaded, service.state = LoadedModels([served]), "ok"
    configure_logs("warning", json=True)
    return service


def random_neighbours(items: int, sources: int, keep: int = 100, lags: int = 5) -> Any:
    """Lists of ``keep`` neighbours for each item by each source, and weights for the newest items."""
    from palate.features.neighbour_store import NeighbourList
    from palate.rankers.neighbours import NeighbourScores

    rng = np.random.default_rng(0)
    lists = []
    for number in range(sources):
        # Steps to the neighbours, all different: no item is its own, and none has another twice.
        steps = 1 + rng.choice(items - 1, keep, replace=False)
        near = np.zeros((items + 1, keep), np.int32)
        near[1:] = (np.arange(items)[:, None] + steps) % items + 1
        cosines = np.zeros((items + 1, keep), np.float32)
        cosines[1:] = np.sort(rng.uniform(0.1, 0.9, keep))[::-1]
        lists.append(NeighbourList.of(f"source {number + 1}", near, cosines))
    return NeighbourScores(lists, rng.uniform(0.5, 2, (sources, lags)))


def recall(served: Any, queries: int = 200) -> float:
    """Share of the exact best ten that the approximate search finds, over random histories."""
    from palate.serve.engine import Ask, DenseEngine

    rng = np.random.default_rng(1)
    asks = [Ask(rng.integers(1, len(served.items) + 1, rng.integers(1, 51)).tolist(), 10) for _ in range(queries)]
    truth = [DenseEngine.find(served.engine, [ask])[0].items for ask in asks]
    mine = [served.engine.find([ask])[0].items for ask in asks]
    return round(sum(len(set(a) & set(b)) for a, b in zip(mine, truth, strict=True)) / (10 * queries), 4)


class Client:
    """One connection that is kept: as little work as HTTP allows, since it shares the processors with the service."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: localhost\r\n".encode()
        if body is not None:
            head += b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body)
        self.writer.write(head + b"\r\n" + (body or b""))
        answer = await self.reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), await self.reader.readexactly(length)


async def until_ready(port: int, process: Any) -> None:
    while process.is_alive():
        try:
            client = Client(port)
            await client.open()
            if (await client.ask("/readyz"))[0] == 200:
                return
        except OSError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the service ended before it was ready")


async def steady(port: int, bodies: list[bytes], rate: float, connections: int) -> dict[str, float]:
    """Ask ``rate`` times a second."""
    free: asyncio.Queue[Client] = asyncio.Queue()
    for _ in range(connections):
        client = Client(port)
        await client.open()
        free.put_nowait(client)
    times: list[float] = []
    failed = 0

    async def one(due: float, body: bytes) -> None:
        nonlocal failed
        client = await free.get()
        status, _ = await client.ask("/v1/recommend", body)
        times.append(time.perf_counter() - due)
        failed += status != 200
        free.put_nowait(client)

    begun, tasks = time.perf_counter(), []
    for number, body in enumerate(bodies):
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due, body)))
    await asyncio.gather(*tasks)
    return {"per_second": rate, "failed": failed, **quantiles(times)}


async def saturated(port: int, bodies: list[bytes], connections: int) -> dict[str, float]:
    """As many as the service answers."""
    times: list[float] = []
    failed = 0

    async def ask(mine: list[bytes]) -> None:
        nonlocal failed
        client = Client(port)
        await client.open()
        for body in mine:
            begun = time.perf_counter()
            status, _ = await client.ask("/v1/recommend", body)
            times.append(time.perf_counter() - begun)
            failed += status != 200

    begun = time.perf_counter()
    await asyncio.gather(*(ask(bodies[place::connections]) for place in range(connections)))
    taken = time.perf_counter() - begun
    return {"per_second": round(len(bodies) / taken, 1), "failed": failed, **quantiles(times)}


async def alone(port: int, bodies: list[bytes], pid: int) -> dict[str, float]:
    """One request after the other, so that no two share a batch."""
    client, times = Client(port), []
    await client.open()
    before = cpu_seconds(pid)
    for body in bodies:
        begun = time.perf_counter()
        status, _ = await client.ask("/v1/recommend", body)
        times.append(time.perf_counter() - begun)
        assert status == 200
    return {"cpu_ms": round(1000 * (cpu_seconds(pid) - before) / len(bodies), 2), **quantiles(times)}


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quantiles(times: list[float]) -> dict[str, float]:
    return {f"p{q}_ms": round(1000 * float(np.quantile(times, q / 100)), 2) for q in (10, 50, 90, 99)}


def requests(ids: list[str], count: int, seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 51, count)
    histories = [[ids[item] for item in rng.integers(0, len(ids), length)] for length in lengths]
    return [json.dumps({"history": history, "k": 10}).encode() for history in histories]


def memory_mb(pid: int, what: str = "VmHWM") -> float:
    """Peak resident memory of a process (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith(what)).split()[1]) / 1024, 1)


async def measure(options: argparse.Namespace, port: int, process: Any, ids: list[str]) -> None:
    await until_ready(port, process)
    ask: Callable[[int, int], list[bytes]] = lambda count, seed: requests(ids, count, seed)  # noqa: E731
    await saturated(port, ask(200, 0), 8)
    modes: dict[str, Awaitable[dict[str, float]]] = {
        "alone": alone(port, ask(options.alone, 3), process.pid),
        "steady": steady(port, ask(int(options.rate * options.seconds), 1), options.rate, 64),
        "saturated": saturated(port, ask(options.requests, 2), options.connections),
    }
    for name, run in modes.items():
        print(f"{name:<10}", json.dumps(await run), flush=True)
    print(f"{'memory':<10}", json.dumps({"peak_mb": memory_mb(process.pid)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", nargs="?")
    parser.add_argument("--random", type=int, metavar="ITEMS", help="instead of a bundle: N random items")
    parser.add_argument("--neighbours", type=int, default=0, metavar="SOURCES", help="of random items: 100 by each")
    parser.add_argument("--index", default="exact", choices=["exact", "faiss"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--alone", type=int, default=2000, metavar="REQUESTS", help="on one connection")
    parser.add_argument("--requests", type=int, default=6000, help="at saturation")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    if options.random:
        ids = [str(number) for number in range(1, options.random + 1)]
        target, what, more = serve_random, options.random, [options.neighbours]
    else:
        from palate.bundle import Bundle

        ids = Bundle.load(options.bundle).items.ids[1:]
        target, what, more = serve_bundle, options.bundle, []
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=target, args=(what, port, options.threads, options.index, *more), daemon=True)
    process.start()
    try:
        asyncio.run(measure(options, port, process, ids))
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
