"""Engines without Ray: the local one, what is refused, and the backend of workers."""

from __future__ import annotations

import pickle
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import worlds
from engine_helpers import Parrot, Squares
from summary_helpers import steps_for

from palate.data.dataset import Dataset
from palate.engines import ENGINES, files, make_engine, ray_engine
from palate.engines.local import LOCAL, LocalEngine
from palate.engines.ray_training import train_together
from palate.engines.ray_worker import RayWorker, versions
from palate.errors import PalateError
from palate.evaluation import budget, ranking_task
from palate.evaluation.evaluate import evaluate
from palate.evaluation.ranking_task import RankingTask, WorkersRanking
from palate.mllm.backends.workers import AnswerTask, WorkersBackend
from palate.mllm.summaries.store import rows_by_key
from palate.mllm.summaries.users import UserWork, cut_offs
from palate.rankers.registry import load_recommender
from palate.storage.lock import alone
from palate.training.fit import train

Palate = Callable[..., tuple[int, str, str]]


def test_files_are_read_in_blocks_and_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_AT_ONCE", 3)
    monkeypatch.setattr(files, "_BLOCKS", 2)
    names = [str(number) for number in range(20)]
    assert files.read_by(LOCAL, int, names, tmp_path, "Reading") == list(range(20))
    assert files.read_by(LOCAL, int, [], tmp_path, "Reading") == []
    task = pickle.loads(pickle.dumps(files.ReadTask(int, 2, (tmp_path,))))  # noqa: S301
    assert list(task.open()(iter([[["1", "2"], ["3"]]]), lambda _: None)) == [[1, 2, 3]]


def test_the_local_engine_opens_a_task_once_and_does_its_pieces_in_order(tmp_path: Path) -> None:
    done: list[int] = []
    task = Squares(tmp_path)
    with LOCAL.workers(task) as workers:
        assert list(workers.map(range(3), done.append)) == [(0, 0), (1, 1), (2, 4)]
        assert list(workers.map([5])) == [(0, 25)]
    assert workers.facts == "squares"
    assert len(task.notes("starts")) == 1
    assert done == [1, 1, 1]


@pytest.mark.parametrize("batch_size", [None, 16])
def test_ranks_of_pieces_are_those_of_all_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int | None
) -> None:
    monkeypatch.setattr(ranking_task, "_BATCHES", 2)
    monkeypatch.setattr(budget, "BATCH", 7)
    data = worlds.random_logs(users=50, tests=2, repeats=True)
    data.save(tmp_path / "data")
    settings = {"ranker": {"dim": 8}, "trainer": {"epochs": 1}}
    run = train(data, model="sasrec", out=tmp_path / "run", settings=settings)
    model = load_recommender(run)
    with LOCAL.workers(RankingTask(run.folder, None, "cpu")) as workers:
        for options in ({}, {"exclude_seen": False}, {"protocol": "sampled", "negatives": 5}):
            alone = evaluate(model, data, batch_size=batch_size, **options)
            pieces = evaluate(model, data, batch_size=batch_size, rank=WorkersRanking(workers), **options)
            assert pieces.frame.equals(alone.frame)
            assert pieces.totals == alone.totals


def test_preferences_by_workers_are_those_of_one_process(tmp_path: Path) -> None:
    data = worlds.walking_shop(steps=9)
    texts = []
    with LOCAL.workers(AnswerTask(Parrot)) as workers:
        for number, backend in enumerate([Parrot(), WorkersBackend(workers)]):
            requested = cut_offs(data, ["valid", "test"])
            work = UserWork(steps_for(data, backend, block=2), requested, data.user_ids.to_list())
            report = work.write(tmp_path / str(number), backend, progress=False)
            assert not report.missing
            texts.append({key: row["text"] for key, row in rows_by_key(tmp_path / str(number)).items()})
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20


def test_workers_refuse_other_versions_and_folders_that_they_do_not_see(tmp_path: Path) -> None:
    worker, task = RayWorker(), Squares(tmp_path)
    with pytest.raises(PalateError, match=r"palate is .* on the worker .*, and 9\.9 here"):
        worker.start(task, {**versions(), "palate": "9.9"}, str(tmp_path), [])
    with pytest.raises(PalateError, match=r"does not see the folder .*nowhere"):
        worker.start(task, versions(), str(tmp_path), [str(tmp_path / "nowhere")])


def test_two_commands_do_not_train_into_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    with alone(tmp_path / "held", "held", "wait"), pytest.raises(PalateError, match="another command trains with"):
        train_together(lambda: None, tmp_path / "held", [], workers=1, cpus=1, gpus=0)


def test_workers_that_train_see_what_is_written_and_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[tuple[Path, list[str], int]] = []

    def train_together(
        function: Callable[[], None], scratch: Path, folders: list[str], *, workers: int, cpus: int, gpus: float
    ) -> None:
        called.append((scratch, folders, workers))

    cluster = SimpleNamespace(cluster_resources=lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray_engine, "require_ray", lambda: cluster)
    monkeypatch.setattr(ray_engine, "connect", lambda *_: lambda: None)
    monkeypatch.setattr(ray_engine, "train_together", train_together)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    ray_engine.RayEngine(workers=2).together(print, Path("runs/.one.workers"), [tmp_path / "data"])
    assert capsys.readouterr().err == ""
    ray_engine.RayEngine(workers=3).together(print, tmp_path / ".two.workers", [tmp_path / "data"])
    assert "room for 2 workers: training begins when there is room for 3" in capsys.readouterr().err
    seen = [str(tmp_path / "data"), str(tmp_path / "runs"), str(tmp_path)]  # the last for relative paths
    assert called[0] == (tmp_path / "runs" / ".one.workers", seen, 2)
    assert (tmp_path / "runs").is_dir()
    assert called[1] == (tmp_path / ".two.workers", [str(tmp_path / "data"), str(tmp_path)], 3)


def test_without_ray_the_error_says_what_to_install(
    tmp_path: Path, palate: Palate, monkeypatch: pytest.MonkeyPatch
) -> None:
    worlds.walking_shop().save(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, errors = palate("encode", tmp_path / "data", "--engine", "ray")
    assert code == 2
    assert 'pip install "palate[ray]"' in errors
    assert "Traceback" not in errors


def test_options_that_an_engine_does_not_have_are_refused(palate: Palate, tmp_path: Path) -> None:
    worlds.walking_shop().save(tmp_path / "data")
    code, _, errors = palate("encode", tmp_path / "data", "--workers", 2)
    assert code == 2
    assert "the engine 'local' has no option --workers" in errors
    with pytest.raises(PalateError, match="Did you mean 'ray'"):
        make_engine("rya")
    code, _, errors = palate("recommend", tmp_path / "run", "--history", "i1", "--engine", "ray")
    assert code == 2
    assert "--engine ray belongs to --all" in errors


def test_addresses_where_no_cluster_is_are_refused_at_once(palate: Palate, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    worlds.walking_shop().save(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    for address, problem in (
        (closed, "no Ray cluster answers at"),
        ("nowhere", "cannot be used. Give HOST:PORT"),
        ("ray://127.0.0.1:10001", "ray job submit"),
    ):
        code, _, errors = palate("encode", tmp_path / "data", "--engine", "ray", "--address", address)
        assert code == 2, errors
        assert problem in errors
        assert "Traceback" not in errors
    with pytest.raises(PalateError, match=r"--gpus-per-worker 1\.5 cannot be reserved"):
        make_engine("ray", gpus_per_worker=1.5)


def test_a_cluster_of_another_version_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")

    def refuse(**options: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.40.0\n    Python: 3.11.1")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    engine = make_engine("ray", address="auto")
    with pytest.raises(PalateError, match=r"runs other versions .*Ray: 2\.40\.0") as caught, engine.workers(None):  # type: ignore[arg-type]
        pass
    assert caught.value.remedy == "Install the same Ray and Python here."


def test_errors_arrive_whole_from_another_process() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(PalateError("no title", "Give one.")))  # noqa: S301
    assert (error.message, error.remedy) == ("no title", "Give one.")


def test_a_training_command_is_called_by_its_engine(
    ring: Callable[..., Dataset], palate: Palate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where workers start again, they resume, and a run that exists is refused before they start."""
    called: list[tuple[Path, list[Path]]] = []

    class Restarting(LocalEngine):
        restarts = True

        def __init__(self, workers: int) -> None:
            assert workers == 2

        def together(self, function: Callable[[], None], scratch: Path, folders: Sequence[Path] = ()) -> None:
            called.append((scratch, list(folders)))
            assert isinstance(function, partial)
            assert function.keywords["resume"]
            assert pickle.dumps(function)  # it is sent to workers
            function()
            function()  # as after a worker's death

    monkeypatch.chdir(tmp_path)
    ring().save(tmp_path / "data")
    words = ["train", "data", "--model=popularity", "--out=runs/one", "--engine=restarting", "--workers=2"]
    with ENGINES.registered("restarting", Restarting):
        code, out, err = palate(*words)
        assert code == 0, err
        assert "Run: runs/one" in out
        assert called == [(Path("runs/.one.workers"), [Path("data")])]
        assert "runs/one holds a run already" in palate(*words)[2]
        assert len(called) == 1
        assert palate(*words, "--resume")[0] == 0
