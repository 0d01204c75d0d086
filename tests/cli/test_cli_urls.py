"""URLs in place of paths, in options, recipes and Python alike; what is printed and recorded names them as given."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_helpers import Shell
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from remote_helpers import calls, machine, names, write

import palate as api
from palate.bundle import Bundle
from palate.cli.commands import root
from palate.cli.shared.command import path_names
from palate.cli.shared.places import is_written
from palate.data.dataset import Dataset
from palate.data.prepare import prepare
from palate.errors import PalateError
from palate.runs.run import Run, environment
from palate.storage.remote import local
from palate.training.fit import train

STORE = "memory://bucket"
READ = ("--reader", "table", "--columns", "user=user,item=item,timestamp=time")
SMALL = ("--set", "ranker.dim=8", "--set", "ranker.layers=1", "--set", "trainer.tensorboard=false")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bucket with a log, a catalogue and a picture."""
    machine(monkeypatch, tmp_path / "cache")
    rows = [(f"u{u}", f"i{(u + s) % 12}", 10**9 + s) for u in range(30) for s in range(6)]
    log = pl.DataFrame(rows, schema=["user", "item", "time"], orient="row")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"Thing {n}" for n in range(12)]})
    write(STORE, **{"raw__log.csv": log.write_csv(), "raw__items.csv": items.write_csv()})
    Image.new("RGB", (8, 8), "red").save(tmp_path / "i1.png")
    MemoryFileSystem().pipe_file("/bucket/pictures/i1.png", (tmp_path / "i1.png").read_bytes())
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def data(palate: Shell) -> str:
    """The URL of a dataset."""
    more = ("--catalogue", f"{STORE}/raw/items.csv", "--images", f"{STORE}/pictures")
    done = palate("prepare", f"{STORE}/raw/log.csv", *READ, *more, "--out", f"{STORE}/data/shop", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["out"] == f"{STORE}/data/shop"
    return f"{STORE}/data/shop"


def run_json(run: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((local(run) / "run.json").read_text())
    return facts


def test_from_a_log_to_recommendations(
    palate: Shell, data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert palate("encode", data, "--lexical", "--fields", "title").code == 0
    assert "features/lexical/store.json" in names(data)
    made = palate("train", data, "--model", "sasrec", "--epochs", 1, *SMALL, "--out", f"{STORE}/runs/neural", "--json")
    assert json.loads(made.out)["out"] == f"{STORE}/runs/neural"
    done = palate("train", data, "--model", "popularity", "--out", f"{STORE}/runs/popular")
    assert f"Run: {STORE}/runs/popular  (next: palate evaluate {STORE}/runs/popular)" in done.out
    facts = run_json(f"{STORE}/runs/popular")
    assert facts["dataset"]["path"] == data
    assert facts["dataset"]["image_root"] == f"{STORE}/pictures"
    assert "cache" not in json.dumps(facts)

    machine(monkeypatch, tmp_path / "another")  # a run finds its dataset from there too
    rows = (f"{STORE}/runs/popular", f"mine={STORE}/runs/neural")
    done = palate("evaluate", *rows, "--base", "mine", "--out", f"{STORE}/table", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["out"] == f"{STORE}/table"
    saved = json.loads((local(f"{STORE}/table") / "table.json").read_text())
    assert saved["runs"]["mine"][0]["folder"] == f"{STORE}/runs/neural"
    done = palate("report", "--table", f"{STORE}/table", "--gallery", 1, "--out", f"{STORE}/report", "--json")
    assert json.loads(done.out)["report"] == f"{STORE}/report/report.html"
    more = ("--table", f"{STORE}/table", "--with-images")
    done = palate("bundle", f"{STORE}/runs/neural", *more, "--out", f"{STORE}/bundle", "--json")
    assert json.loads(done.out)["bundle"] == f"{STORE}/bundle"
    assert {"images/1.png", "neighbours/lexical.parquet"} & set(names(f"{STORE}/bundle"))
    done = palate("recommend", f"{STORE}/bundle", "--history", "i1", "--k", 2, "--json")
    assert len(json.loads(done.out)["items"]) == 2
    done = palate("recommend", f"{STORE}/runs/popular", "--all", "--out", f"{STORE}/recs", "--json")
    assert json.loads(done.out)["out"] == f"{STORE}/recs"
    assert names(f"{STORE}/recs") == ["_SUCCESS", "part-00000.parquet"]


def test_pictures_beside_a_catalogue_at_a_url(palate: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    items = pl.DataFrame({"item_id": ["i0", "i1"], "image": ["gone.png", "../pictures/i1.png"]})
    listed = items.with_columns(image=pl.col("image").str.replace("../", "", literal=True))
    for frame, path in ((items, "raw/with.csv"), (listed, "listed.csv")):
        MemoryFileSystem().pipe_file(f"/bucket/{path}", frame.write_csv().encode())
    words = ("prepare", f"{STORE}/raw/log.csv", *READ, "--out", f"{STORE}/data/shop", "--catalogue")
    assert "lies outside of" in palate(*words, f"{STORE}/raw/with.csv").err
    done = palate(*words, f"{STORE}/listed.csv", "--json")
    assert json.loads(done.out)["matches"]["pictures"]["missing"] == 1
    machine(monkeypatch, tmp_path / "another")
    catalogue = Dataset.load(f"{STORE}/data/shop").catalogue
    assert catalogue.pictures == STORE
    picture = catalogue.image_path(catalogue.index["i1"])
    assert picture is not None
    assert picture.read_bytes() == (tmp_path / "i1.png").read_bytes()


def test_of_a_catalogue_that_names_no_picture_the_file_alone_is_fetched(
    palate: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = pl.DataFrame({"item_id": ["i0", "i1"], "title": ["Hat", "Scarf"], "image": [None, None]})
    write(STORE, **{"raw__empty__items.csv": items.write_csv(), "raw__empty__large.bin": "9" * 99})
    words = ("prepare", f"{STORE}/raw/log.csv", *READ, "--out", f"{STORE}/data/shop")
    with calls(monkeypatch, "get") as fetched:
        done = palate(*words, "--catalogue", f"{STORE}/raw/empty/items.csv")
    assert done.code == 0, done.err
    assert fetched == ["", ""]  # the log and the catalogue themselves
    assert Dataset.load(f"{STORE}/data/shop").catalogue.image_path(1) is None


# Options that are paths, by what a command does with them: another one has to be put into one of the two.
READS = [
    "api_key_file",
    "append",
    "bundle",
    "catalogue",
    "config",
    "dataset",
    "feedback",
    "ids",
    "images",
    "items",
    "matrix",
    "new",
    "old",
    "path",
    "paths",
    "prompts",
    "recipe",
    "reference",
    "refit",
    "retriever",
    "reuse",
    "rules",
    "run",
    "runs",
    "source",
    "table",
    "users",
    "warm_start",
]
WRITES = (
    *("encode dataset", "items dataset", "users dataset", "train finish", "track paths", "serve feedback"),
    *("out", "publish"),
)


def test_every_path_is_either_read_or_written() -> None:
    def check(command: Any, name: str) -> None:
        for one, inner in getattr(command, "commands", {}).items():
            check(inner, one)
        if hasattr(command, "commands"):
            return
        made = command.params
        for path in path_names(command):
            assert {path, f"{name} {path}"} & {*READS, *WRITES}, f"{name}: is {path} read or written?"
            written = path in WRITES or f"{name} {path}" in WRITES
            assert written == is_written(name, path), (name, path)
        assert made

    check(root(), "palate")


def test_mistakes_name_the_url(palate: Shell, data: str) -> None:
    done = palate("evaluate", data)
    assert done.err.startswith(f"Error: {data} is not a run (it has no run.json).")
    done = palate("prepare", f"{STORE}/raw/log.csv", *READ, "--out", data)
    assert done.err.startswith(f"Error: {data} exists already.")
    done = palate("info", f"{STORE}/nothing", "--json")
    assert json.loads(done.err)["error"]["message"] == f"{STORE}/nothing is not there"
    assert palate("info", f"{data}x").code == 2


def test_a_recipe_may_name_urls_and_be_at_one(palate: Shell, data: str) -> None:
    text = f'[train]\ndataset = "{data}"\nmodel = "popularity"\nout = "{STORE}/runs/recipe"\n'
    write(STORE, **{"recipe.toml": text})
    done = palate("train", "--config", f"{STORE}/recipe.toml", "--json")
    assert done.code == 0, done.err
    assert Run.open(f"{STORE}/runs/recipe").finished


def test_an_existing_dataset_is_replaced_whole(palate: Shell, data: str) -> None:
    again = ("prepare", f"{STORE}/raw/log.csv", *READ, "--overwrite", "--k-core", 2, "--out", data)
    assert palate(*again).code == 0
    assert Dataset.load(data).manifest["filters"][-1]["step"] == "k-core"
    assert Dataset.load(data).catalogue.frame["title"].null_count() == 12  # of no catalogue this time


def test_pictures_are_fetched_when_they_are_needed(data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, tmp_path / "another")
    with calls(monkeypatch, "get") as fetched:
        catalogue = Dataset.load(data).catalogue
        assert "i1.png" not in fetched
        path = catalogue.image_path(catalogue.index["i1"])
        assert path is not None
        assert path.read_bytes() == (tmp_path / "i1.png").read_bytes()
        assert fetched[-1] == "i1.png"


def test_workers_of_several_machines_are_refused(palate: Shell, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    done = palate("train", data, "--model", "popularity", "--out", f"{STORE}/runs/x")
    assert "workers of several machines cannot write to a URL together" in done.err


def test_a_service_that_is_stopped_sends_its_feedback(
    palate: Shell, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("uvicorn")
    assert palate("train", data, "--model", "popularity", "--out", f"{STORE}/runs/popular").code == 0
    assert palate("bundle", f"{STORE}/runs/popular", "--out", f"{STORE}/bundle").code == 0

    def serve(service: Any, *words: Any) -> None:
        """Ends as uvicorn does, which raises the signal again that has ended it."""
        service.recorder.folder.mkdir(parents=True, exist_ok=True)
        (service.recorder.folder / "shown.parquet").write_text("x")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("palate.serve.server.run", serve)
    monkeypatch.setattr("palate.serve.server.bind", lambda host, port: None)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        done = palate("serve", f"{STORE}/bundle", "--feedback", f"{STORE}/feedback", "--log", "error")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done.code == 143
    assert "shown.parquet" in names(f"{STORE}/feedback")


def test_a_served_bundle_is_looked_for_in_the_store(palate: Shell, data: str) -> None:
    pytest.importorskip("uvicorn")
    from palate.serve.config import ServeConfig
    from palate.serve.loaded_models import load_models, parse_bundle_specs
    from palate.serve.telemetry import Telemetry

    runs = {name: f"{STORE}/runs/{name}" for name in ("popularity", "item-knn")}
    for name, run in runs.items():
        assert palate("train", data, "--model", name, "--out", run).code == 0
        assert palate("bundle", run, "--out", f"{STORE}/bundles/{name}").code == 0
    files = MemoryFileSystem()
    files.copy("/bucket/bundles/popularity", "/bucket/bundles/live", recursive=True)
    specs = parse_bundle_specs([f"live={local(f'{STORE}/bundles/live')}"], None, 20, None)
    loaded = load_models(specs, ServeConfig(), Telemetry())
    assert load_models(specs, ServeConfig(), Telemetry(), before=loaded).default is loaded.default
    files.rm("/bucket/bundles/live", recursive=True)
    files.copy("/bucket/bundles/item-knn", "/bucket/bundles/live", recursive=True)
    assert load_models(specs, ServeConfig(), Telemetry(), before=loaded).default.bundle.facts["model"] == "item-knn"


def test_python_calls(data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    columns = {"user": "user", "item": "item", "timestamp": "time"}
    made = prepare(f"{STORE}/raw/log.csv", "table", columns=columns, catalogue=f"{STORE}/raw/items.csv")
    made.save(f"{STORE}/data/again")
    assert Dataset.load(f"{STORE}/data/again").num_items == 12
    with pytest.raises(PalateError, match="exists already"):
        made.save(f"{STORE}/data/again")
    api.train(Dataset.load(data), model="popularity", out=f"{STORE}/runs/python", dataset_path=data)
    machine(monkeypatch, tmp_path / "another")
    run = Run.open(f"{STORE}/runs/python")
    assert run.info["dataset"]["path"] == data
    assert api.load_recommender(run).num_items == 12
    assert api.describe(f"{STORE}/runs/python")["kind"] == "run"


def test_a_killed_training_goes_on_on_another_machine(
    data: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"ranker": {"dim": 8, "layers": 1}, "trainer": {"epochs": 3, "tensorboard": False}}
    dataset, out = Dataset.load(data), f"{STORE}/runs/killed"

    def machine_is_taken_away(row: dict[str, Any]) -> None:
        if row["epoch"] == 2:
            raise KeyboardInterrupt  # as SIGTERM does in a command

    with pytest.raises(KeyboardInterrupt):
        train(dataset, model="sasrec", out=out, settings=settings, dataset_path=data, on_epoch=machine_is_taken_away)
    machine(monkeypatch, tmp_path / "another")
    assert not Run.open(out).finished
    assert (local(out) / "checkpoints/last.pt").is_file()
    train(dataset, model="sasrec", out=out, settings=settings, dataset_path=data, resume=True)
    train(dataset, model="sasrec", out=tmp_path / "whole", settings=settings)
    resumed, whole = Run.open(out), Run.open(tmp_path / "whole")
    assert resumed.finished
    weights = "model/weights.safetensors"
    assert (resumed.folder / weights).read_bytes() == (whole.folder / weights).read_bytes()


def test_a_bundle_at_a_url_has_no_say_in_what_is_read_here(palate: Shell, data: str, tmp_path: Path) -> None:
    out = f"{STORE}/runs/popular"
    assert palate("train", data, "--model", "popularity", "--out", out).code == 0
    assert palate("bundle", out, "--out", tmp_path / "bundle").code == 0
    facts = json.loads((tmp_path / "bundle/bundle.json").read_text())
    assert facts["items"]["image_root"] is None  # nor does a bundle send anybody to a URL
    facts["items"]["image_root"] = str(tmp_path)
    (tmp_path / "bundle/bundle.json").write_text(json.dumps(facts))
    picture = Bundle.load(tmp_path / "bundle").picture(2)
    assert picture is not None
    assert picture.is_file()
    files = MemoryFileSystem()
    files.put(str(tmp_path / "bundle"), "/bucket/bundle", recursive=True)
    assert Bundle.load(f"{STORE}/bundle").picture(2) is None


def test_a_password_is_neither_printed_nor_recorded(palate: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    done = palate("info", "ftp://ann:secret@127.0.0.1:1/shop")
    assert "Error: ftp://127.0.0.1:1/shop cannot be reached" in done.err
    assert "secret" not in done.err + done.out
    monkeypatch.setattr(sys, "argv", ["palate", "train", "sftp://ann:secret@host/shop"])
    assert environment()["command"] == ["palate", "train", "sftp://host/shop"]
