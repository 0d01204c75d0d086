"""A notebook as a Markdown page: its text, its code, and what the code printed where it has been executed."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
EXECUTED = ROOT / "build" / "notebooks"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def notebook_page(path: Path) -> str:
    """Markdown of a notebook; with outputs if ``make site`` has executed this very version of it."""
    source = nbformat.read(path, as_version=4)
    executed = EXECUTED / path.name
    if executed.is_file():
        ran = nbformat.read(executed, as_version=4)
        if [cell.source for cell in ran.cells] == [cell.source for cell in source.cells]:
            source = ran
    title, *rest = [markdown_of(cell) for cell in source.cells]
    note = f"*A notebook: `notebooks/{path.name}`. The tests execute it.*"
    return "\n\n".join([title, note, *rest]) + "\n"


def markdown_of(cell: NotebookNode) -> str:
    """Markdown of one cell."""
    if cell.cell_type == "markdown":
        return str(cell.source)
    shown = [text for output in cell.get("outputs", []) if (text := shown_output(output))]
    return "\n\n".join([fence(cell.source, "python"), *shown])


def fence(text: str, language: str) -> str:
    return f"~~~~{language}\n{text.rstrip()}\n~~~~"


def shown_output(output: NotebookNode) -> str:
    """Markdown of one output: a picture, a table in HTML, or text; warnings and progress are left out."""
    if output.output_type == "stream":
        return fence(_COLOUR.sub("", output.text), " { .text .output }") if output.name == "stdout" else ""
    data = output.get("data", {})
    if "image/png" in data:
        return f"![What this cell draws](data:image/png;base64,{data['image/png'].strip()})"
    if "text/markdown" in data:
        return str(data["text/markdown"])
    return fence(_COLOUR.sub("", data["text/plain"]), " { .text .output }") if "text/plain" in data else ""
