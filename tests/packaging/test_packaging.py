"""What a bare machine installs: pins for everything asked for, honest ranges, and a Makefile that explains itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from palate.features.embedded import requirements_text

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(name: str) -> dict[str, Version]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines if line}


def asked_for() -> list[Requirement]:
    extras = [one for extra in PROJECT["optional-dependencies"].values() for one in extra]
    return [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_every_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = pins("constraints.txt")
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"constraints.txt does not pin {requirement.name}"
    assert requirement.specifier.contains(pinned[name]), f"{name} {pinned[name]} is not {requirement.specifier}"
    assert requirement.specifier, f"{requirement.name} has no lower bound"


def test_torch_is_pinned_for_every_platform() -> None:
    assert pins("constraints.txt")["torch"].local is None


def test_the_embedded_weights_are_those_of_palate_models_install() -> None:
    assert (ROOT / "requirements-models.txt").read_text() == requirements_text(with_llm=True)


def test_the_core_is_light() -> None:
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    heavy = {"transformers", "tokenizers", "pandas", "tensorboard", "optuna", "scikit-learn", "torchvision", "timm"}
    assert not core & heavy


def test_requirement_files_name_no_place_to_fetch_from() -> None:
    for name in ("constraints.txt", "requirements-models.txt", "Makefile"):
        assert not re.search(r"https?://|file://|--(extra-)?index-url|--find-links", (ROOT / name).read_text()), name


def make(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    # Not what an outer make (the tests run under one) says to its children.
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "VENV")}
    return subprocess.run(
        ["make", *words], cwd=ROOT, env={**inherited, **environment}, capture_output=True, text=True, check=False
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")


@needs_make
def test_make_alone_lists_the_targets() -> None:
    told = make()
    assert told.returncode == 0
    for target in ("demo", "test", "test-slow", "lint", "types", "check", "bench", "clean", "help"):
        assert re.search(rf"^  make {target} +\S", told.stdout, re.M), f"make help does not list '{target}'"


@needs_make
def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")  # what an interpreter that is too old answers to the check
    old.chmod(0o755)
    told = make("demo", f"VENV={tmp_path}/venv", PYTHON=str(old))
    assert told.returncode != 0
    assert "Palate needs Python 3.11 or newer" in told.stderr
    assert not (tmp_path / "venv").exists()


@needs_make
def test_set_up_runs_once_and_again_when_the_requirements_change(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").touch()
    asks = "pip install -c constraints.txt"
    assert asks in make("-n", "test", f"VENV={venv}").stdout
    for stamp in (".dev-stamp", ".demo-stamp"):
        (venv / stamp).touch()
    assert asks not in make("-n", "test", f"VENV={venv}").stdout
    assert asks in make("-n", "test", f"VENV={venv}", "-W", "constraints.txt").stdout
    assert asks in make("-n", "demo", f"VENV={venv}", "-W", "pyproject.toml").stdout


def test_the_citation_is_of_this_version() -> None:
    """cffconvert validates the file against its schema; this is what changes with a release."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^(version|license): (\S+)$", citation, re.M))
    assert stated == {"version": PROJECT["version"], "license": PROJECT["license"]}
    assert re.search(r"^cff-version: 1\.2\.0$", citation, re.M)
