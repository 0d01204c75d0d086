"""Inputs at a URL: copies of what is there now, whole and within their folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from remote_helpers import calls, write

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.storage.remote import find, follow, given, local, newest, places, recorded, url_of, without_secrets
from palate.storage.remote.store import UNFINISHED

_ONE = pl.DataFrame({"item_id": ["a"], "title": [None], "image": ["a.png"]})


def test_a_path_is_itself(tmp_path: Path) -> None:
    assert local(tmp_path) == local(str(tmp_path)) == tmp_path
    assert find(tmp_path / "nothing") is None
    assert find(None) is None
    with pytest.raises(PalateError, match="was a URL before it became a Path"):
        local(Path("s3://bucket/shop"))
    with pytest.raises(PalateError, match="sftp://host/shop was a URL before it became a Path"):
        local(Path("sftp://ann:secret@host/shop"))


def test_a_folder_and_a_file_are_fetched_once(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop, a="1", b__c="22")
    with calls(monkeypatch, "get") as fetched:
        copy = local(f"{shop}/")
        assert sorted(fetched) == ["a", "b/c"]
        assert ((copy / "a").read_text(), (copy / "b/c").read_text(), copy.name) == ("1", "22", "shop")
        assert local(shop) == copy
        assert len(fetched) == 2
        assert local(f"{shop}/b/c").read_text() == "22"
        assert local(f"{shop}/b/c").name == "c"
        assert fetched[2:] == [""]


def test_what_has_changed_is_fetched_again_and_only_that(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop, a="1", b="2")
    before = local(shop)
    write(shop, b="3", c="4")
    with calls(monkeypatch, "get") as fetched:
        after = local(shop)
        assert sorted(fetched) == ["b", "c"]
    assert [(after / name).read_text() for name in "abc"] == ["1", "3", "4"]
    assert (before / "b").read_text() == "2"  # whoever reads the old copy goes on with it
    assert newest(before) == after


def test_a_copy_that_was_tampered_with_is_made_again(shop: str) -> None:
    write(shop, a="1")
    copy = local(shop)
    for record in copy.parents[1].glob("*.json"):  # as if the process had been killed before the record
        record.unlink()
    (copy / "a").write_text("x")
    assert (local(shop) / "a").read_text() == "1"


def test_what_is_not_there_or_not_whole_is_refused(shop: str) -> None:
    with pytest.raises(PalateError, match="memory://bucket/shop is not there"):
        local(shop)
    assert find(shop) is None
    write(shop, a="1", **{UNFINISHED: "somebody"})
    with pytest.raises(PalateError, match="is not whole: something is being sent there, or was interrupted"):
        local(shop)


def test_a_place_that_changes_while_it_is_fetched_is_tried_again(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop, a="1", b="1")
    original, changes = MemoryFileSystem.get_file, iter([True, False, False, False])

    def get_file(self: Any, rpath: str, lpath: str, **options: Any) -> None:
        if rpath.endswith("/b") and next(changes):
            write(shop, a="2222")
        original(self, rpath, lpath, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    assert (local(shop) / "a").read_text() == "2222"
    other, counter = f"{shop}/other", iter(range(100))

    def restless(self: Any, rpath: str, lpath: str, **options: Any) -> None:
        write(other, a="x" * next(counter))
        original(self, rpath, lpath, **options)

    write(other, a="1", b="1")
    monkeypatch.setattr(MemoryFileSystem, "get_file", restless)
    with pytest.raises(PalateError, match="changes while it is fetched"):
        local(other)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a//b", "a\\..\\evil", "C:evil", "a\0b", "./a"])
def test_names_that_lead_out_of_the_folder_are_refused(shop: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop, good="1")
    listed = {f"/bucket/shop/{name}": {"name": f"/bucket/shop/{name}", "size": 1, "type": "file"}}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, path, **options: listed)
    with pytest.raises(PalateError, match="which is no name of a file"):
        local(shop)


def test_a_name_that_is_a_file_and_a_folder_is_refused(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shop, good="1")
    listed = {name: {"name": name, "size": 1, "type": "file"} for name in ("/bucket/shop/a", "/bucket/shop/a/b")}
    monkeypatch.setattr(MemoryFileSystem, "find", lambda self, path, **options: listed)
    with pytest.raises(PalateError, match="'a/b' is in a folder that is a file as well"):
        local(shop)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("memory://bucket/../x", "'.' and '..' are no names in a store"),
        ("memory://", "names no place"),
        ("zip://log.csv::memory://x", "chained addresses are not read"),
        ("reference://x", "chained addresses are not read"),
        ("nowhere://x", "there is no file system for nowhere://"),
    ],
)
def test_addresses_that_are_none(shop: str, url: str, problem: str) -> None:
    with pytest.raises(PalateError, match=problem):
        local(url)


def test_a_missing_package_is_named_with_its_extra(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(
        PalateError, match=r'the package for s3:// is not installed. Install it: pip install "palate\[s3\]"'
    ):
        local("s3://bucket/shop")


def test_what_is_new_behind_a_password_is_found_by_the_process_that_knows_it(
    shop: str, guarded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(shop, a="1")
    copy = local(guarded)
    write(shop, a="2")
    after = newest(copy)
    assert (after / "a").read_text() == "2"
    assert newest(after) == after
    kept = [one for one in copy.parents[2].rglob("*") if one.is_file()]
    assert not [one for one in kept if b"secret" in one.read_bytes()]
    monkeypatch.setattr(places, "_GIVEN", {})  # another process
    with pytest.raises(PalateError, match=r"guarded://bucket/shop cannot be reached"):
        newest(copy)


def test_passwords_are_neither_shown_nor_recorded(shop: str) -> None:
    url = "ftp://ann:secret@127.0.0.1:1/shop"
    with pytest.raises(PalateError) as refused:  # nobody listens there
        local(url)
    assert "secret" not in str(refused.value)
    assert "ftp://127.0.0.1:1/shop cannot be reached" in str(refused.value)
    assert recorded(url) == given(url) == "ftp://127.0.0.1:1/shop"
    assert without_secrets("abfs://box@account.dfs.net/x") == "abfs://box@account.dfs.net/x"  # no password
    assert given("https://token@host/x.csv") == "https://host/x.csv"


def test_a_copy_is_recorded_and_shown_by_its_url(shop: str, tmp_path: Path) -> None:
    write(shop, a__b="1")
    copy = local(shop)
    assert recorded(copy) == url_of(copy) == shop
    assert recorded(copy / "a/b") == f"{shop}/a/b"
    assert given(f"Run: {copy} (next: {copy}/a/b)") == f"Run: {shop} (next: {shop}/a/b)"
    assert url_of(copy.parent) == "memory://bucket"
    assert url_of(copy.parents[1]) is None
    assert url_of(local("memory://bucket").parent) is None
    assert url_of(tmp_path) is None
    assert recorded(tmp_path / "x") == str((tmp_path / "x").resolve())


def test_a_server_that_an_artefact_names_is_asked_only_if_the_user_has_named_it_before(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def url_to_fs(url: str) -> tuple[MemoryFileSystem, str]:
        asked.append(url)
        return MemoryFileSystem(), "/bucket/shop"

    write(shop, a="1")
    monkeypatch.setattr("fsspec.core.url_to_fs", url_to_fs)
    place = "https://ann:secret@intern:8080/shop?Signature=x"
    for refused in (follow, find, lambda url: Catalogue(_ONE, url).root):
        with pytest.raises(PalateError, match="https://intern:8080/shop is named by an artefact") as error:
            refused(place)
        assert "secret" not in str(error.value)
        assert "Signature" not in str(error.value)
    assert not asked
    local("https://INTERN:8080/log.csv")
    assert follow(place).name == "shop"
    with pytest.raises(PalateError, match="nothing has been read from its server"):
        follow("https://intern/shop")
    assert find("s3://bucket/shop") == follow("s3://bucket/shop")  # a store's host is no part of its addresses
    assert follow(shop) == local(shop)


def test_without_a_sign_of_the_content_nothing_is_taken_for_the_same(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(shop, a="1")
    monkeypatch.setattr("palate.storage.remote.store._TAGS", ())
    first = local(shop)
    assert local(shop) == first  # once in a process
    write(shop, a="2")
    monkeypatch.setattr("palate.storage.remote.places._UNKNOWN", "another process")
    assert (local(shop) / "a").read_text() == "2"
    assert (first / "a").read_text() == "1"
