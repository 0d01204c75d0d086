"""A folder that is replaced survives a kill at every change of a name, and the next call leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import Killer, hidden

from palate.errors import PalateError
from palate.storage import exchange as exchanging
from palate.storage.exchange import exchange
from palate.storage.files import atomic_file, atomic_folder, write_text
from palate.storage.leftovers import beside, holding, sweep

REPLACE = """
from palate.storage.files import atomic_folder, write_text
with atomic_folder("shop", replace=True, carry=("features", "summaries")) as part:
    write_text(part / "manifest.json", "new")
    write_text(part / "items.txt", "new")
"""
NEW = {"manifest.json": "new", "items.txt": "new", "features/text/vectors": "kept", "features/store.json": "kept"}


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("killer"), ["palate.storage.files"])
    yield made
    made.close()


def old_shop(folder: Path) -> Path:
    shop = folder / "shop"
    (shop / "features/text").mkdir(parents=True)
    for name, text in {**NEW, "manifest.json": "old", "items.txt": "old", "other.txt": "old"}.items():
        (shop / name).write_text(text)
    return shop


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.parametrize("two_steps", [False, True])
def test_killed_at_every_change_of_a_name_nothing_is_lost(killer: Killer, tmp_path: Path, two_steps: bool) -> None:
    if not two_steps and exchanging._call() is None:
        pytest.skip("this system cannot exchange two names at once")
    old_shop(tmp_path / "whole")
    whole = killer.run(["python", REPLACE], two_steps=two_steps, cwd=tmp_path / "whole")
    assert (whole.code, content(tmp_path / "whole/shop")) == (0, NEW), whole.output
    assert whole.changes > 12
    before = content(old_shop(tmp_path / "before"))
    missing = 0
    for at in range(1, whole.changes + 1):
        shop = old_shop(tmp_path / str(at))
        killed = killer.run(["python", REPLACE], at=at, two_steps=two_steps, cwd=shop.parent)
        assert killed.code == -9
        if shop.exists():
            assert content(shop) in (before, NEW), at
        else:
            missing += 1
        again = killer.run(["python", REPLACE], two_steps=two_steps, cwd=shop.parent)
        assert again.code == 0, again.output
        assert content(shop) == NEW, at
        assert hidden(shop.parent) == [], at
    assert missing == int(two_steps)  # between the two steps alone


def test_what_was_moved_aside_comes_back_before_a_new_folder_is_refused(killer: Killer, tmp_path: Path) -> None:
    shop = old_shop(tmp_path)
    at = next(n for n in range(1, 99) if not _left(killer, shop, n).exists())
    assert hidden(tmp_path), at
    with pytest.raises(PalateError, match="exists already"), atomic_folder(shop):
        pass
    assert content(shop)["manifest.json"] == "old"
    assert hidden(tmp_path) == []


def _left(killer: Killer, shop: Path, at: int) -> Path:
    shutil.rmtree(shop.parent)
    old_shop(shop.parent)
    killer.run(["python", REPLACE], at=at, two_steps=True, cwd=shop.parent)
    return shop


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    code = "import sys\nfrom palate.storage.files import atomic_folder, atomic_file\n"
    code += "with atomic_folder('shop') as part, atomic_file('log.txt') as file:\n"
    code += "    (part / 'a').write_text('a'); file.write_text('b'); print('ready', flush=True); sys.stdin.readline()\n"
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    sweep(tmp_path)
    write_text(tmp_path / "log.txt", "mine")
    with atomic_folder(tmp_path / "shop") as part:
        write_text(part / "a", "mine")
    assert len(hidden(tmp_path)) == 2
    _, output = other.communicate("\n")
    assert "shop exists already" in output
    assert content(tmp_path) == {"log.txt": "b", "shop/a": "mine"}


def test_leftovers_of_files_go_too(killer: Killer, tmp_path: Path) -> None:
    code = "from palate.storage.files import write_text\nwrite_text('runs/log.txt', 'new')"
    assert killer.run(["python", code], at=1, cwd=tmp_path).code == -9
    assert len(hidden(tmp_path / "runs")) == 1
    write_text(tmp_path / "runs" / "other.txt", "x")
    assert hidden(tmp_path) == []


def test_another_machines_leftovers_go_when_they_have_not_changed_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its locks may not be seen here."""
    with monkeypatch.context() as patched:
        patched.setattr("palate.storage.leftovers.socket.gethostname", lambda: "another")
        part, old, aside = (
            beside(tmp_path / "model"),
            beside(tmp_path / "shop", "old"),
            beside(tmp_path / "model", "old"),
        )
    for folder in (part, old, aside):
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "model").mkdir()
    sweep(tmp_path)
    assert len(hidden(tmp_path)) == 3
    now = time.time()
    monkeypatch.setattr("palate.storage.leftovers.time.time", lambda: now + 100)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "shop", part.name}
    monkeypatch.setattr("palate.storage.leftovers.time.time", lambda: now + 24 * 3600 + 100)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "shop"}


def test_links_to_folders_are_followed_and_links_within_kept(tmp_path: Path) -> None:
    real = old_shop(tmp_path / "disk")
    (tmp_path / "disk/elsewhere").mkdir()
    shutil.rmtree(real / "features")
    (real / "features").symlink_to("../elsewhere")
    link = tmp_path / "shop"
    link.symlink_to(real)
    with atomic_folder(link, replace=True, carry=("features",)) as part:
        write_text(part / "manifest.json", "new")
    assert link.is_symlink()
    assert (real / "features").is_symlink()
    assert content(real) == {"manifest.json": "new"}


def test_files_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    shop = old_shop(tmp_path)
    with atomic_folder(shop, replace=True, carry=("features",)) as part:
        write_text(part / "manifest.json", "new")
    assert content(shop)["features/text/vectors"] == "kept"


def test_a_failed_second_step_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.storage.files.exchange", lambda one, other: False)
    shop = old_shop(tmp_path)
    before = content(shop)

    def replace(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        os.rename(self, target)  # noqa: PTH104 - Path's own are patched
        return target

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="Input/output"), atomic_folder(shop, replace=True) as part:
        (part / "a").write_text("new")
    assert content(shop) == before
    assert hidden(tmp_path) == []


def test_two_that_make_one_folder_do_not_overwrite_each_other(tmp_path: Path) -> None:
    def first() -> None:
        with atomic_folder(tmp_path / "shop") as part:
            (part / "a").write_text("first")
            with atomic_folder(tmp_path / "shop") as other:
                (other / "a").write_text("second")

    with pytest.raises(PalateError, match="exists already"):
        first()
    assert content(tmp_path) == {"shop/a": "second"}


def test_exchange(tmp_path: Path) -> None:
    if exchanging._call() is None:
        pytest.skip("this system cannot exchange two names at once")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    assert exchange(tmp_path / "folder", tmp_path / "file")
    assert (tmp_path / "file").is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "folder", tmp_path / "nothing")


def test_a_lock_is_that_of_the_name(tmp_path: Path) -> None:
    part = beside(tmp_path / "shop")
    part.mkdir()
    with holding(part) as held:
        assert held is True
        with holding(part) as second:
            assert second is False
    seen: list[bool | None] = []
    thread = threading.Thread(target=lambda: seen.append(holding(tmp_path / "gone").__enter__()))
    thread.start()
    thread.join()
    assert seen == [False]


@pytest.mark.parametrize("path", ["", ".", "..", "a/.."])
def test_what_is_no_name_is_refused(path: str) -> None:
    with pytest.raises(PalateError, match="no name of a new"), atomic_folder(path):
        pass
    with pytest.raises(PalateError, match="no name of a new"), atomic_file(path):
        pass
