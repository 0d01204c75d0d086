"""Help for people: commands by task, and an example for each that the command would take."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Shell

from palate.cli.commands import COMMANDS, PANELS, root
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker

REPOSITORY = Path(__file__).resolve().parents[2]
# Commands that print no JSON, and why.
NO_JSON = {"serve": "it answers until it is stopped; --log-json is for its lines"}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its words: ``mllm sft``."""
    for name, command in root().commands.items():
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
        else:
            yield from ((f"{name} {word}", one) for word, one in inner.items())


ALL = dict(commands())


def test_help_is_grouped_by_task(palate: Shell) -> None:
    out = palate("--help").out
    titles = re.findall(r"─ ([A-Z][a-z ]+) ─", out)
    assert titles == ["Options", *PANELS]
    for panel in PANELS.values():
        for name in panel:
            assert re.search(rf"│ {name} ", out)
    assert list(COMMANDS) == list(root().commands)


@pytest.mark.parametrize("words", ALL)
def test_every_command_has_an_example_that_it_would_take(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's options are there, with values of the right kind; nothing is run."""
    monkeypatch.chdir(REPOSITORY)
    text = inspect.cleandoc(ALL[words].callback.__doc__ or "")
    found = re.search(r"^For example: (palate (?:.|\n)+?)(?:\n\n|\Z)", text, re.MULTILINE)
    assert found, f"palate {words} --help has no paragraph 'For example: palate {words} ...'"
    typed = shlex.split(found[1].replace("\n", " "))[1:]
    assert typed[: len(words.split())] == words.split()
    command = ALL[words]
    with command.make_context(words, typed[len(words.split()) :]) as context:
        assert context.params or not command.params


@pytest.mark.parametrize("words", ALL)
def test_every_command_can_be_quiet_and_print_json(words: str) -> None:
    options = {name for parameter in ALL[words].params for name in parameter.opts}
    assert {"--quiet", "-q"} <= options
    assert ("--json" in options) != (words in NO_JSON)


@pytest.mark.parametrize(("command", "causal"), [("align", True), ("attach", False)])
def test_help_names_the_rankers_that_a_command_takes(palate: Shell, command: str, causal: bool) -> None:
    taken = {
        name
        for name in RANKERS
        if issubclass(kind := RANKERS[name], SequentialRanker)
        and (kind.causal or not causal)
        and kind.__module__.startswith("palate.")
    }
    help_text = " ".join(re.sub("[│╭╮╰╯─]", " ", palate(command, "--help").out).split())  # without the frames
    said = re.search(r"A finished run of ([\w, ]+)\.", help_text)
    assert said is not None
    assert set(re.split(", | or ", said[1])) == taken
