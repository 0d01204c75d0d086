"""Bundles of a hub: from its cache without a network, and pushed with a client that only notes what it is asked."""

from __future__ import annotations

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from palate.bundle import Bundle, make_bundle, push
from palate.bundle.hub import fetch_bundle
from palate.bundle.manifest import sha256, verify
from palate.errors import PalateError
from palate.runs.run import Run

hub = pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(import_module("huggingface_hub.constants"), "HF_HUB_OFFLINE", True)
    real = hub.snapshot_download
    monkeypatch.setattr(hub, "snapshot_download", lambda *a, **k: real(*a, cache_dir=tmp_path / "cache", **k))
    return tmp_path / "cache"


def lay_out(bundle: Path, cache: Path, repo: str = "shop/taste") -> Path:
    """A bundle as the hub's client keeps it: blobs by hash, a snapshot of links, a branch that names it."""
    home = cache / f"models--{repo.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    (home / "blobs").mkdir(parents=True)
    for path in sorted(p for p in bundle.rglob("*") if p.is_file()):
        blob = home / "blobs" / sha256(path)
        shutil.copyfile(path, blob)
        link = snapshot / path.relative_to(bundle)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path(*[".."] * len(link.relative_to(home).parts[:-1])) / "blobs" / blob.name)
    (home / "refs").mkdir()
    (home / "refs/main").write_text(COMMIT)
    return snapshot


def test_a_bundle_of_the_cache_loads_by_name_and_by_folder(full_bundle: Path, cache: Path) -> None:
    snapshot = lay_out(full_bundle, cache)
    expected = Bundle.load(full_bundle).recommend(["space-1", "love-2"])
    for bundle in (
        Bundle.load("hf://shop/taste"),
        Bundle.load("hf://shop/taste", revision="main"),
        Bundle.load(f"hf://shop/taste@{COMMIT}"),
        Bundle.load(snapshot),
    ):
        assert bundle.recommend(["space-1", "love-2"]) == expected
        path = bundle.picture(bundle.items.index_of("space-1") or 0)
        assert path is not None
        assert path.is_file()


def test_a_bundle_of_the_hub_does_not_choose_folders_of_this_machine(
    text_bundle: Path, films: Path, cache: Path
) -> None:
    lay_out(text_bundle, cache)
    place = Bundle.load(text_bundle).items.index_of("space-1") or 0
    assert Bundle.load(text_bundle).picture(place) is not None
    assert Bundle.load("hf://shop/taste").picture(place) is None
    assert Bundle.load("hf://shop/taste", images=films.parent / "pictures").picture(place) is not None


def test_links_of_a_cache_lead_into_its_own_blobs_only(text_bundle: Path, cache: Path) -> None:
    snapshot = lay_out(text_bundle, cache)
    outside = cache / "models--other--one/blobs"
    outside.mkdir(parents=True)
    link = snapshot / "model/config.json"
    shutil.copyfile(link, outside / "config")
    link.unlink()
    link.symlink_to(outside / "config")
    with pytest.raises(PalateError, match="a link that leads out"):
        Bundle.load(snapshot)


def test_a_blob_that_was_changed_is_noticed(text_bundle: Path, cache: Path) -> None:
    snapshot = lay_out(text_bundle, cache)
    (snapshot / "model/weights.safetensors").resolve().write_bytes(b"x")
    with pytest.raises(PalateError, match="sha256 differs"):
        Bundle.load("hf://shop/taste")


def test_what_is_not_there_is_told(cache: Path, text_bundle: Path) -> None:
    with pytest.raises(PalateError, match="hf://shop/none cannot be fetched"):
        Bundle.load("hf://shop/none")
    for name in ("hf://shop", "hf://../etc/passwd", "hf://a/b/c", "hf:///x"):
        with pytest.raises(PalateError, match="is no name of a repository"):
            fetch_bundle(name)
    with pytest.raises(PalateError, match="has no revisions"):
        Bundle.load(text_bundle, revision="main")
    snapshot = lay_out(text_bundle, cache)
    (snapshot / "bundle.json").unlink()
    with pytest.raises(PalateError, match="holds no bundle"):
        Bundle.load("hf://shop/taste")


class Client:
    calls: list[tuple[str, dict[str, Any]]]

    def __init__(self) -> None:
        Client.calls = []

    def create_repo(self, repo: str, **more: Any) -> None:
        Client.calls.append(("create", {"repo": repo, **more}))

    def upload_folder(self, **more: Any) -> None:
        Client.calls.append(("upload", more))


@pytest.fixture(scope="module")
def shared_bundle(text_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `palate bundle --push` makes it: it names no folder of this machine."""
    return make_bundle(text_run, tmp_path_factory.mktemp("bundles") / "shared", public_paths=False).folder


def test_a_push_is_private_and_of_a_sound_bundle(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HfApi", Client)
    assert push(shared_bundle, "shop/taste") == "hf://shop/taste"
    (create, made), (upload, sent) = Client.calls
    assert (create, upload) == ("create", "upload")
    assert made == {"repo": "shop/taste", "private": True, "exist_ok": True}
    assert sent["folder_path"] == str(shared_bundle)
    assert "bundle.json" in sent["allow_patterns"]
    push(shared_bundle, "shop/taste", private=False)
    assert Client.calls[0][1]["private"] is False
    shutil.copytree(shared_bundle, tmp_path / "bad")
    (tmp_path / "bad/items.parquet").write_bytes(b"x")
    Client.calls = []
    with pytest.raises(PalateError, match="sha256 differs"):
        push(tmp_path / "bad", "shop/taste")
    assert not Client.calls


def test_a_bundle_that_names_a_folder_of_this_machine_is_not_pushed(
    shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "HfApi", Client)
    sound, Client.calls = verify(shared_bundle), []
    for facts, images in (({"items": {"image_root": "/somebody/pictures"}}, None), ({"model": "mllm"}, "/somebody/x")):
        folder = tmp_path / str(images is None)
        (folder / "model").mkdir(parents=True)
        (folder / "model/items.json").write_text(json.dumps({"images": images or "../images"}))
        monkeypatch.setattr(import_module("palate.bundle.hub"), "verify", lambda _, facts=facts: {**sound, **facts})
        with pytest.raises(PalateError, match=r"names a folder of this machine .*/somebody.* --with-images"):
            push(folder, "shop/taste")
    assert not Client.calls


def test_a_push_takes_names_as_they_are(shared_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", Client)
    files = ["images/a[1].png", "images/a1.png", "items.parquet"]
    facts = {"name": "x", "model": "sasrec", "items": {}, "files": files[:1]}
    monkeypatch.setattr(import_module("palate.bundle.hub"), "verify", lambda folder: facts)
    push(shared_bundle, "shop/taste")
    patterns = Client.calls[1][1]["allow_patterns"]
    assert list(import_module("huggingface_hub.utils").filter_repo_objects(files, allow_patterns=patterns)) == files[:1]


class ConnectError(Exception):
    """As the HTTP client of the hub raises it: of no kind that the hub's own errors are of."""


@pytest.mark.parametrize("kind", [OSError, ConnectError])
def test_a_push_that_fails_is_one_sentence(
    shared_bundle: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    class Refused(Client):
        def create_repo(self, repo: str, **more: Any) -> None:
            raise kind("no token")

    monkeypatch.setattr(hub, "HfApi", Refused)
    with pytest.raises(PalateError, match=r"cannot be pushed to 'shop/taste'.*no token"):
        push(shared_bundle, "shop/taste")


def test_a_bundle_that_cannot_be_fetched_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **more: Any) -> None:
        raise ConnectError("no route")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(PalateError, match=r"hf://shop/taste cannot be fetched \(ConnectError: no route\)"):
        fetch_bundle("hf://shop/taste")
