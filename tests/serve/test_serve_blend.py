"""A blend from its run to a bundle and to answers over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import torch
from bundle_helpers import make_run
from serve_helpers import Live

from palate.bundle import Bundle, make_bundle
from palate.bundle.add import add_items
from palate.errors import PalateError
from palate.rankers.blend import Blend
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.serve.config import ServeConfig
from palate.serve.engine import engine_of
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service
from palate.training.blend import blend

HISTORY = ["space-1", "crime-2", "space-3"]


@pytest.fixture(scope="module")
def runs(films: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Two blends: one with a neural part that reads texts, and one of counting rankers."""
    out = tmp_path_factory.mktemp("blended-runs")
    neural = make_run(films, out / "sasrec", modalities="id,text", id_dropout=0.2)
    knn = make_run(films, out / "item-knn", "item-knn", "id")
    popular = make_run(films, out / "popularity", "popularity", "id")
    return {
        "both": blend([knn, neural], out=out / "both"),
        "counted": blend([popular, knn], out=out / "counted", fit="likelihood"),
    }


@pytest.fixture(scope="module")
def bundles(runs: dict[str, Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("blended-bundles")
    return {name: make_bundle(run, out / name).folder for name, run in runs.items()}


@pytest.fixture(scope="module")
def blends(bundles: dict[str, Path]) -> Iterator[Live]:
    running = Live(lambda: Service([BundleSpec(name, folder) for name, folder in bundles.items()], ServeConfig()))
    yield running
    running.stop()


def test_a_bundle_scores_as_its_run(runs: dict[str, Run], bundles: dict[str, Path]) -> None:
    bundle, model = Bundle.load(bundles["both"]), load_recommender(runs["both"])
    assert isinstance(model, Blend)
    assert len(model.parts) == 2
    torch.testing.assert_close(bundle.recommender.score([[1, 2], []]), model.score([[1, 2], []]), rtol=0, atol=0)
    assert set(bundle.facts["features"]) == {"text"}
    assert bundle.facts["features"]["text"]["file"] == "features/text.safetensors"
    assert {name.split("/")[2] for name in bundle.facts["files"] if name.startswith("model/parts/")} == {"0", "1"}
    assert str(runs["both"].folder.parent) not in (bundles["both"] / "bundle.json").read_text(encoding="utf-8")
    card = (bundles["both"] / "README.md").read_text(encoding="utf-8")
    assert "which chose the weights" in card
    assert "sum of:" in card


def test_it_recommends(blends: Live, bundles: dict[str, Path]) -> None:
    for name, folder in bundles.items():
        found = blends.post("/v1/recommend", {"model": name, "history": HISTORY, "k": 5}).json["items"]
        expected = Bundle.load(folder).recommend(HISTORY, 5)
        assert [one["id"] for one in found] == [item for item, _ in expected]
        assert [one["score"] for one in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_it_explains_by_leaving_items_out(blends: Live, bundles: dict[str, Path]) -> None:
    found = blends.post("/v1/explain", {"model": "both", "history": HISTORY, "item": "space-5"}).json
    bundle = Bundle.load(bundles["both"])
    index = bundle.items.index_of("space-5")
    whole, without = (bundle.recommender.score([bundle.known(one)[0]])[0] for one in (HISTORY, HISTORY[:2]))
    effect = (whole[index] - whole[1:].mean()) - (without[index] - without[1:].mean())
    assert found["history"][2]["effect"] == pytest.approx(float(effect), abs=1e-4)
    assert found["modalities"] is None
    # Without a history every part answers by popularity: no difference of scores means anything then.
    for name in bundles:
        alone = blends.post("/v1/explain", {"model": name, "history": HISTORY[:1], "item": "space-5"}).json
        assert alone["history"] == []
        assert "newcomer" in alone["notes"][0]


def test_items_are_alike_by_the_first_part_that_compares(blends: Live, bundles: dict[str, Path]) -> None:
    found = {one["name"]: one for one in blends.get("/v1/models").json["models"]}
    assert found["both"]["diversifies"]
    assert not found["counted"]["diversifies"]
    for name in bundles:
        assert found[name]["compares"]
        assert blends.post("/v1/similar", {"model": name, "item": "crime-3", "k": 3}).json["items"]
    diverse = {"model": "both", "history": HISTORY, "k": 3, "diversity": 0.5}
    assert len(blends.post("/v1/recommend", diverse).json["items"]) == 3
    assert blends.post("/v1/recommend", {**diverse, "model": "counted"}).status == 422


def test_what_a_blend_cannot_do_is_refused(runs: dict[str, Run], bundles: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="several models, not one sequence encoder"):
        make_bundle(runs["both"], tmp_path / "onnx", onnx=True)
    with pytest.raises(PalateError, match="a blend takes no new items"):
        add_items(bundles["both"], _new_items(tmp_path), tmp_path / "more")
    with pytest.raises(PalateError, match="the scores of a blend are none"):
        engine_of(Bundle.load(bundles["both"]).recommender, approximate=True)


def _new_items(folder: Path) -> Path:
    path = folder / "items.csv"
    pl.DataFrame({"item_id": ["space-new"], "title": ["space new"]}).write_csv(path)
    return path
