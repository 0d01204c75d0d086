"""Runs and bundles that the tests of bundles share."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundle_helpers import encoded_films, known_encoder, make_run

from palate.bundle import make_bundle
from palate.runs.run import Run


@pytest.fixture(autouse=True)
def _encoder() -> None:
    known_encoder()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def text_run(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(films, tmp_path_factory.mktemp("runs") / "text")


@pytest.fixture(scope="session")
def full_run(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "full"
    return make_run(films, out, modalities="id,text,image", id_dropout=0.3, repeat_bias=True, fusion="gate")


@pytest.fixture(scope="session")
def popular_run(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(films, tmp_path_factory.mktemp("runs") / "popular", model="popularity", modalities="id")


@pytest.fixture(scope="session")
def text_bundle(text_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(text_run, tmp_path_factory.mktemp("bundles") / "text").folder


@pytest.fixture(scope="session")
def full_bundle(full_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(full_run, tmp_path_factory.mktemp("bundles") / "full", with_images=True).folder
