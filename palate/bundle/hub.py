"""Bundles on a model hub: fetched into its cache, pushed with its client, which is imported only here."""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from palate.bundle.manifest import NAME, SUFFIXES, verify
from palate.errors import PalateError
from palate.storage.files import read_json

SCHEME = "hf://"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def fetch_bundle(name: str, revision: str | None = None) -> Path:
    """The folder of a bundle of the hub in the local cache, downloaded if need be; without a network, what is there.

    Only files of the kinds that bundles hold are fetched: a pickle in the repository is not even downloaded.

    Args:
        name: ``hf://OWNER/NAME`` or ``hf://OWNER/NAME@REVISION``.

    Raises:
        PalateError: no such name, no access, no network, or no bundle there.
    """
    repo, _, branch = name.removeprefix(SCHEME).partition("@")
    _check_repo(repo)
    hub = _hub()
    patterns = [f"*{suffix}" for suffix in SUFFIXES]
    try:
        found = Path(hub.snapshot_download(repo, revision=branch or revision, allow_patterns=patterns))
    except Exception as error:  # the hub's own are of OSError and ValueError; those of its HTTP client are not
        raise _hub_error(f"{SCHEME}{repo} cannot be fetched", error) from None
    if not (found / NAME).is_file():
        raise PalateError(f"{SCHEME}{repo} holds no bundle (it has no {NAME})", "Check the name and the revision.")
    return found


def push(folder: Path | str, repo: str, *, private: bool = True, revision: str | None = None) -> str:
    """Upload a bundle, verified once more, to a repository of the hub; returns its address.

    Args:
        repo: ``OWNER/NAME``; made if it is not there.
        private: whether a repository that is made is private; one that exists stays as it is.
        revision: the branch.

    Raises:
        PalateError: a damaged bundle, no such name, no access, no network.
    """
    folder = Path(folder)
    _check_repo(repo)
    facts = verify(folder)
    _refuse_local_paths(folder, facts)
    api: Any = _hub().HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=str(folder),
            revision=revision,
            commit_message=f"Bundle {facts['name']}",
            allow_patterns=[*map(glob.escape, facts["files"]), NAME],
            delete_patterns=["*"],  # a file of an older bundle would not be in the manifest
        )
    except Exception as error:
        raise _hub_error(f"the bundle cannot be pushed to '{repo}'", error) from None
    return f"{SCHEME}{repo}"


def check_push(repo: str) -> None:
    """Refuse what :func:`push` would refuse, before there is a bundle."""
    _check_repo(repo)
    _hub()


def _refuse_local_paths(folder: Path, facts: Mapping[str, Any]) -> None:
    """A bundle for this machine may name the folder of its pictures; one that is shared names none."""
    root = facts["items"].get("image_root")
    items = folder / "model" / "items.json"
    if root is None and facts["model"] == "mllm" and items.is_file():
        images = str(read_json(items).get("images", ""))
        root = images if Path(images).is_absolute() else None
    if root is not None:
        raise PalateError(
            f"{folder} names a folder of this machine ({root})", "Bundle the run again, with --push or --with-images."
        )


def _check_repo(repo: str) -> None:
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise PalateError(f"'{repo}' is no name of a repository", "Write OWNER/NAME.")


def _hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError:
        raise PalateError("a model hub needs the package huggingface_hub", "Run `pip install 'palate[hub]'`.") from None


def _hub_error(what: str, error: Exception) -> PalateError:
    text = " ".join(str(error).split())
    return PalateError(
        f"{what} ({type(error).__name__}: {text[:240]})",
        "Check the name, your access (`hf auth login`) and the network.",
    )
