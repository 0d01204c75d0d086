"""The gallery: real users, what they had, what each model recommends them, and what they really took next."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from palate.data.catalogue import Catalogue
from palate.data.dataset import Cases, Dataset
from palate.errors import PalateError
from palate.evaluation.ranking import rank_targets
from palate.progress import track
from palate.recommender import Recommender
from palate.report.pictures import Pictures
from palate.report.render import clean, render
from palate.report.written import WrittenPreference

LAST_ITEMS = 8
_TARGETS = 4


@dataclass(frozen=True)
class GalleryEntry:
    """A model of the gallery.

    Attributes:
        load: opens it when its turn comes; one model is in memory at a time.
    """

    label: str
    load: Callable[[], Recommender]


def choose(cases: Cases, n: int, seed: int, first: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int64]:
    """Numbers of ``n`` cases, drawn at random from short to long histories: one of each ``n``-th part.

    Args:
        first: bool ``[cases]``; these are drawn from before any other.

    Returns:
        int64 ``[min(n, cases)]``, shortest history first.
    """
    rng = np.random.default_rng([seed, 0x67616C])  # "gal": a stream of its own
    order = rng.permutation(len(cases))
    lengths = cases.histories.lengths
    order = order[np.argsort(lengths[order], kind="stable")]
    preferred = order if first is None else order[first[order]]
    taken = _one_of_each(preferred, n, rng)
    if len(taken) < n and first is not None:
        others = order[~first[order]]
        taken = np.concatenate([taken, _one_of_each(others, n - len(taken), rng)])
    return taken[np.argsort(lengths[taken], kind="stable")]


def _one_of_each(order: npt.NDArray[np.int64], n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    n = min(n, len(order))
    if not n:
        return np.empty(0, np.int64)
    return np.array([part[rng.integers(len(part))] for part in np.array_split(order, n)], np.int64)


def users_of(
    dataset: Dataset,
    cases: Cases,
    models: Sequence[GalleryEntry],
    written: Sequence[WrittenPreference],
    *,
    k: int,
    exclude_seen: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """What the gallery shows of each case, and why models were left out.

    A model that cannot answer, because preferences were not written or its base model is not here, costs the page that
    model and nothing else.
    """
    notes = []
    users = [_user(dataset, cases, number, written) for number in range(len(cases))]
    for one in track(models, description="Gallery, models") if len(cases) else ():
        try:
            model = one.load()
            if dataset.folder is not None:
                model.set_data_folder(dataset.folder)
            model.check_ready(cases.histories)
            ranks = rank_targets(model, cases, exclude_seen=exclude_seen, depth=k)
        except PalateError as error:
            notes.append(f"{one.label} is not in the gallery: {error}")
            continue
        assert ranks.lists is not None
        for number, user in enumerate(users):
            mine = slice(ranks.offsets[number], ranks.offsets[number + 1])
            targets = dict(zip(ranks.items[mine].tolist(), ranks.values[mine].tolist(), strict=True))
            user["models"].append(
                {
                    "label": one.label,
                    "items": [
                        {**_item(dataset.catalogue, item), "hit": item in targets}
                        for item in ranks.lists[number].tolist()
                        if item
                    ],
                    "ranks": [targets[item] for item in targets],
                    "of": int(ranks.num_candidates[number]),
                }
            )
    return users, notes


def _user(dataset: Dataset, cases: Cases, number: int, written: Sequence[WrittenPreference]) -> dict[str, Any]:
    catalogue, history = dataset.catalogue, cases.histories[number]
    targets = list(dict.fromkeys(cases.targets[number].tolist()))
    return {
        "user": str(dataset.user_ids[int(cases.users[number])]),
        "had": len(history),
        "history": [_item(catalogue, item) for item in history[-LAST_ITEMS:].tolist()],
        "targets": [_item(catalogue, item) for item in targets[:_TARGETS]],
        "more_targets": max(0, len(targets) - _TARGETS),
        "models": [],
        "preferences": [
            {
                "by": one.name,
                "model": one.model,
                "steps": [
                    {"items": [_item(catalogue, item) for item in block], "text": text}
                    for block, text in one.of(history.tolist())
                ],
            }
            for one in written
            if one.has(history)
        ],
    }


def _item(catalogue: Catalogue, item: int) -> dict[str, Any]:
    return {"index": item, "id": catalogue.ids[item], "title": catalogue.titles[item]}


def describe(users: Sequence[Mapping[str, Any]], seed: int, split: str, among: str) -> str:
    """How the users were chosen."""
    if not users:
        return "No user was drawn."
    lengths = [user["had"] for user in users]
    return (
        f"{len(users)} {'user' if len(users) == 1 else 'users'} of the {split} split, drawn with seed {seed} from "
        f"{among}, from short to long histories ({min(lengths):,} to {max(lengths):,} items): not picked for success. "
        "No model has seen the held-out item in this history."
    )


def section(gallery: Mapping[str, Any], pictures: Pictures, colours: Mapping[str, int]) -> Markup | None:
    """The gallery as markup; None where there is neither a user nor a note."""
    users = gallery["users"]
    if not users and not gallery["notes"]:
        return None
    return render(
        "gallery.html.j2",
        gallery=gallery,
        pictures=pictures,
        colours=colours,
        opened=next((number for number, user in enumerate(users) if user["preferences"]), None),
        new_words=new_words,
    )


def new_words(before: str, text: str) -> list[tuple[str, bool]]:
    """The words of ``text``, and whether the text before it did not have them at that place.

    >>> new_words("likes red shoes", "likes blue shoes")
    [('likes', False), ('blue', True), ('shoes', False)]
    """
    old, new = clean(before).split(" "), clean(text).split(" ")
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        (" ".join(new[start:end]), kind in ("insert", "replace"))
        for kind, _, _, start, end in matcher.get_opcodes()
        if any(new[start:end])
    ]
