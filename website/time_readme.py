"""Runs the README's code as a reader would, one block after the other in one empty folder, and prints what each took.

::

    python website/time_readme.py            # --without-language-model leaves out the block that takes minutes

Lines that are indented are not run: they install, or serve until somebody stops them. Seconds are those on the clock
and those of the processor; on a machine that is busy only the latter mean something.
"""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
SLOW = "# runs in the slow tests"


def blocks(slow: bool) -> Iterator[tuple[str, str]]:
    """Language and text of the blocks, in order; with ``slow`` those of minutes too."""
    for language, text in re.findall(r"^```(sh|python)\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S):
        if slow or not text.startswith(SLOW):
            yield language, text


def steps(slow: bool = True) -> list[list[str]]:
    """The words of every command, in order; a block of Python is one."""
    found = []
    for language, text in blocks(slow):
        if language == "python":
            found.append([sys.executable, "-c", text])
            continue
        for line in re.sub(r"\\\n\s*", " ", text).splitlines():
            program, *rest = shlex.split(line, comments=True) or [""]
            if program:
                found.append([sys.executable, *(["-m", "palate"] if program == "palate" else []), *rest])
    return found


def run(words: list[str], folder: Path) -> tuple[float, float]:
    """Run one step in ``folder``: seconds on the clock, and of the processor.

    Raises:
        subprocess.CalledProcessError: it failed; its output is printed.
    """
    began, used = time.perf_counter(), _processor()
    paths = [str(README.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout[-4000:])
        done.check_returncode()
    return time.perf_counter() - began, _processor() - used


def shown(words: list[str]) -> str:
    """A step as a line of the page."""
    if words[1] == "-c":
        return "(Python)"
    return shlex.join(["palate", *words[3:]] if words[1:3] == ["-m", "palate"] else ["python", *words[1:]])


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as empty:
        for step in steps(slow="--without-language-model" not in sys.argv[1:]):
            clock, processor = run(step, Path(empty))
            print(f"{clock:7.1f} s {processor:7.1f} s of the processor  {shown(step)[:90]}", flush=True)
