"""Killed at any moment and started again, a run repeats nothing that was written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from worlds import walking_shop

HERE = Path(__file__).parents[2] / "helpers"
_RUN = """
import sys, time
from pathlib import Path
from summary_helpers import Echo, steps_for
from worlds import walking_shop
from palate.mllm.summaries.users import UserWork, cut_offs

class Slow(Echo):
    def work(self, requests, done, check=None):
        def later(reply):
            with open(sys.argv[2], "a") as log:
                log.write(reply.key + "\\n")
            time.sleep(0.004)
            return done(reply)
        super().work(requests, later, check)

data = walking_shop(users=40, steps=9, items=400)
backend = Slow()
work = UserWork(steps_for(data, backend), cut_offs(data, ("train", "valid", "test")), data.user_ids.to_list())
print("ready", flush=True)
report = work.write(Path(sys.argv[1]), backend, progress=False)
print(report.written, len(report.missing), flush=True)
"""


def start(folder: Path, log: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(folder), str(log)], cwd=HERE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def keys_in(path: Path) -> list[str]:
    """Keys of the whole lines of a store."""
    whole = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    return [json.loads(line)["key"] for line in whole]


def test_sigkill(tmp_path: Path) -> None:
    folder, rows, log = tmp_path / "s", tmp_path / "s/summaries.jsonl", tmp_path / "log"
    needed = 6 * 40  # (012) (3) (34) (345) (6) (67) for every user, none in common: their walks start apart
    written: list[str] = []
    for kill in (30, 90):
        child = start(folder, log)
        deadline = time.monotonic() + 60
        while len(keys_in(rows)) < kill and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        written = keys_in(rows)
        assert kill <= len(written) < needed, "it was killed midway"
        requested = log.read_text().split()
        log.unlink()
        assert set(written) >= set(requested[:-1]), "what was answered is written, but for the last one at most"
    with rows.open("ab") as file:
        file.write(b'{"key": "cut off')
    child = start(folder, log)
    assert child.communicate(timeout=60)[0].split() == [str(needed - len(written)), "0"]
    assert not set(log.read_text().split()) & set(written), "nothing is asked for twice"
    assert len(keys_in(rows)) == len(set(keys_in(rows))) == needed
    assert len(walking_shop(users=40, steps=9, items=400).user_ids) == 40
