"""Real users to try a service with: what they had, what they took next, and what was written of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from palate.data.catalogue import Catalogue
from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.report.gallery import choose
from palate.report.written import stores_of
from palate.serve import schema
from palate.serve.served import Served


@dataclass(frozen=True)
class DemoUser:
    """A user in item ids: models may number items differently.

    Attributes:
        preference: blocks of items, and the text written after each.
    """

    id: str
    history: list[str]
    held_out: list[str]
    preference: list[tuple[list[str], str]]


def find_people(dataset: Path, count: int, seed: int = 0) -> list[DemoUser]:
    """``count`` users of the test split, from short to long histories; those with a written preference first.

    Where nothing is held out they are any users, with all that they did as history.

    Raises:
        PalateError: no dataset.
    """
    data = Dataset.load(dataset)
    cases = data.cases("test") if data.manifest.get("split", {}).get("name") != "none" else _everybody(data)
    stores, _ = stores_of([], data, None)
    first = np.logical_or.reduce([one.cases(cases, data.catalogue.ids) for one in stores]) if stores else None
    some = cases.take(choose(cases, count, seed, first))
    found = []
    for row in range(len(some)):
        history = some.histories[row].tolist()
        written = next((one for one in stores if one.has(some.histories[row])), None)
        blocks = written.of(history) if written is not None else []
        found.append(
            DemoUser(
                str(data.user_ids[int(some.users[row])]),
                _ids(data.catalogue, history),
                _ids(data.catalogue, some.targets[row].tolist()),
                [(_ids(data.catalogue, list(block)), text) for block, text in blocks],
            )
        )
    return found


def _everybody(data: Dataset) -> Cases:
    nothing = Sequences(np.empty(0, np.int32), np.zeros(data.num_users + 1, np.int64))
    return Cases(np.arange(data.num_users), data.sequences, nothing)


def _ids(catalogue: Catalogue, items: Sequence[int]) -> list[str]:
    return [catalogue.ids[item] for item in items]


def as_seen(user: DemoUser, model: Served) -> schema.DemoUser:
    """A user with the titles and pictures of a model's bundle; items that it does not know are left out."""

    def items(ids: Sequence[str]) -> list[schema.Item]:
        return [model.shown.item(index) for index in model.bundle.known(ids)[0]]

    return schema.DemoUser(
        id=user.id,
        history=items(user.history),
        held_out=items(user.held_out),
        preference=[schema.Block(items=items(block), text=text) for block, text in user.preference],
    )
