"""Paths, modules and layers that the pages name are those of the code."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

import palate

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("recipes/*.toml"), *ROOT.glob("benchmarks/*.py")]
)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
# The entry-point groups: the kinds of the registries in the code.
GROUPS = {
    f"palate.{kind}"
    for path in ROOT.glob("palate/**/*.py")
    for kind in re.findall(r'^\w.* = Registry\(\s*"(\w+)"', path.read_text("utf-8"), re.M)
}
ARCHITECTURE = ROOT / "docs" / "architecture.md"


@cache
def names_in(path: Path) -> set[str]:
    """Top-level names of a Python file, imported ones included."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def exists(dotted: str) -> bool:
    """Whether ``palate.x.y`` is a package, a module, or a top-level name of one."""
    here = ROOT / "palate"
    parts = dotted.split(".")[1:]
    for place, part in enumerate(parts):
        if (here / part).is_dir():
            here /= part
            continue
        module = here / f"{part}.py"
        rest = parts[place + 1 :]
        if module.is_file():
            return not rest or rest[0] in names_in(module)
        return part in (palate.__all__ if here == ROOT / "palate" else names_in(here / "__init__.py"))
    return True


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w/.-])((?:palate|tests|benchmarks|recipes)/[\w/.-]*\w)", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_modules_exist(page: Path) -> None:
    for dotted in set(re.findall(r"(?<![\w/.-])palate(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8"))):
        assert dotted in GROUPS or exists(dotted), f"{page.name} names {dotted}, which is not there"


def test_the_layers_of_the_architecture_page_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    sections = re.split(r"^## ", ARCHITECTURE.read_text(encoding="utf-8"), flags=re.M)
    for title, container in (("Rooms", []), ("Inside `mllm/`", ["palate.mllm"])):
        (layers,) = [c["layers"] for c in contracts if c["type"] == "layers" and c.get("containers", []) == container]
        (section,) = [one for one in sections if one.startswith(title)]
        rows = re.findall(r"^\| (`[^|]*`) \|", section, re.M)
        expected = [sorted(name.strip().removeprefix("palate.") for name in layer.split("|")) for layer in layers]
        assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == expected


def test_the_architecture_page_says_where_to_find() -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8").partition("## Where to find")[2]
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) >= 5
    for row in rows:
        named = re.findall(r"`(palate/[\w/.]+)`", row)
        assert named or "](" in row or row.startswith("| |"), f"no file in: {row}"


def anchors(page: Path) -> set[str]:
    """The ids that a renderer gives the page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.stem)
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([\w./-]*\.md|)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        linked = page.parent / target if target else page
        assert anchor in anchors(linked), f"{page.name} links to {target}#{anchor}, which is not there"


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.stem)
def test_imports_of_the_code_on_the_page_exist(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        for module, names in re.findall(r"^from (palate[\w.]*) import (.+)$", block, re.M):
            for name in names.split(","):
                dotted = f"{module}.{name.partition(' as ')[0].strip()}"
                assert exists(dotted), f"{page.name} imports {dotted}, which is not there"
