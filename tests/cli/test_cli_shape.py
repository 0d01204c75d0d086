"""The command line as a whole: help, mistakes, speed of starting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Shell

from palate import __version__
from palate.cli.commands import COMMANDS

# The names that users and scripts rely on.
CONTRACT = {
    "demo": {"--out", "--seed"},
    "prepare": {"--reader", "--out", "--k-core", "--min-rating", "--split", "--missing-items", "--seed"},
    "doctor": {"--json"},
    "encode": {"--text", "--image", "--lexical", "--seed"},
    "neighbours": {"--source", "--k", "--json"},
    "train": {"--model", "--modalities", "--missing", "--objective", "--epochs", "--out", "--resume", "--seed"},
    "tune": {"--config", "--trials", "--seed"},
    "align": {"--objective", "--negatives", "--pool-k", "--mask-future-train", "--out", "--resume", "--seed"},
    "blend": {"--out", "--fit", "--users", "--exclude-seen", "--keep-seen", "--dataset", "--resume", "--seed"},
    "evaluate": {
        *("--protocol", "--exclude-seen", "--keep-seen", "--split", "--out", "--seed"),
        *("--users", "--users-seed", "--retriever", "--depth", "--blend"),
        *("--format", "--caption", "--label", "--publish"),
    },
    "compare": {
        *("--format", "--caption", "--label", "--publish", "--dataset", "--seeds", "--trials", "--only", "--until"),
        *("--jobs", "--dry-run", "--out", "--json"),
    },
    "report": {"--out", "--table"},
    "recommend": {
        "--history",
        "--user",
        "--all",
        "--out",
        "--k",
        "--json",
        "--only",
        "--without",
        "--retriever",
        "--depth",
        "--blend",
    },
    "summarise": set(),
    "summarise items": {"--backend", "--model", "--limit", "--dry-run", "--prompts", "--seed"},
    "summarise users": {
        "--backend",
        "--model",
        "--strategy",
        "--block",
        "--as-of",
        "--max-items",
        "--users",
        "--limit",
    },
    "mllm": set(),
    "mllm warm-up": {"--out", "--model", "--seed"},
    "mllm pretrain": {"--out", "--model", "--start", "--steps", "--learning-rate", "--seed", "--set"},
    "mllm sft": {
        *("--model", "--task", "--summary", "--summaries", "--images", "--missing-image", "--blind", "--users"),
        *("--lora-r", "--gradient-checkpointing", "--quantisation", "--out", "--resume", "--seed"),
    },
    "mllm zero-shot": {"--model", "--task", "--summary", "--out"},
    "mllm audit": {"--users"},
    "mllm merge": {"--out", "--dtype"},
    "mllm probe": {"--users", "--negatives", "--candidates", "--split", "--out", "--json", "--seed"},
    "bundle": {
        *("--out", "--with-features", "--with-images", "--table", "--license"),
        *("--onnx", "--push", "--public", "--json"),
    },
    "attach": {"--neighbours", "--dataset", "--threads", "--resume", "--seed", "--set"},
    "add-items": {"--images", "--out", "--device", "--json"},
    "serve": {
        *("--retriever", "--depth", "--blend", "--users", "--host", "--port", "--index", "--threads", "--watch"),
        *("--max-history", "--max-k", "--max-body", "--timeout", "--api-key-file", "--allowed-host", "--log"),
    },
    "models": set(),
    "gate": {"--margin", "--metric", "--dataset", "--json"},
    "info": set(),
    "track": {"--to", "--with-model", "--json"},
}
# Commands of commands, and those that take no recipe.
WITHOUT_RECIPE = {"compare", "summarise", "mllm"}


def test_every_command_of_the_contract_is_there() -> None:
    assert set(COMMANDS) == {command.partition(" ")[0] for command in CONTRACT}


@pytest.mark.parametrize("command", CONTRACT)
def test_help_names_the_options_and_the_recipe(palate: Shell, command: str) -> None:
    told = palate(*command.split(), "--help")
    assert told.code == 0
    # What `palate compare` is given is a recipe already.
    for option in CONTRACT[command] | ({"--config"} if command not in WITHOUT_RECIPE else set()):
        assert option in told.out, f"palate {command} --help does not name {option}"


def test_version(palate: Shell) -> None:
    assert palate("--version").out == f"palate {__version__}\n"


def test_unknown_command_is_corrected(palate: Shell) -> None:
    told = palate("recomend")
    assert told.code == 2
    assert "recommend" in told.err


def test_unknown_option_is_corrected(palate: Shell) -> None:
    told = palate("train", "data", "--modle", "sasrec")
    assert told.code == 2
    assert "--model" in told.err


def test_a_mistake_is_one_line_and_code_2(palate: Shell, tmp_path: Path) -> None:
    told = palate("train", tmp_path / "nothing", "--model", "popularity", "--out", tmp_path / "run")
    assert told.code == 2
    assert told.err.startswith("Error: ")
    assert told.err.count("\n") == 1
    assert "palate prepare" in told.err


def test_a_file_that_cannot_be_written_is_one_line(palate: Shell, popular: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    told = palate("recommend", popular, "--all", "--out", tmp_path / "file" / "recs.parquet")
    assert told.code == 2
    assert told.err.startswith("Error: ")
    assert told.err.count("\n") == 1


def test_tracebacks_can_be_asked_for(palate: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_TRACEBACK", "1")
    shown = palate("info", tmp_path / "nothing")
    assert shown.code == 2
    assert "Traceback" in shown.err


def test_a_bug_is_not_the_verdict_of_a_gate(palate: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("palate.artefact.describe", lambda path: 1 / 0)
    shown = palate("info", tmp_path)
    assert shown.code == 70
    assert "ZeroDivisionError" in shown.err


def test_ctrl_c_says_what_is_kept(palate: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("palate.artefact.describe", interrupted)
    told = palate("info", tmp_path)
    assert told.code == 130
    assert told.err == "Interrupted. Nothing is left half-written: the same command starts again.\n"


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['palate', '--help']\n"
        "from palate.cli.app import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'polars', 'numpy', 'transformers', 'matplotlib', 'scipy', 'optuna', 'pyarrow', 'pandas'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "palate", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"palate {__version__}\n"


def test_a_closed_pipe_is_no_traceback(neural: Path) -> None:
    """``palate info RUN --json | head -1`` with a reader that leaves at once."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "palate", "info", str(neural), "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["info", "models"])
def test_json_is_json(palate: Shell, neural: Path, command: str) -> None:
    told = palate(command, *([neural] if command == "info" else []), "--json")
    assert isinstance(json.loads(told.out), dict)
