"""Interrupted commands say how to go on; SIGTERM ends them as Ctrl-C does, with exit code 143."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.cli.shared import ending
from palate.cli.shared.ending import command_of, last_words
from palate.runs.run import Run

RESUME = "What is finished is kept: the same command with --resume goes on from there."
AGAIN = "What is finished is kept: the same command goes on from there."
ANEW = "Nothing is left half-written: the same command starts again."


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("train data --out x", RESUME),
        ("align run --out x", RESUME),
        ("mllm sft data", RESUME),
        ("mllm align run", RESUME),
        ("encode data", AGAIN),
        ("summarise users data", AGAIN),
        ("tune data", AGAIN),
        ("compare x.toml", AGAIN),
        ("mllm warm-up data", AGAIN),
        ("mllm pretrain", AGAIN),
        ("prepare x", ANEW),
        ("bundle run", ANEW),
        ("serve bundle", ""),
    ],
)
def test_each_command_says_how_to_go_on(line: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ending._received.clear()
    command = command_of(line.split())
    assert last_words(130, command) == (130, f"Interrupted. {sentence}".rstrip())
    assert last_words(143, command) == (143, f"Terminated. {sentence}".rstrip())
    assert last_words(1, command) is None
    monkeypatch.setattr(ending._received, "is_set", lambda: True)  # typer's code for Ctrl-C, and it was not that
    assert last_words(130, command) == (143, f"Terminated. {sentence}".rstrip())


def test_an_error_that_comes_of_an_interruption_is_none() -> None:
    writing = RuntimeError("the file is not complete")
    writing.__context__ = KeyboardInterrupt()
    wrapped = OSError("not saved")
    wrapped.__cause__ = writing
    assert ending.exit_code_of(wrapped) == ending.exit_code_of(KeyboardInterrupt()) == 130
    assert ending.exit_code_of(SystemExit(2)) == 2
    assert ending.exit_code_of(RuntimeError("a mistake")) is None


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_ends_with_a_sentence_and_goes_on(shop: Path, tmp_path: Path, signal_number: int) -> None:
    words = [sys.executable, "-m", "palate", "train", str(shop), "--model", "sasrec", "--out", str(tmp_path / "run")]
    words += ["--modalities", "id", "--neighbours", "none", "--set", "ranker.dim=8", "--set", "trainer.patience=0"]
    words += ["--set", "trainer.tensorboard=false", "--epochs", "100000", "--resume"]
    going = subprocess.Popen(
        words,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # not inherited as ignored
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run/model").is_dir() and going.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    going.send_signal(signal_number)
    _, err = going.communicate(timeout=120)
    assert going.returncode == 128 + signal_number, err
    what = "Terminated" if signal_number == signal.SIGTERM else "Interrupted"
    assert err.splitlines()[-1] == f"{what}. {RESUME}"
    assert "Traceback" not in err
    assert not Run.open(tmp_path / "run").finished
    assert [path.name for path in (tmp_path / "run").rglob(".*")] == [".lock"]


def test_serve_and_one_of_several_workers_keep_the_system_s_way(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ending.end_like_ctrl_c("serve")
        monkeypatch.setenv("WORLD_SIZE", "2")
        ending.end_like_ctrl_c("train")
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        monkeypatch.delenv("WORLD_SIZE")
        ending.end_like_ctrl_c("train")
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a shell's background job
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ending._received.clear()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "DATA", "--model", "popularity", "--out", ""],
        ["train", "DATA", "--model", "popularity", "--out="],
        ["train", "", "--model", "popularity", "--out", "x"],
        ["prepare", "DATA", "--reader", "table", "--out", ""],
        ["mllm", "sft", "DATA", "--model", "x", "--out", ""],
        ["summarise", "items", "DATA", "--prompts", ""],
        ["train", "DATA", "--config", "RECIPE", "--model", "popularity"],
    ],
)
def test_an_empty_path_is_refused(
    palate: Callable[..., tuple[int, str, str]],
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[Any],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('[train]\nout = ""\n')
    known = {"DATA": shop, "RECIPE": "recipe.toml"}
    code, _, err = palate(*(known.get(word, word) for word in words))
    assert code == 2
    assert "is empty, where a path belongs" in err
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_an_empty_word_that_is_no_path_is_left_alone(
    palate: Callable[..., tuple[int, str, str]], shop: Path, tmp_path: Path
) -> None:
    code, _, err = palate("encode", shop, "--lexical", "--without", "", "--store", "words")
    assert (code, "path" in err) == (0, False), err
