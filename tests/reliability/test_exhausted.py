"""A full disk and used-up memory are one sentence, whichever library meets them."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from palate.cli.app import message_of
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.storage.exhausted import disk_full, out_of_memory, reserve, writing
from palate.storage.files import atomic_file, atomic_folder, write_text
from palate.training.fit import train

NUMBERS = np.arange(100_000, dtype=np.float64)


@contextmanager
def no_room() -> Iterator[None]:
    """Writes past the first 4 kB of a file fail, through whatever library: as on a full disk, with another number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_numbers(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, NUMBERS)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "polars": lambda path: pl.DataFrame({"a": NUMBERS}).write_parquet(path),
    "polars csv": lambda path: pl.DataFrame({"a": NUMBERS}).write_csv(path),
    "safetensors": lambda path: save_file({"a": torch.from_numpy(NUMBERS)}, path),
    "torch": lambda path: torch.save({"a": torch.from_numpy(NUMBERS)}, path),
    "numpy": save_numbers,
    "text": lambda path: path.write_text("x" * 100_000),
    "memory": lambda path: np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(10**5,)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_what_was_being_written_is_named(writer: str, tmp_path: Path) -> None:
    with pytest.raises(PalateError) as raised, atomic_file(tmp_path / "items.parquet") as part, no_room():
        WRITERS[writer](part)
    assert str(raised.value).startswith(("a file is larger than allowed while", "the disk is full, or cannot be writ"))
    assert "items.parquet. Free some space" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_full_database_too(tmp_path: Path) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy")
    database = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'study.db'}")

    def fill() -> None:
        with writing(tmp_path / "study"), database.begin() as connection:
            connection.execute(sqlalchemy.text("PRAGMA max_page_count = 3"))
            connection.execute(sqlalchemy.text("CREATE TABLE a (b TEXT)"))
            connection.execute(sqlalchemy.text("INSERT INTO a VALUES (:b)"), [{"b": "x" * 2000}] * 20)

    with pytest.raises(PalateError, match=r"no space left on the device while writing .*study\. Free"):
        fill()


def test_the_name_is_the_final_one_and_nothing_is_left(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_folder(tmp_path / "shop") as part, atomic_file(part / "a/items.parquet"):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with pytest.raises(PalateError) as raised:
        fill()
    assert f"the disk quota is used up while writing {tmp_path}/shop/a/items.parquet" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_fills_the_disk_goes_on_afterwards(
    data: Dataset, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"ranker": {"dim": 8, "layers": 1}, "trainer": {"epochs": 2, "tensorboard": False}}
    whole = train(data, model="sasrec", out=tmp_path / "whole", dataset_path=shop, settings=settings)
    save = torch.save

    def save_without_room(state: Any, path: Path) -> None:
        with no_room():
            save(state, path)

    monkeypatch.setattr(torch, "save", save_without_room)
    with pytest.raises(PalateError, match=r"while writing .*full/checkpoints/last.pt"):
        train(data, model="sasrec", out=tmp_path / "full", dataset_path=shop, settings=settings)
    monkeypatch.setattr(torch, "save", save)
    again = train(data, model="sasrec", out=tmp_path / "full", dataset_path=shop, settings=settings, resume=True)
    assert again.info["best"]["NDCG@10"] == whole.info["best"]["NDCG@10"]


def test_room_is_taken_before_a_file_is_written_through_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vectors.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(1000, 256))
    reserve(path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(PalateError, match=r"no space left on the device while writing .*vectors.npy"):
        reserve(path)


ALLOCATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "numpy": (lambda: np.zeros(10**14), "Unable to allocate 728. TiB for an array with shape"),
    "torch": (lambda: torch.zeros(10**14), "you tried to allocate 400000000000000 bytes"),
    "a product that overflows": (lambda: torch.zeros(10**10, 10**10), "overflowed"),
    "python": (lambda: b"0" * 10**17, "not enough memory"),
}


@pytest.mark.parametrize("library", ALLOCATIONS)
def test_what_could_not_be_allocated_is_one_line(library: str) -> None:
    allocate, words = ALLOCATIONS[library]
    with pytest.raises((MemoryError, RuntimeError)) as raised:
        allocate()
    line = message_of(raised.value)
    assert line is not None
    assert line.startswith("not enough memory")
    assert words in line
    assert "enforce fail" not in line
    assert "\n" not in line


def test_other_errors_are_left_alone() -> None:
    for error in (ValueError("5 requested and 4 written"), RuntimeError("shapes differ"), KeyError("x")):
        assert disk_full(error) is None
        assert out_of_memory(error) is None
        assert message_of(error) is None
    assert disk_full(OSError(errno.EACCES, "Permission denied")) is None
    with pytest.raises(ZeroDivisionError), writing(Path("x")):
        1 / 0  # noqa: B018


def test_the_command_line_says_it(palate: Callable[..., tuple[int, str, str]], shop: Path, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate.training.fit.train", fail)
        code, _, err = palate("train", shop, "--model", "popularity", "--out", tmp_path / "run")
    assert code == 2
    assert err.startswith("Error: not enough memory. Choose smaller sizes")
    assert len(err.splitlines()) == 1


def test_text_is_still_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b.txt", "x")
    assert (tmp_path / "a/b.txt").read_text() == "x"
