# ruff: noqa: E402 (what comes after the check for the extra needs it)
"""Bundles of a small film shop, and services that answer from them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from bundle_helpers import encoded_films, known_encoder, make_run
from worlds import film_pictures

structlog = pytest.importorskip("structlog", reason="the extra 'serve' is not installed")
pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from serve_helpers import HOSTILE, Live

from palate.bundle import make_bundle
from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.features.neighbours import neighbour_list
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.serve.config import ServeConfig
from palate.serve.loaded_models import BundleSpec
from palate.serve.people import find_people
from palate.serve.service import Service
from palate.storage.files import atomic_folder


@pytest.fixture(autouse=True, scope="session")
def _encoder() -> None:
    known_encoder()


@pytest.fixture(autouse=True)
def _logs() -> Iterator[None]:
    """What one test tells the log to do must not reach the next."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_films(tmp_path_factory.mktemp("served-films"))


@pytest.fixture(scope="session")
def bundles(films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles by name."""
    runs, out = tmp_path_factory.mktemp("served-runs"), tmp_path_factory.mktemp("served-bundles")
    made = {
        "sasrec": make_run(films, runs / "sasrec", modalities="id,text,image", repeat_bias=True, id_dropout=0.2),
        "popularity": make_run(films, runs / "popularity", "popularity", "id"),
        "item-knn": make_run(films, runs / "item-knn", "item-knn", "id"),
    }
    return {
        name: make_bundle(run, out / name, with_images=name == "sasrec").folder for name, run in made.items()
    }  # fmt: skip


def _bomb() -> bytes:
    """A PNG of some hundred bytes that says it has 2.5 billion pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture(scope="session")
def hostile_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue whose titles and ids mean harm; its first pictures are broken or something else."""
    folder = tmp_path_factory.mktemp("served-hostile")
    pictures = film_pictures(folder / "pictures")
    ids = [*HOSTILE, *(f"plain-{n}" for n in range(6))]
    names = sorted(path.name for path in pictures.iterdir())[: len(ids)]
    items = pl.DataFrame({"item_id": ids, "title": [HOSTILE.get(one, one) for one in ids], "image": names})
    rng = np.random.default_rng(0)
    rows = [(f"u{user}", str(item)) for user in range(40) for item in rng.choice(ids, 6, replace=False)]
    log = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    from_frames(log, items, name="hostile", images=pictures).save(folder / "data")
    run = make_run(folder / "data", folder / "run", "popularity", "id")
    bundle = make_bundle(run, folder / "hostile").folder
    (pictures / names[0]).write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    (pictures / names[1]).write_bytes((pictures / names[2]).read_bytes() + b"<script>alert('polyglot')</script>")
    (pictures / names[3]).unlink()
    (pictures / names[4]).write_bytes(_bomb())
    return bundle


@pytest.fixture(scope="session")
def live(films: Path, bundles: dict[str, Path]) -> Iterator[Live]:
    """sasrec, popularity and item-knn with six users to try."""
    specs = [BundleSpec(name, folder) for name, folder in bundles.items()]

    def make() -> Service:
        return Service(specs, ServeConfig(max_body=64 * 1024), people=find_people(films, 6))

    running = Live(make)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def hostile(hostile_bundle: Path) -> Iterator[Live]:
    """A service whose catalogue means harm."""
    running = Live(lambda: Service([BundleSpec("hostile", hostile_bundle)], ServeConfig()))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def near_bundle(films: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a ranker whose neighbours, by who took the films and by their texts, weigh much."""
    folder = tmp_path_factory.mktemp("served-near")
    run = make_run(films, folder / "run", modalities="id,text", repeat_bias=True, id_dropout=0.2)
    model = load_recommender(run)
    assert isinstance(model, SequentialRanker)
    data = Dataset.load(films)
    lists = [neighbour_list(data, name, keep=6, show_progress=False) for name in ("co-occurrence", "text")]
    model.neighbours = NeighbourScores(lists, [[2.0, 1.0, 0.5], [1.5, 0.0, 0.25]])
    with atomic_folder(run.model_folder, replace=True) as part:
        model.save(part)
    return make_bundle(run, folder / "near", with_images=True).folder


@pytest.fixture(scope="session")
def near(near_bundle: Path) -> Iterator[Live]:
    """A service whose model has neighbours."""
    running = Live(lambda: Service([BundleSpec("near", near_bundle)], ServeConfig()))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def dataset(films: Path) -> Dataset:
    return Dataset.load(films)
