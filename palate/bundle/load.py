"""Bundle: what a service loads. Needs no training data and no network, and runs no code of the bundle."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from palate.bundle.hub import SCHEME, fetch_bundle
from palate.bundle.items import BundleItems
from palate.bundle.language import check_prompt_pictures
from palate.bundle.manifest import is_bundle, linked, verify
from palate.data.catalogue import Catalogue
from palate.data.images import inside
from palate.data.item_filter import filter_items
from palate.data.sequences import Sequences
from palate.data.timed_history import check_times
from palate.device import parse_device
from palate.errors import PalateError
from palate.rankers.registry import RANKERS
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.storage.remote import is_url, local, url_of
from palate.storage.tensors import in_memory
from palate.topk import checked_k


class Recommended(list[tuple[str, float]]):
    """``(item_id, score)``, best first.

    Attributes:
        unknown: ids of the history (and of ``allow`` and ``deny``) that the bundle does not know, in their order; they
            were left out.
    """

    def __init__(self, items: Sequence[tuple[str, float]] = (), unknown: Sequence[str] = ()) -> None:
        super().__init__(items)
        self.unknown = list(unknown)


@dataclass(frozen=True)
class BundledRun(Run):
    """A bundle seen as a run, for code that answers from runs (:class:`palate.rankers.recommend.Recommendations`)."""

    items: BundleItems

    @classmethod
    def open(cls, folder: Path | str) -> BundledRun:
        """Verify a bundle and read its items, not its model."""
        facts = verify(folder)
        return cls.of(Path(folder), facts, _read_items(Path(folder), facts, None, of_hub=False))

    @classmethod
    def of(cls, folder: Path, facts: dict[str, Any], items: BundleItems) -> BundledRun:
        """From what was read already."""
        return cls(folder, {**facts["run"], "model": facts["model"], "finished": True}, items)

    @cached_property
    def catalogue(self) -> Catalogue:
        return self.items.catalogue


class Bundle:
    """A bundle, verified and loaded. Made by :meth:`load`.

    Attributes:
        folder: its path.
        facts: the content of ``bundle.json``: ``name``, ``model``, ``metrics``, ``features``, ``run`` ...
        items: ids, titles, fields and pictures of the items.
        recommender: answers for item indices; its :meth:`~palate.recommender.Recommender.recommend` takes batches.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], items: BundleItems, recommender: Recommender) -> None:
        self.folder, self.facts, self.items, self.recommender = folder, facts, items, recommender

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "cpu",
        *,
        revision: str | None = None,
        images: Path | str | None = None,
    ) -> Self:
        """Verify and load a bundle.

        Args:
            folder: a folder or its URL; ``hf://OWNER/NAME`` is a bundle of the hub (or of its cache), ``@REVISION``
                may follow.
            device: auto, cpu, cuda, cuda:N or mps.
            revision: branch, tag or commit, for a bundle of the hub.
            images: folder of the pictures that are not in the bundle; by default where they were when it was made, but
                not for a bundle of the hub or at another URL, which has no say in what is read on this machine.

        Raises:
            PalateError: no bundle, another format, a file that is missing, changed or unnamed; no such device.
        """
        device = parse_device(device)
        of_hub = str(folder).startswith(SCHEME)
        if revision is not None and not of_hub:
            raise PalateError(f"{folder} has no revisions", f"Give {SCHEME}OWNER/NAME, or leave the revision out.")
        path = fetch_bundle(str(folder), revision) if of_hub else local(folder)
        if images is not None and not Path(images).is_dir():
            raise PalateError(f"{images} is not a folder", "Give the folder that holds the pictures.")
        facts = verify(path)
        items = _read_items(path, facts, images, of_hub=of_hub)
        if facts["model"] == "mllm":
            check_prompt_pictures(path, elsewhere=of_hub or linked(path) or url_of(path) is not None)
        with in_memory():  # a bundle is kept for long, and its files may be written over
            recommender = _load_model(path, facts, device)
        if recommender.num_items != len(items):
            raise PalateError(
                f"{path}: the model scores {recommender.num_items} items, the id map has {len(items)}",
                "The bundle is damaged; make it again.",
            )
        return cls(path, facts, items, recommender)

    def known(self, item_ids: Sequence[str]) -> tuple[list[int], list[str]]:
        """Indices of the items that the bundle knows, and the ids of the others, both in order."""
        index = self.items.catalogue.index
        return [index[item] for item in item_ids if item in index], [item for item in item_ids if item not in index]

    def known_times(self, item_ids: Sequence[str], times: Sequence[int]) -> list[int]:
        """The times of the items that the bundle knows."""
        index = self.items.catalogue.index
        return [when for item, when in zip(item_ids, times, strict=True) if item in index]

    def recommend(
        self,
        history_ids: Sequence[str],
        k: int = 10,
        exclude_seen: bool = True,
        allowed: Tensor | np.ndarray[Any, np.dtype[np.bool_]] | None = None,
        *,
        only: Sequence[str] = (),
        without: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        times: Sequence[int] | None = None,
        asked: int | None = None,
    ) -> Recommended:
        """The ``k`` best items after a history of item ids, oldest first; fewer where fewer are left.

        Ids that the bundle does not know are left out and named in :attr:`Recommended.unknown`; an empty history (or
        one of unknown items only) is a newcomer's.

        Args:
            k: at least 1.
            exclude_seen: leave out the items of the history.
            allowed: bool ``[num_items + 1]``, items that may be recommended; None: all.
            only, without, allow, deny: narrow it further; see :func:`palate.data.item_filter.filter_items`.
            times: Unix milliseconds of the items, for a model that reads them (``hstu``); it answers without, too.
            asked: Unix milliseconds at which the next item is asked for; by default when the newest one was taken.

        Raises:
            PalateError: ``k`` is no whole number of at least 1; no item is left; times that do not fit the history;
                ``allowed`` is of another shape; the model cannot afford the whole catalogue (``mllm``), see
                :class:`palate.cascade.cascade.Cascade`.
        """
        k = checked_k(k)
        rows, unknown = self.known(history_ids)
        mask = None if allowed is None else torch.as_tensor(allowed)
        if mask is not None and (mask.shape != (len(self.items) + 1,) or mask.dtype != torch.bool):
            raise PalateError(
                f"allowed is {mask.dtype} {list(mask.shape)}", f"Give bools, [{len(self.items) + 1}]: one per index."
            )
        chosen = filter_items(self.items.catalogue, only=only, without=without, allow=allow, deny=deny)
        if chosen.mask is not None:
            narrowed = torch.from_numpy(chosen.mask)
            mask = narrowed if mask is None else mask.cpu() & narrowed
        history = Sequences.from_lists([rows])
        check_times("the history", len(history_ids), times, asked)
        if times is not None:
            history = history.at([self.known_times(history_ids, times)], [asked])
        found, scores = self.recommender.recommend(history, k, exclude_seen, mask)
        pairs = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        return Recommended([(self.items.ids[item], score) for item, score in pairs if item], unknown + chosen.unknown)

    def picture(self, index: int) -> Path | None:
        """The file of an item's picture: in the bundle, or else where it was before; None: there is none.

        The file is of unknown origin: open it with :func:`palate.data.images.open_image`. Its path never leaves the
        bundle, or the folder of the pictures.
        """
        self.items.check(index)
        name = self.items.pictures[index]
        if name is not None:
            return self.folder / name  # named by the manifest, so it has been verified
        home = self.items.catalogue.frame["image"][index - 1]
        try:
            path = inside(self.items.catalogue.root, home) if home else None
        except PalateError:
            return None
        return path if path is not None and path.is_file() else None

    def as_run(self) -> BundledRun:
        """The bundle as a finished run without a dataset."""
        return BundledRun.of(self.folder, self.facts, self.items)


def _read_items(folder: Path, facts: dict[str, Any], images: Path | str | None, *, of_hub: bool) -> BundleItems:
    recorded = facts["items"].get("image_root")
    trusted = isinstance(recorded, str) and not (is_url(recorded) or of_hub or linked(folder) or url_of(folder))
    root = images or (recorded if trusted else None)
    items = BundleItems.load(folder, facts["items"].get("columns") or {}, Path(root) if root else None)
    for name in items.pictures:
        if name is not None and name not in facts["files"]:
            raise PalateError(f"{folder} lacks the picture '{name}'", "Get the bundle again.")
    return items


def _load_model(folder: Path, facts: dict[str, Any], device: str) -> Recommender:
    kind = RANKERS[facts["model"]]
    if facts["model"] != "mllm" or not linked(folder):
        model: Recommender = kind.load(folder / "model", device=device)
        return model
    # The pictures of a language model's prompts are refused where they are links that lead away, as in a hub's cache.
    copied = Path(tempfile.mkdtemp(prefix="palate-bundle-"))
    for name in facts["files"]:
        if name.startswith(("model/", "images/")):
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, copied / name)
    model = kind.load(copied / "model", device=device)
    weakref.finalize(model, shutil.rmtree, copied, ignore_errors=True)
    return model


def open_run_or_bundle(path: Path) -> Run:
    """A run; or a bundle, verified, as a run."""
    return BundledRun.open(path) if is_bundle(path) else Run.open(path)
