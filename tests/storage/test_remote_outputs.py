"""Outputs at a URL: sent whole, by one machine at a time, and never taken for whole before they are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from remote_helpers import calls, machine, names, write

from palate.errors import PalateError
from palate.storage.remote import Sending, given, local, takes_urls
from palate.storage.remote.store import UNFINISHED, Store


def make(url: str, **files: str) -> None:
    """What a command does: make files in a working folder, the manifest last."""
    sending = Sending()
    place = sending.open(url)
    with sending:
        fill(place, **files)


def fill(place: Path, **files: str) -> None:
    for name, text in files.items():
        path = place / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_folder_is_sent_with_its_manifest_last(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with calls(monkeypatch, "put") as sent:
        make(shop, manifest_json="{}", deep__er="1", top="2", **{".hidden": "x", ".partial__a": "x"})
    assert sent == ["deep/er", "top", "manifest.json"]
    assert names(shop) == ["deep/er", "manifest.json", "top"]
    with calls(monkeypatch, "get") as fetched:
        assert (local(shop) / "deep/er").read_text() == "1"
        assert fetched == []  # this machine has made it


def test_a_file_is_sent_as_one(shop: str) -> None:
    sending = Sending()
    place = sending.open(f"{shop}/page.html")
    with sending:
        place.write_text("<p>")
    assert names(shop) == ["page.html"]
    assert local(f"{shop}/page.html").read_text() == "<p>"


def test_only_what_has_changed_is_sent_and_what_is_gone_is_removed(
    shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(shop, a="1", b="1", c="1")
    for place in ("cache", "other"):  # the same machine, and one that has to fetch it first
        machine(monkeypatch, tmp_path / place)
        sending = Sending()
        folder = sending.open(shop)
        with calls(monkeypatch, "put") as sent, sending:
            (folder / "b").write_text(place)
            (folder / "c").unlink(missing_ok=True)
        assert sent == ["b"]
        assert names(shop) == ["a", "b"]
    assert (local(shop) / "b").read_text() == "other"


def test_an_upload_that_is_killed_leaves_nothing_that_can_be_read(
    shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = Store.put

    def killed(self: Store, path: Path, name: str) -> None:
        if name == "manifest.json":
            raise SystemExit
        original(self, path, name)

    monkeypatch.setattr(Store, "put", killed)
    with pytest.raises(SystemExit):
        make(shop, a="1", manifest_json="{}")
    monkeypatch.setattr(Store, "put", original)
    assert names(shop) == [UNFINISHED, "a"]
    for place in ("cache", "other"):
        machine(monkeypatch, tmp_path / place)
        with pytest.raises(PalateError, match="is not whole"):
            local(shop)
    machine(monkeypatch, tmp_path / "cache")
    with Sending() as sending:  # the same machine goes on with what it has made
        sending.open(shop)
    assert names(shop) == ["a", "manifest.json"]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://host/runs/shop", "https:// is for reading alone"),
        ("hf://ann/shop", "hf:// is for reading alone"),
        ("file://{folder}/file/run", "cannot be written"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(url: str, problem: str, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("huggingface_hub")
    (tmp_path / "file").write_text("")
    with pytest.raises(PalateError, match=problem):
        Sending().open(url.replace("{folder}", str(tmp_path)))


def test_to_try_whether_a_place_can_be_written_leaves_nothing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, tmp_path / "cache")
    place = tmp_path / "place"
    for _ in range(2):
        make(f"file://{place}", a="1")
        assert [path.name for path in place.iterdir()] == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "place"]


def test_a_killed_replacement_is_not_read_either(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(shop, a="1", b="1", manifest_json="{}")

    def refused(self: Store, path: Path, name: str) -> None:
        raise PalateError("the network is gone", "Wait for it")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", refused)
        with pytest.raises(PalateError) as error:
            make(shop, a="2")
    assert "the network is gone. Wait for it. What was made is kept in" in str(error.value)
    kept = str(error.value).rpartition("kept in ")[2].removesuffix(".")
    assert kept.startswith("file:///")
    assert given(f"{shop}: kept in {kept}") == f"{shop}: kept in {kept}"  # a URL would not say where it is
    with pytest.raises(PalateError, match="is not whole"):
        local(shop)
    make(shop)
    assert (local(shop) / "a").read_text() == "2"


def test_another_machine_can_go_on_after_a_killed_upload(
    shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(shop, a="1", **{UNFINISHED: "a machine that is gone"})
    sending = Sending()
    place = sending.open(shop)
    assert [path.name for path in place.iterdir()] == ["a"]
    with sending:
        fill(place, b="2")
    assert names(shop) == ["a", "b"]


def test_what_somebody_else_has_written_is_not_overwritten(
    shop: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make(shop, a="1", b="1")
    sending = Sending()
    place = sending.open(shop)
    write(shop, a="theirs", c="theirs")
    with pytest.raises(PalateError, match=r"shop has changed since this command began: a is another's now"), sending:
        (place / "a").write_text("ours")
    assert (local(shop) / "a").read_text() == "theirs"
    with Sending() as again:  # what is there counts, not what was made here
        assert (again.open(shop) / "a").read_text() == "theirs"


def test_what_others_add_is_kept_and_seen_by_the_next_command(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(shop, a="1", b="1")
    sending = Sending()
    place = sending.open(shop)
    with sending:
        fill(place, c="ours")
        write(shop, theirs="2")
    assert names(shop) == ["a", "b", "c", "theirs"]
    with calls(monkeypatch, "get") as fetched, Sending() as again:
        assert sorted(path.name for path in again.open(shop).iterdir()) == ["a", "b", "c", "theirs"]
        assert fetched == ["theirs"]


def test_what_is_removed_from_the_cache_is_not_removed_from_the_store(shop: str) -> None:
    make(shop, a="1", b="1")
    with Sending() as sending:
        (sending.open(shop) / "a").unlink()
    assert names(shop) == ["b"]  # a command that removes a file
    (sending.open(shop) / "b").unlink()
    make(shop, c="1")  # somebody who clears the cache
    assert names(shop) == ["b", "c"]


def test_after_an_error_nothing_is_sent_and_after_an_interruption_what_is_finished(shop: str) -> None:
    for error, there in ((PalateError("no"), []), (KeyboardInterrupt(), ["a"])):
        sending = Sending()
        place = sending.open(shop)
        fill(place, a="1")
        with pytest.raises(type(error)), sending:
            raise error
        assert (names(shop) if there else Store(shop).listing() or []) == there


def test_what_is_finished_is_sent_while_the_work_goes_on(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_REMOTE_EVERY", "0.02")
    sending = Sending()
    place = sending.open(shop)
    with sending:
        fill(place, checkpoint="1")
        until = time.monotonic() + 60
        while Store(shop).listing() is None or UNFINISHED in (Store(shop).listing() or {}):
            assert time.monotonic() < until
            time.sleep(0.01)
        assert "checkpoint" in (Store(shop).listing() or {})


def test_a_number_of_seconds_that_is_none(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_REMOTE_EVERY", "soon")
    with pytest.raises(PalateError, match="PALATE_REMOTE_EVERY is 'soon', which is no number of seconds"), Sending():
        raise AssertionError


def test_a_worker_that_does_not_write_sends_nothing(shop: str) -> None:
    sending = Sending(writes=False)
    place = sending.open(shop)
    with sending:
        fill(place, a="1")
    assert Store(shop).listing() is None


def test_functions_whose_arguments_may_be_urls(shop: str, tmp_path: Path) -> None:
    @takes_urls("out")
    def join(first: Path | str, out: Path | str, *, rest: list[str] | None = None, **options: Any) -> str:
        """Texts joined in a file."""
        files = [Path(first), *map(Path, rest or []), *(Path(one) for one in options.values())]
        text = "".join(path.read_text() for path in files)
        Path(out).write_text(text)
        return text

    write(shop, a="1", b="2", c="3")
    assert join(f"{shop}/a", f"{shop}/out", rest=[f"{shop}/b"], more=f"{shop}/c") == "123"
    assert local(f"{shop}/out").read_text() == "123"
    (tmp_path / "a").write_text("4")
    assert join(str(tmp_path / "a"), tmp_path / "b") == "4"
    assert join.__doc__ == "Texts joined in a file."
