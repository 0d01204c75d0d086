"""What every fusion must satisfy. A new one is under contract by its line in the registry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.bundle.append_items import part_vectors
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.fields import Field, FieldStore, Vocabulary
from palate.features.store import FeatureStore
from palate.rankers.fusions import FUSIONS
from palate.rankers.gru4rec import GRU4Rec
from palate.rankers.items import ItemEncoder, Modality
from palate.rankers.packing import PackedBatch
from palate.rankers.sasrec import SASRec
from palate.rankers.sequential import SequentialRanker

ITEMS, WIDTH, COLD = 20, 9, 4
HISTORIES = [[1, 2, 3], [7], [5, 6, 8, 2]]
MODALITIES = ("id", "text", "image", "fields")
KINDS = [SASRec, GRU4Rec]


def stores() -> dict[str, FeatureStore]:
    rng = np.random.default_rng(0)
    made: dict[str, FeatureStore] = {}
    for name in ("text", "image"):
        present = rng.random(ITEMS + 1) < 0.7
        present[[0, 3, -1]] = False, True, True
        vectors = rng.normal(size=(ITEMS + 1, WIDTH)).astype(np.float32)
        made[name] = FeatureStore(Path(), {}, vectors, present, None)  # type: ignore[arg-type]
    vocabulary = Vocabulary((Field("brand", "value", ("a", "b", "c")), Field("price", "number", edges=(1.0, 2.0))), 3)
    codes = rng.integers(1, 7, (ITEMS + 1, 3)).astype(np.int32)
    codes[:, 1:] *= rng.random((ITEMS + 1, 2)) < 0.6
    codes[[0, 4]] = 0
    made["fields"] = FieldStore(Path(), {}, codes, codes.any(axis=1), None, vocabulary)  # type: ignore[arg-type]
    return made


def build(kind: type[SequentialRanker], fusion: str, modalities: tuple[str, ...] = MODALITIES, **more: object):
    torch.manual_seed(0)
    features = {name: one for name, one in stores().items() if name in modalities}
    options = {"dim": 24, "max_length": 6, "modalities": modalities, "fusion": fusion, **more}
    model = kind(kind.Config.parse(options, where="test"), ITEMS, {name: one.width for name, one in features.items()})
    warm = torch.ones(ITEMS + 1, dtype=torch.bool)
    warm[-COLD:] = False
    model.set_features(features, warm)
    return model, features


def step(model: SequentialRanker) -> float:
    """One small step down on the log-likelihood of item 4 after every token; returns the loss."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scores = model.train()(PackedBatch.of(Sequences.from_lists(HISTORIES), 6))
    loss = -(scores.queries @ scores.items.T).log_softmax(1)[:, 4].mean()
    loss.backward()
    optimizer.step()
    model.eval()
    return float(loss.detach())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_it_learns_from_every_modality(kind: type[SequentialRanker], fusion: str) -> None:
    model, _ = build(kind, fusion, dropout=0.0)
    first = step(model)
    for name, parameter in model.items.named_parameters():
        assert parameter.grad is not None, f"{name} is not part of an item's vector"
    assert step(model) < first


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", list(FUSIONS))
@pytest.mark.parametrize("modalities", [("id", "text", "fields"), ("text",), ("fields",), ("id",)])
def test_saving_keeps_the_scores(kind, fusion: str, modalities: tuple[str, ...], tmp_path: Path) -> None:
    model, _ = build(kind, fusion, modalities)
    step(model)
    before = model.score([[], *HISTORIES])
    model.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert torch.equal(loaded.score([[], *HISTORIES]), before)
    assert loaded.fields == model.fields


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_cold_items_share_the_unknown_id(fusion: str) -> None:
    """Two cold items of equal content have one vector, whatever rows the table of ids holds for them."""
    model, features = build(SASRec, fusion)
    for one in features.values():
        one.vectors[-1], one.present[-1] = one.vectors[-2], one.present[-2]
    model.set_features(features, model.items.warm, keep_statistics=True)
    step(model)
    with torch.no_grad():
        model.items.ids.weight[-2:].add_(torch.randn(2, 1))
    table = model.train().eval().table()
    torch.testing.assert_close(table[-1], table[-2])
    assert not torch.allclose(table[-1], table[-3])


@pytest.mark.parametrize("missing", ["learned", "mean", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_a_new_item_is_what_a_cold_one_is(kind: type[SequentialRanker], fusion: str, missing: str) -> None:
    model, features = build(kind, fusion, missing=missing)
    step(model)
    before = model.score(HISTORIES)
    twins = [ITEMS, ITEMS - 1, ITEMS - 2]
    described = {
        name: (torch.from_numpy(one.vectors[twins].astype(np.float32)), torch.from_numpy(one.present[twins]))
        for name, one in features.items()
    }
    larger = model.append_items(described, 3)
    after = larger.score(HISTORIES)
    torch.testing.assert_close(after[:, : ITEMS + 1], before)
    torch.testing.assert_close(after[:, ITEMS + 1 :], before[:, twins], atol=1e-5, rtol=1e-4)
    assert larger.fields == model.fields


@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_an_item_can_be_taken_apart(fusion: str) -> None:
    model, features = build(SASRec, fusion)
    step(model)
    item = 3
    vectors = {name: torch.from_numpy(one.vectors[item].astype(np.float32)) for name, one in features.items()}
    whole = {"id": True, **{name: bool(one.present[item]) for name, one in features.items()}}
    made = part_vectors(model, item, vectors, [whole, *({**whole, name: False} for name in whole if whole[name])])
    torch.testing.assert_close(made[0], model.table()[item], atol=1e-5, rtol=1e-4)
    assert all(not torch.allclose(made[0], one) for one in made[1:])


@pytest.mark.parametrize("fusion", ["sum", "gate", "concat", "late"])
def test_what_earlier_runs_hold_is_still_called_so(fusion: str) -> None:
    """Runs and bundles made before the registry load by these names."""
    model, _ = build(SASRec, fusion, ("id", "text"))
    names = {name for name in model.state_dict() if not name.startswith("encoders.")}
    own = {"gate": {"items.gate.weight", "items.gate.bias"}, "concat": {"items.mix.weight", "items.mix.bias"}}
    text = {f"items.features.text.{one}" for one in ("present", "centre", "basis", "absent", "project.weight")}
    known = {"items.warm", "items.ids.weight", "items.unknown", "items.features.text.project.bias", *text}
    assert names == known | own.get(fusion, set())


def test_an_unknown_fusion_is_refused_with_the_closest_name() -> None:
    with pytest.raises(PalateError, match=r"here: 'fusion': there is no fusion named 'gait'\. Did you mean 'gate'\?"):
        SASRec.Config.parse({"fusion": "gait"}, where="here")


def test_a_fusion_may_be_registered_for_the_process() -> None:
    class Product(ItemEncoder):
        def fuse(self, parts):
            return torch.stack(list(parts)).prod(0)

    class Wide(Product):
        out_dim = 25  # type: ignore[assignment]

    with FUSIONS.registered("product", Product):
        model, _ = build(SASRec, "product", ("id", "text"))
    assert isinstance(model.items, Product)
    wrong = "fusion 'wide' makes vectors of width 25, not a multiple of 24"
    with FUSIONS.registered("wide", Wide), pytest.raises(PalateError, match=wrong):
        build(SASRec, "wide", ("id", "text"))


class Halves(ItemEncoder):
    """Ids and content side by side, an id's half of the vector being its own; the start is the features' mean."""

    @property
    def id_width(self) -> int:
        return self.dim // 2

    def make(self, name: str, width: int) -> Modality:
        return Modality(width, self.num_items, self.dim // 2, self.missing)

    def build(self) -> None:
        self.starts = 0

    def initialise(self) -> None:
        self.starts += 1
        with torch.no_grad():
            self.ids.weight[:] = self.feature("text").vectors.mean()

    def fuse(self, parts):
        return torch.cat(list(parts), dim=1)


@pytest.fixture
def halves() -> Iterator[None]:
    with FUSIONS.registered("halves", Halves):
        yield


def test_a_fusion_may_make_its_own_parts_and_their_start(halves: None, tmp_path: Path) -> None:
    model, features = build(SASRec, "halves", ("id", "text"))
    assert model.items.ids.weight.shape == (ITEMS + 1, 12)
    assert model.items.ids.weight.unique().numel() == 1
    step(model)
    trained = model.items.ids.weight.detach().clone()
    model.set_features(features, model.items.warm, keep_statistics=True)
    assert model.items.starts == 1
    assert torch.equal(model.items.ids.weight, trained)
    model.save(tmp_path)
    loaded = SASRec.load(tmp_path)
    assert torch.equal(loaded.score(HISTORIES), model.score(HISTORIES))
    described = {
        "text": (torch.from_numpy(features["text"].vectors[-1:]), torch.from_numpy(features["text"].present[-1:]))
    }
    larger = loaded.append_items(described, 1)
    torch.testing.assert_close(larger.score(HISTORIES)[:, -1], model.score(HISTORIES)[:, -1], atol=1e-5, rtol=1e-4)
