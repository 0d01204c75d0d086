"""The engine of Ray: the same bytes as in one process, also where workers die."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl
import pytest
import worlds
from bundle_helpers import encoded_films, make_run
from engine_helpers import Parrot, Squares
from flaky_server import FlakyServer, prompt_of, running
from summary_helpers import steps_for

from palate.bundle import make_bundle
from palate.data.dataset import Dataset
from palate.data.doctor import examine
from palate.engines import files
from palate.engines.base import Engine
from palate.engines.local import LOCAL
from palate.errors import PalateError
from palate.evaluation import budget, ranking_task
from palate.features import chunks
from palate.features.content import Modality
from palate.features.encode import encode
from palate.mllm.backends.workers import AnswerTask, WorkersBackend, backend_by
from palate.mllm.summaries.store import rows_by_key
from palate.mllm.summaries.users import UserWork, cut_offs
from palate.rankers import recommend
from palate.training.fit import train

pytest.importorskip("ray", reason="Ray is not installed")
Palate = Callable[..., tuple[int, str, str]]
STORE = ("store.json", "vectors.npy", "present.npy", "items.parquet")


def encoded(data: Path, modality: Modality, engine: Engine = LOCAL) -> dict[str, bytes]:
    """The files of a new store."""
    store = encode(Dataset.load(data), data, modality, engine=engine, overwrite=True)
    files = {name: (store.folder / name).read_bytes() for name in STORE}
    shutil.rmtree(store.folder)
    return files


@pytest.mark.parametrize(("modality", "pieces"), [("text", 1), ("text", 2), ("image", 5)])
def test_stores_have_the_bytes_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, modality: Modality, pieces: int
) -> None:
    """Of the pictures one is missing and one is broken."""
    monkeypatch.setattr(chunks, "CHUNK", -(-worlds.TASTE_ITEMS // pieces))
    worlds.two_tastes(tmp_path)
    there, here = (encoded(tmp_path / "dataset", modality, one) for one in (engine, LOCAL))
    assert there == here


def test_the_doctor_finds_the_same_in_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 3)
    monkeypatch.setattr(files, "_BLOCKS", 2)
    data = worlds.two_tastes(tmp_path)
    report = examine(data, engine=engine)
    assert report == examine(data)
    assert report["unreadable-pictures"].count == 1


def test_another_engine_goes_on_where_one_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 6)
    data = worlds.two_tastes(tmp_path)
    saved = []

    def save(*args: object, **options: object) -> None:
        saved.append(args)
        if len(saved) == 3:
            raise KeyboardInterrupt
        real(*args, **options)  # type: ignore[arg-type]

    real = chunks.save_file
    with monkeypatch.context() as patched:
        patched.setattr(chunks, "save_file", save)
        with pytest.raises(KeyboardInterrupt):
            encode(data, tmp_path / "dataset", "text", engine=engine)
    store = encode(data, tmp_path / "dataset", "text")
    assert "Going on after 12 of 30 encoded before" in capsys.readouterr().err
    assert store.present[1:].all()


def test_pieces_of_workers_that_die_are_done_by_others(tmp_path: Path, engine: Engine) -> None:
    task = Squares(tmp_path, deadly=3, times=2)
    with engine.workers(task) as workers:
        found = list(workers.map(iter(range(12)), ordered=True))
    assert found == [(number, number * number) for number in range(12)]
    assert len(task.notes("starts")) >= 3
    assert len(task.notes("deaths")) == 2


def test_a_piece_that_always_kills_is_one_error(tmp_path: Path, engine: Engine) -> None:
    with engine.workers(Squares(tmp_path, deadly=0, times=99)) as workers, pytest.raises(PalateError) as caught:
        list(workers.map(range(3)))
    assert "workers died 4 times while they did one piece" in caught.value.message


def test_errors_and_limits_of_workers(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0

    def pieces() -> Iterator[int]:
        nonlocal taken
        for number in range(500):
            taken += 1
            yield number

    with engine.workers(Squares(tmp_path, poison=40)) as workers:
        results = workers.map(pieces())
        next(results)
        assert taken <= 12  # no more than there is room for
        with pytest.raises(PalateError, match=r"40 is poison\. Leave it out\.") as caught:
            list(results)
        assert caught.value.__cause__ is None
    monkeypatch.setattr("palate.engines.ray_engine.versions", lambda: {"palate": "9.9"})
    with pytest.raises(PalateError, match=r"on the worker .*, and 9\.9 here"), engine.workers(Squares(tmp_path)):
        pass


def test_recommendations_and_evaluation_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine, palate: Palate
) -> None:
    data = worlds.ring()
    data.save(tmp_path / "data")
    settings = {"ranker": {"dim": 8}, "trainer": {"epochs": 1}}
    run = train(data, model="sasrec", out=tmp_path / "run", settings=settings, dataset_path=tmp_path / "data").folder
    monkeypatch.setattr(recommend, "_BATCH_SCORES", 16 * 31)
    monkeypatch.setattr(budget, "BATCH", 8)
    monkeypatch.setattr(ranking_task, "_BATCHES", 2)
    ray = ("--engine", "ray", "--workers", 2)
    for name, more in (("here", ()), ("there", ray)):
        code, _, errors = palate("recommend", run, "--all", "--out", tmp_path / f"{name}.parquet", *more)
        assert code == 0, errors
        code, _, errors = palate("evaluate", run, "--out", tmp_path / name, *more)
        assert code == 0, errors
    for file in ("{}.parquet", "{}/per-user.parquet", "{}/table.md"):
        here, there = (tmp_path / file.format(name) for name in ("here", "there"))
        assert there.read_bytes() == here.read_bytes(), file
    code, _, errors = palate("recommend", run, "--all", "--out", tmp_path / "shards.parquet", *ray, "--shards", 2)
    assert code == 0, errors
    here, there = (pl.read_parquet(tmp_path / f"{name}.parquet") for name in ("here", "shards"))
    assert there.drop("score").equals(here.drop("score"))
    assert (there["score"] - here["score"]).abs().max() < 1e-5  # type: ignore[operator]
    code, _, errors = palate("recommend", run, "--all", "--out", tmp_path / "no.parquet", *ray, "--shards", 3)
    assert code == 2
    assert "3 shards need as many workers, and there are 2. Give --workers 3" in errors


@pytest.mark.slow
def test_workers_with_a_part_of_the_items_recommend_with_neighbours_and_blends(
    tmp_path: Path, engine: Engine, palate: Palate
) -> None:
    data = encoded_films(tmp_path)
    near = make_run(data, tmp_path / "near", modalities="id", neighbours=("co-occurrence", "lexical"), epochs=1)
    assert near.info["neighbours"]["strength"] > 0
    popular = make_run(data, tmp_path / "popular", model="popularity", modalities="id")
    code, _, errors = palate("blend", near.folder, popular.folder, "--out", tmp_path / "blend")
    assert code == 0, errors
    make_bundle(near, tmp_path / "bundle")
    ray = ("--engine", "ray", "--workers", 2, "--shards", 2)
    for name in ("near", "blend", "bundle"):
        tables = []
        for number, more in enumerate(((), ray)):
            out = tmp_path / f"{name}-{number}.parquet"
            words = ("--all", "--dataset", data, "--without", "year<1992", "--out", out)
            code, _, errors = palate("recommend", tmp_path / name, *words, *more)
            assert code == 0, errors
            tables.append(pl.read_parquet(out))
        here, there = tables
        assert there.drop("score").equals(here.drop("score"))
        assert (there["score"] - here["score"]).abs().max() < 1e-5  # type: ignore[operator]


def test_preferences_are_those_of_one_process(tmp_path: Path, engine: Engine) -> None:
    data = worlds.walking_shop(steps=9)
    texts = []
    with engine.workers(AnswerTask(partial(Parrot))) as workers:
        for number, backend in enumerate([Parrot(), WorkersBackend(workers)]):
            work = UserWork(steps_for(data, backend, block=2), cut_offs(data, ["test"]), data.user_ids.to_list())
            assert not work.write(tmp_path / str(number), backend, progress=False).missing
            texts.append({key: row["text"] for key, row in rows_by_key(tmp_path / str(number)).items()})
    assert texts[0] == texts[1]


def test_workers_that_ask_a_server_write_what_one_process_does(tmp_path: Path, engine: Engine) -> None:
    pytest.importorskip("openai", reason="the package openai is not installed")
    data = worlds.walking_shop(steps=9)
    options = {"concurrency": 2, "attempts": 2}
    with running(FlakyServer(lambda payload: f"Likes {len(prompt_of(payload))} things, quiet and small.")) as server:
        texts = []
        for one in (LOCAL, engine):
            folder = tmp_path / type(one).__name__
            with backend_by(one, "openai", "tiny", base_url=server.url, **options) as backend:
                work = UserWork(steps_for(data, backend, block=2), cut_offs(data, ["test"]), data.user_ids.to_list())
                assert not work.write(folder, backend, progress=False).missing
            texts.append({key: row["text"] for key, row in rows_by_key(folder).items()})
        assert texts[0] == texts[1]
        assert len(server.payloads) == 2 * len(texts[0])
        assert server.most > 1
    with backend_by(engine, "openai", "tiny", base_url=server.url, **options) as backend:
        work = UserWork(steps_for(data, backend, block=2), cut_offs(data, ["test"]), data.user_ids.to_list())
        report = work.write(tmp_path / "gone", backend, progress=False)
    assert all("no connection to" in reason for reason in report.reasons)


@pytest.mark.slow
def test_pieces_of_a_node_that_is_lost_are_done_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    import ray
    from ray.cluster_utils import Cluster

    from palate.engines.ray_engine import RayEngine

    ray.shutdown()  # of the fixture, if it came first
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    folder = tempfile.mkdtemp(prefix="ray-")
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "_temp_dir": folder})
    try:
        second = cluster.add_node(**node)
        task = Squares(tmp_path, seconds=0.5)
        with RayEngine(cluster.address) as engine, engine.workers(task) as workers:

            def lose() -> None:
                while len(task.notes("starts")) < 2 or len(task.notes("pieces")) < 4:
                    time.sleep(0.2)
                cluster.remove_node(second, allow_graceful=False)

            loser = threading.Thread(target=lose)
            loser.start()
            found = list(workers.map(range(60), ordered=True))
            loser.join()
        assert found == [(number, number * number) for number in range(60)]
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("RAY_ADDRESS", None)
