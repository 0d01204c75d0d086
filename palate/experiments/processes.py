"""Work in processes of its own: each with a log, all ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# How a process is asked to end, and for how many seconds each is waited for. An interruption that arrives while
# Python runs a callback of a weak reference is lost, so one is not enough.
_ENDINGS = (
    (signal.SIGINT, 3.0),
    (signal.SIGINT, 5.0),
    (signal.SIGINT, 10.0),
    (signal.SIGTERM, 5.0),
    (signal.SIGKILL, 5.0),
)


class Execute(Protocol):
    """Runs ``palate WORDS`` with its output in ``log``; returns the exit code."""

    async def __call__(self, words: Sequence[str], log: Path) -> int: ...


class Processes:
    """Runs commands of Palate, and ends them when it is cancelled.

    Args:
        inherit: file descriptors that the processes hold on to, such as that of a lock.
    """

    def __init__(self, inherit: Sequence[int] = ()) -> None:
        self._inherit = tuple(inherit)

    async def __call__(self, words: Sequence[str], log: Path) -> int:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ palate {shlex.join(words)}\n")
            file.flush()
            # A session of its own: Ctrl-C on the terminal reaches this process, which then ends the others.
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "palate", *words),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, "COLUMNS": "200", "PALATE_QUIET": ""},
                start_new_session=True,
                pass_fds=self._inherit,
            )
            try:
                return await process.wait()
            finally:
                await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process that still runs, gently first."""
    for number, patience in _ENDINGS:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
