"""Executes notebooks: ``make site`` all of them, for their pages; the tests one at a time.

Each runs in an empty folder of its own, in a kernel of this interpreter. What came out is in ``build/notebooks``, and a
notebook that has not changed since is not executed again.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = ROOT / "build" / "notebooks"


def execute(notebook: Path, folder: Path) -> nbformat.NotebookNode:
    """Run every cell in ``folder``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; the message has its code and the traceback.
    """
    node = nbformat.read(notebook, as_version=4)
    # The kernel finds this checkout's palate, whatever is installed, and one thread is fastest on small models.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    client = NotebookClient(node, kernel_name="python3", timeout=900, startup_timeout=300, coalesce_streams=True)
    with client.setup_kernel(env=environment, cwd=str(folder)):
        for index, cell in enumerate(node.cells):
            client.execute_cell(cell, index)
    return node


def main() -> None:
    """Execute what has changed."""
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for notebook in NOTEBOOKS:
        made = EXECUTED / notebook.name
        if made.exists() and made.stat().st_mtime > notebook.stat().st_mtime:
            continue
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            node = execute(notebook, Path(folder))
        made.write_text(nbformat.writes(node), encoding="utf-8")
        print(f"{notebook.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
