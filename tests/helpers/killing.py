"""Kills commands of Palate at chosen moments, to find out what is left and whether the same command goes on.

``Killer`` starts one process that has everything imported already. For each job it forks a child, which is killed by
SIGKILL at its n-th change of a name in the file system (a rename, exchange, link or removal), or after some
seconds, or not at all. SIGKILL leaves a process no time to tidy up, unlike an exception.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGES = ("rename", "replace", "link", "unlink", "rmdir")


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        code: exit code; -9 for one that was killed.
        changes: of names, counted until its end (0 where it was killed).
        output: stdout and stderr.
    """

    code: int
    changes: int
    seconds: float
    output: str


class Killer:
    """Runs jobs, one at a time. ``modules`` are imported once, before the first."""

    def __init__(self, folder: Path, modules: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._server = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "COLUMNS": "200"},
        )

    def run(
        self,
        words: list[str],
        *,
        at: int | None = None,
        after: float | None = None,
        two_steps: bool = False,
        cwd: Path | None = None,
    ) -> Ended:
        """Run a command, or with a first word ``python`` the code that follows.

        Args:
            at: the change of a name, counted from 1, before which it is killed.
            after: seconds after which it is killed.
            two_steps: do as if the system could not exchange two names at once.
        """
        log, count = self._folder / "output.txt", self._folder / "count.txt"
        count.unlink(missing_ok=True)
        job = {"words": words, "at": at, "after": after, "two_steps": two_steps, "log": str(log), "count": str(count)}
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({**job, "cwd": None if cwd is None else str(cwd)}) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        changes = int(count.read_text()) if count.exists() else 0
        return Ended(answer["code"], changes, answer["seconds"], log.read_text(errors="replace"))

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)


def hidden(folder: Path) -> list[str]:
    """Names of what a killed process may have left; a lock is no leftover."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.name[0] == "." and path.name != ".lock"
    )


# -- in the process that forks ----------------------------------------------------------------------------------------


def _serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(job)
        if job["after"] is not None:
            opened = os.pidfd_open(child)
            if not select.select([opened], [], [], job["after"])[0]:
                os.kill(child, signal.SIGKILL)
            os.close(opened)
        _, status = os.waitpid(child, 0)
        answer = {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - started}
        print(json.dumps(answer), flush=True)


def _child(job: dict[str, Any]) -> None:
    code = 70
    try:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if job["cwd"]:
            os.chdir(job["cwd"])
        counted = _count_changes(job["at"], job["two_steps"])
        code = _run(job["words"])
        Path(job["count"]).write_text(str(counted["changes"]))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(words: list[str]) -> int:
    if words[0] == "python":
        exec(words[1], {})
        return 0
    from palate.cli.app import main

    sys.argv = ["palate", *words]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _count_changes(at: int | None, two_steps: bool) -> dict[str, int]:
    """From now on, die before the change of a name that has the number ``at``."""
    import palate.storage.files

    counted = {"changes": 0}

    def watched(change: Any) -> Any:
        def replaced(*args: Any, **kwargs: Any) -> Any:
            counted["changes"] += 1
            if counted["changes"] == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **kwargs)

        return replaced

    for name in CHANGES:
        setattr(os, name, watched(getattr(os, name)))
    exchange = (lambda one, other: False) if two_steps else watched(palate.storage.files.exchange)
    vars(palate.storage.files)["exchange"] = exchange
    return counted


if __name__ == "__main__":
    for module in sys.argv[1:]:
        __import__(module)
    _serve()
