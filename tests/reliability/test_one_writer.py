"""One process at a time writes a run, a feature store or a warmed-up model; the second is refused."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from palate.alignment.align import align
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features.encode import encode
from palate.storage import lock
from palate.storage.lock import FolderInUse, alone, one_writer
from palate.training.attach import attach
from palate.training.blend import blend
from palate.training.fit import train

SETTINGS = {"ranker": {"dim": 8, "layers": 1}, "trainer": {"epochs": 1, "tensorboard": False}}


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Locked, as another process does it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def runs(data: Dataset, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    train(data, model="sasrec", out=folder / "neural", dataset_path=shop, settings=SETTINGS)
    train(data, model="popularity", out=folder / "popular", dataset_path=shop)
    return [folder / "neural", folder / "popular"]


COMMANDS: dict[str, Callable[[Dataset, Path, list[Path], Path], Any]] = {
    "train": lambda data, shop, runs, out: train(data, model="popularity", out=out, dataset_path=shop, resume=True),
    "align": lambda data, shop, runs, out: align(runs[0], out=out, resume=True, settings={"negatives": {"pool_k": 3}}),
    "attach": lambda data, shop, runs, out: attach(runs[0], out=out, neighbours=("co-occurrence",), resume=True),
    "blend": lambda data, shop, runs, out: blend(runs, out=out, resume=True),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_two_cannot_write_one_run(command: str, data: Dataset, shop: Path, runs: list[Path], tmp_path: Path) -> None:
    run = COMMANDS[command]
    with taken(tmp_path / "run"), pytest.raises(PalateError, match=r"another process is at work in .*run"):
        run(data, shop, runs, tmp_path / "run")
    assert not (tmp_path / "run/run.json").exists()
    assert run(data, shop, runs, tmp_path / "run").finished


def test_two_cannot_encode_one_store(shop: Path, data: Dataset) -> None:
    with (
        taken(shop / "features/.others.partial"),
        pytest.raises(PalateError, match=r"another process is encoding .*features/others"),
    ):
        encode(data, shop, "text", store="others")


def test_a_folder_that_is_removed_by_its_holder_is_made_again(tmp_path: Path) -> None:
    with alone(tmp_path / "work", "taken", "Wait."):
        (tmp_path / "work/.lock").unlink()
        with (
            alone(tmp_path / "work", "taken", "Wait."),
            pytest.raises(PalateError, match="taken"),
            alone(tmp_path / "work", "taken", "Wait."),
        ):
            pass


def test_other_workers_hold_nothing(tmp_path: Path) -> None:
    with one_writer(tmp_path / "run"), one_writer(tmp_path / "run", main=False):
        pass


def test_what_a_killed_process_left_in_a_run_goes(data: Dataset, shop: Path, tmp_path: Path) -> None:
    train(data, model="popularity", out=tmp_path / "run", dataset_path=shop)
    (tmp_path / "run/.model.99999.0123abcd.part").mkdir()
    (tmp_path / "run/checkpoints").mkdir()
    (tmp_path / "run/checkpoints/.last.pt.99999.0123abcd.part").touch()
    train(data, model="popularity", out=tmp_path / "run", dataset_path=shop, resume=True)
    assert [path.name for path in sorted((tmp_path / "run").rglob(".*"))] == [".lock"]


LEAVES_A_CHILD = """
import os, subprocess, sys
from pathlib import Path
from palate.storage.lock import alone

with alone(Path(sys.argv[1]), "taken", "Wait.") as held:
    child = subprocess.Popen(["sleep", "300"], pass_fds=held, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(child.pid, flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_child_keeps_the_lock_of_a_dead_process_until_it_ends(tmp_path: Path) -> None:
    words = [sys.executable, "-c", LEAVES_A_CHILD, str(tmp_path)]
    killed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(PalateError, match="taken"), alone(tmp_path, "taken", "Wait."):
        pass
    os.kill(int(killed.stdout), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:  # the system closes the child's files some time after the kill
        try:
            with alone(tmp_path, "taken", "Wait."):
                return
        except PalateError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_worker_that_was_started_again_waits_for_the_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as before:
        before.enter_context(taken(tmp_path))
        with pytest.raises(FolderInUse), one_writer(tmp_path):
            pass
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        monkeypatch.setattr(lock.time, "sleep", lambda _: before.close())
        with one_writer(tmp_path):
            pass
    monkeypatch.setattr(lock, "_PATIENCE", 0.0)
    with taken(tmp_path), pytest.raises(FolderInUse, match="at work in"), one_writer(tmp_path):
        pass


def test_a_file_system_without_locks_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(opened: int, *, blocking: bool) -> bool:
        raise OSError(errno.EOPNOTSUPP, "no locks")

    monkeypatch.setattr("palate.storage.leftovers.lock_descriptor", missing)
    with alone(tmp_path / "work", "taken", "Wait.") as first, alone(tmp_path / "work", "taken", "Wait.") as second:
        assert first == second == []
