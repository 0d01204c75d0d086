"""What a shell completes after a TAB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from palate.cli.app import main
sys.argv = ["palate"]
try:
    main()
except SystemExit as end:
    assert not end.code
print("LOADED", sorted({"torch", "polars", "numpy", "pandas", "scipy", "transformers"} & set(sys.modules)))
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def tab(cache: Path, line: str, shell: str = "bash") -> tuple[list[str], str]:
    """What is offered at the end of a line, and which large packages were imported for it."""
    words = line.split(" ")
    more = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    environment = {**os.environ, **more, "_PALATE_COMPLETE": f"complete_{shell}", "PALATE_CACHE": str(cache)}
    if shell == "fish":
        environment["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return done[:-1], done[-1]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("palate trai", ["train"]),
        ("palate mllm s", ["sft"]),
        ("palate train data --mod", ["--model", "--modalities"]),
        ("palate train data --model sas", ["sasrec"]),
        ("palate prepare raw --reader m", ["microlens", "movielens"]),
        ("palate align run --objective c", ["cdpo"]),
        ("palate align run --negatives in", ["in-batch"]),
        ("palate evaluate run --metrics ndcg,re", ["ndcg,recall"]),
        ("palate evaluate run --protocol s", ["sampled"]),
        ("palate train data --modalities id,te", ["id,text"]),
        ("palate models in", ["install"]),
        ("palate doctor data --qui", ["--quiet"]),
        ("palate recommend runs/", []),  # the shell's own completion of files
    ],
)
def test_bash(cache: Path, line: str, offered: list[str]) -> None:
    assert [one for one in tab(cache, line)[0] if one] == offered


def test_a_second_tab_imports_nothing_heavy(cache: Path) -> None:
    tab(cache, "palate train data --model x")
    assert tab(cache, "palate train data --model sas") == (["sasrec"], "LOADED []")


def test_options_are_found_again_when_a_module_has_changed(cache: Path) -> None:
    tab(cache, "palate doctor data --s")
    path = cache / "completion" / "palate.cli.doctor.doctor.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({"stamp": ["0.0"], "options": []}))
    assert tab(cache, "palate doctor data --s")[0] == ["--strict"]
    assert json.loads(path.read_text()) == kept
    path.write_text("{")
    assert tab(cache, "palate doctor data --s")[0] == ["--strict"]


def test_commands_of_one_name_are_kept_apart(cache: Path) -> None:
    assert tab(cache, "palate align run --refe")[0] == ["--reference"]
    assert tab(cache, "palate mllm align run --retr")[0] == ["--retriever"]
    for line, offered in (("palate align run --refe", "--reference"), ("palate mllm align run --retr", "--retriever")):
        assert tab(cache, line) == ([offered], "LOADED []")


def test_a_shell_gets_its_script(cache: Path) -> None:
    for shell, words in (("bash", "complete -o default"), ("zsh", "#compdef"), ("fish", "complete --command")):
        environment = {**os.environ, "_PALATE_COMPLETE": f"source_{shell}", "PALATE_CACHE": str(cache)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        )
        assert words in done.stdout


def test_zsh_and_fish_say_what_options_mean(cache: Path) -> None:
    assert '"--strict":"Exit with 1 on warnings too' in "\n".join(tab(cache, "palate doctor data --s", "zsh")[0])
    assert tab(cache, "palate doctor data --s", "fish")[0][0].startswith("--strict\tExit with 1 on warnings too")


def test_a_folder_that_cannot_be_written_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert tab(tmp_path / "file", "palate doctor data --s")[0] == ["--strict"]
