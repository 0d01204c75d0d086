"""Items for the bundle of a ranker from a plug-in: the ranker itself appends them, or is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
import torch
from bundle_helpers import make_run
from torch import Tensor, nn
from worlds import HELD_OUT_FILM

from palate.bundle import Bundle, add_items, make_bundle
from palate.errors import PalateError
from palate.rankers.fusions.sum import Sum
from palate.rankers.gru4rec import GRU4Rec
from palate.rankers.items import ItemEncoder
from palate.rankers.registry import RANKERS


def encoder(kind: type[ItemEncoder], model: GRU4Rec) -> ItemEncoder:
    return kind(model.num_items, model.config.dim, model.config.modalities, model.widths)


class Halves(Sum):
    def fuse(self, parts: Sequence[Tensor]) -> Tensor:
        return super().fuse(parts) / 2


class Backwards(Sum):
    """Changes the whole catalogue's vectors, of which :meth:`compose` knows nothing."""

    def forward(self) -> Tensor:
        return -super().forward()


class Own(GRU4Rec):
    """With a fusion that it makes itself."""

    name: ClassVar[str] = "own"
    items_kind: ClassVar[type[ItemEncoder]] = Halves

    def __init__(self, config: Any, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        self.items = encoder(self.items_kind, self)


class Hidden(Own):
    name: ClassVar[str] = "hidden"
    items_kind: ClassVar[type[ItemEncoder]] = Backwards


class PerItem(GRU4Rec):
    """Keeps a number of its own for every item."""

    name: ClassVar[str] = "per-item"

    def __init__(self, config: Any, num_items: int, widths: Mapping[str, int]) -> None:
        super().__init__(config, num_items, widths)
        self.bonus = nn.Parameter(torch.zeros(num_items + 1))


class Appends(PerItem):
    """And knows what a new item's number is."""

    name: ClassVar[str] = "appends"

    def append_items(self, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> Appends:
        plain = GRU4Rec(self.config, self.num_items, self.widths)
        plain.load_state_dict({key: one for key, one in self.state_dict().items() if key != "bonus"})
        plain._table = self.table()
        grown = plain.append_items(features, count)
        larger = Appends(self.config, grown.num_items, self.widths)
        bonus = torch.cat([self.bonus.detach(), torch.ones(count)])
        larger.load_state_dict({**grown.state_dict(), "bonus": bonus})
        larger._table = grown.table()
        return larger.eval()


class Shuffles(PerItem):
    """Appends, but mixes the others up."""

    name: ClassVar[str] = "shuffles"

    def append_items(self, features: Mapping[str, tuple[Tensor, Tensor]], count: int) -> Shuffles:
        larger = Shuffles(self.config, self.num_items + count, self.widths)
        larger._table = torch.randn(self.num_items + count + 1, self.config.dim)
        return larger.eval()


@pytest.fixture(autouse=True, scope="module")
def _plugins() -> Iterator[None]:
    with ExitStack() as stack:
        for kind in (Own, Hidden, PerItem, Appends, Shuffles):
            stack.enter_context(RANKERS.registered(kind.name, kind))
        yield


def grown(films: Path, folder: Path, model: str) -> tuple[Bundle, Bundle]:
    run = make_run(films, folder / "run", model=model, modalities="id,text")
    made = make_bundle(run, folder / "bundle").folder
    row = {"item_id": HELD_OUT_FILM, "title": "space story 7", "tags": "space|film", "year": 1997}
    pl.DataFrame([row]).write_csv(folder / "new.csv")
    add_items(made, folder / "new.csv", folder / "out")
    return Bundle.load(made), Bundle.load(folder / "out")


@pytest.mark.parametrize("kind", [Own, Appends])
def test_a_ranker_appends_items(films: Path, tmp_path: Path, kind: type[GRU4Rec]) -> None:
    before, after = grown(films, tmp_path, kind.name)
    old, new = (one.recommender.score([[1, 2], [9]]) for one in (before, after))
    torch.testing.assert_close(new[:, : old.shape[1]], old)
    assert isinstance(after.recommender, kind)
    if isinstance(after.recommender, Own):
        # As its own fusion composes a cold item, not as a sum would.
        twin = before.recommender.items  # type: ignore[attr-defined]
        assert type(twin) is Halves
        features = load(after)
        text = features["vectors"][-1:], features["present"][-1:]
        made = twin.compose({"text": text}, torch.tensor([False]))
        torch.testing.assert_close(after.recommender.table()[-1:], made)
    else:
        assert after.recommender.bonus[-1] == 1  # type: ignore[attr-defined]


def load(bundle: Bundle) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(bundle.folder / "features" / "text.safetensors")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Hidden, r"'hidden' makes its items' vectors in its own way \(forward\)"),
        (PerItem, "'per-item' cannot take new items"),
        (Shuffles, "'shuffles' scores other items differently once new ones are added"),
    ],
)
def test_a_ranker_that_cannot_is_refused(films: Path, tmp_path: Path, kind: type[GRU4Rec], told: str) -> None:
    with pytest.raises(PalateError, match=told):
        grown(films, tmp_path, kind.name)
    assert not (tmp_path / "out").exists()
