"""Clients that keep sending requests to a service, as a proxy would, and count what becomes of each."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter

BODY = json.dumps({"history": ["space-1"], "k": 3}).encode()
REQUEST = (
    b"POST /v1/recommend HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(BODY)
) + BODY


def read_answer(wire: socket.socket) -> tuple[int, bool]:
    """Status of the answer on ``wire``, and whether the connection ends with it; status 0: none came, or not all."""
    data = b""
    with contextlib.suppress(OSError):
        while b"\r\n\r\n" not in data:
            part = wire.recv(65536)
            if not part:
                return 0, True
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            part = wire.recv(65536)
            if not part:
                return 0, True
            body += part
        return int(head.split(b" ", 2)[1]), fields.get(b"connection") == b"close"
    return 0, True


class Stream:
    """Threads that send whole requests at a steady rate until they are stopped, or nobody listens any more.

    Every second thread keeps its connection for as long as the service does; the others open one for each request.

    Args:
        pause: seconds between the requests of a thread.
    """

    def __init__(self, port: int, threads: int = 4, pause: float = 0.02) -> None:
        self.port, self.pause = port, pause
        self.counts: Counter[str] = Counter()
        self._over, self._lock = threading.Event(), threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(n % 2 == 0,)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _send(self, keep: bool) -> None:
        wire: socket.socket | None = None
        while not self._over.is_set():
            if wire is None:
                try:
                    wire = socket.create_connection(("127.0.0.1", self.port), 30)
                except OSError:  # no request was lost: none was sent
                    self.count("refused")
                    return
            try:
                wire.sendall(REQUEST)
                status, ends = read_answer(wire)
            except OSError:
                status, ends = 0, True
            self.count(str(status) if status else "reset")
            if ends or not keep:
                wire.close()
                wire = None
            time.sleep(self.pause)
        if wire is not None:
            wire.close()

    def stop(self) -> Counter[str]:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
        return self.counts
