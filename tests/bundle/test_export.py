"""The ONNX encoder answers as torch does, for any length and batch, and is refused where it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from palate.bundle import Bundle, add_items, make_bundle
from palate.bundle.export import ENCODER, ITEMS, compare, export_encoder
from palate.errors import PalateError
from palate.rankers.gru4rec import GRU4Rec
from palate.rankers.sasrec import SASRec
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

VARIANTS: dict[str, tuple[type[SequentialRanker], dict[str, Any]]] = {
    "sasrec": (SASRec, {"norm": "post", "input_norm": True, "positions": "first", "repeat_bias": True}),
    "ligr-moe-cosine": (
        SASRec,
        {"block": "ligr", "ffn": "moe", "experts": 3, "active": 2, "similarity": "cosine", "temperature": 0.1},
    ),
    "gru4rec": (GRU4Rec, {"layers": 2, "repeat_bias": True}),
}


def build(variant: str, **more: Any) -> SequentialRanker:
    kind, options = VARIANTS[variant]
    torch.manual_seed(0)
    model = kind(kind.Config.parse({"dim": 8, "max_length": 6, **options, **more}, where="test"), 15, {})
    nn.init.normal_(model.items.ids.weight)
    if model.repeat is not None:
        nn.init.normal_(model.repeat, std=0.3)
    return model.eval()


@pytest.mark.parametrize("variant", ["sasrec", pytest.param("ligr-moe-cosine", marks=pytest.mark.slow), "gru4rec"])
def test_onnx_scores_are_those_of_torch(variant: str, tmp_path: Path) -> None:
    model = build(variant)
    facts = export_encoder(model, tmp_path)
    assert facts["difference"] < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / ENCODER))
    table = load_file(tmp_path / ITEMS)["items"]
    histories = [[1, 2, 3], [4], [5, 5, 5, 6, 5, 7], [15, 1]]
    for rows in ([histories[1]], [histories[0]], histories):
        width = max(map(len, rows))
        items = np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            items[place, : len(row)] = row
        found = session.run(None, {"items": items, "lengths": np.array([len(row) for row in rows])})
        scores = found[0] @ table.T
        if model.repeat is not None:
            np.add.at(scores, (np.arange(len(rows))[:, None], items), found[1])
        expected = model.score(rows).numpy()
        assert np.abs(scores - expected)[:, 1:].max() < 1e-4
    lengths = np.array([2])
    short = session.run(None, {"items": np.array([[3, 4]]), "lengths": lengths})[0]
    padded = session.run(None, {"items": np.array([[3, 4, 9, 0]]), "lengths": lengths})[0]
    assert np.abs(short - padded).max() < 1e-6  # what stands behind the end does not matter
    with torch.no_grad():
        for weight in model.encoders.parameters():  # type: ignore[union-attr]
            weight.add_(0.05 * torch.randn_like(weight))
    assert compare(model, tmp_path) > 1e-3  # another model than the exported one is noticed


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from palate.bundle import export

    monkeypatch.setattr(export, "_export", lambda *words: None)
    monkeypatch.setattr(export, "compare", lambda *words: 0.01)
    with pytest.raises(PalateError, match=r"differs from torch by 0\.01"):
        export_encoder(build("sasrec"), tmp_path)


@pytest.mark.slow
def test_a_model_of_one_item_can_be_exported(tmp_path: Path) -> None:
    assert export_encoder(build("sasrec", max_length=1), tmp_path)["difference"] < 1e-4


@pytest.mark.slow
def test_a_bundle_with_onnx_and_with_items_added(full_run: Run, tmp_path: Path) -> None:
    made = make_bundle(full_run, tmp_path / "bundle", onnx=True)
    assert made.facts["onnx"]["outputs"] == {"users": "float32 [B, 16]", "repeats": "float32 [B, L]"}
    assert made.facts["onnx"]["file"] in made.facts["files"]
    (tmp_path / "new.csv").write_text("item_id,title,tags\nnew,space story 9,space|film\n")
    larger = Bundle.load(add_items(made.folder, tmp_path / "new.csv", tmp_path / "out").folder)
    assert load_file(larger.folder / ITEMS)["items"].shape[0] == len(larger.items) + 1
    model = larger.recommender
    assert isinstance(model, SequentialRanker)
    assert compare(model, larger.folder) < 1e-4
    assert larger.facts["onnx"]["difference"] < 1e-4


def test_popularity_has_no_encoder(popular_run: Run, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="no sequence encoder to export"):
        make_bundle(popular_run, tmp_path / "bundle", onnx=True)
    assert not (tmp_path / "bundle").exists()
