"""A run of pretraining: it goes on where it was interrupted, and what it made is a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("peft")

from palate.errors import PalateError
from palate.mllm.lm import embedded
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat
from palate.pretraining import training
from palate.pretraining.config import PretrainConfig
from palate.pretraining.pretrain import pretrain
from palate.pretraining.training import Pretraining

Tiny = Callable[[str], Path]


def config(model: Path, **trainer: Any) -> PretrainConfig:
    return PretrainConfig.parse(
        {
            "model": str(model),
            "worlds": {"shops": 2, "catalogues": 1, "items": 30, "people": 10},
            "trainer": {"steps": 4, "rows": 2, "validate_every": 2, "r": 2, **trainer},
        },
        where="test",
    )


@pytest.fixture(autouse=True)
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.pretraining.examine.SHOPS", 1)
    monkeypatch.setattr("palate.pretraining.examine.CASES", 2)
    monkeypatch.setattr("palate.pretraining.examine.OTHERS", 3)


def learnt(out: Path) -> dict[str, torch.Tensor]:
    return {
        name: value
        for file in ("adapter_model", "projector")
        for name, value in load_file(out / "learnt" / f"{file}.safetensors").items()
    }


def test_interrupted_it_ends_with_the_same_weights(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = config(tiny("llava"), checkpoint_minutes=1e-9)
    facts = pretrain(whole, settings)
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert {"auc", "auc_blind", "new_order", "new_see"} <= set(rows[0])
    assert facts["tokens"] > 0

    class Stop(Exception):
        pass

    step = Pretraining.learn

    def until_three(self: Pretraining) -> dict[str, list[float]]:
        if self.step == 3:
            raise Stop
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "learn", until_three)
        with pytest.raises(Stop):
            pretrain(cut, settings)
    assert not (cut / "learnt").exists()
    pretrain(cut, settings)
    first, second = learnt(whole), learnt(cut)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert pretrain(cut, settings)["seconds"] == json.loads((cut / "pretraining.json").read_text())["seconds"]
    with pytest.raises(PalateError, match="holds another pretraining"):
        pretrain(cut, config(tiny("llava"), learning_rate=1e-5))


def test_the_model_is_that_of_training(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the averaged weights, as the last measurement saw them; kept in half precision."""
    made: list[Pretraining] = []
    run = Pretraining.run

    def remember(self: Pretraining, *args: Any) -> None:
        made.append(self)
        run(self, *args)

    monkeypatch.setattr(training.Pretraining, "run", remember)
    pretrain(tmp_path / "run", config(tiny("llava")))
    model = open_model(ModelOptions(name=str(tmp_path / "run" / "model"), dtype="float32"))
    ids = model.encode(Chat(("Will the user like it?",))).ids[None]
    with torch.no_grad():
        here = model.core(input_ids=ids).logits
        there = made[0].chat.core(input_ids=ids).logits
        before = open_model(ModelOptions(name=str(tiny("llava")), dtype="float32")).core(input_ids=ids).logits
    assert torch.allclose(here, there, atol=0.05 * float(there.abs().max()))
    assert not torch.equal(here, before)
    features = made[0].worlds.shop(0).features[1:3].float()
    with torch.no_grad():
        projected = model.core.model.multi_modal_projector(features)
        expected = made[0].projector(features)
    assert torch.allclose(projected, expected, atol=0.05 * float(expected.abs().max()))
    settings = json.loads((tmp_path / "run" / "learnt" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted(settings["target_modules"])


def test_a_model_without_a_projector_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="has no projector to teach"):
        pretrain(tmp_path / "run", config(tiny("llama")))
    assert not (tmp_path / "run").exists()


def test_it_begins_with_the_weights_of_another_run(tiny: Tiny, tmp_path: Path) -> None:
    pretrain(tmp_path / "first", config(tiny("llava")))
    still = config(tiny("llava"), steps=1, learning_rate=1e-12, projector_learning_rate=1e-12, average=0)
    pretrain(tmp_path / "second", still.model_copy(update={"start": str(tmp_path / "first")}))
    first, second = learnt(tmp_path / "first"), learnt(tmp_path / "second")
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)
    other = config(tiny("llava"), r=4).model_copy(update={"start": str(tmp_path / "first")})
    with pytest.raises(PalateError, match="another rank"):
        pretrain(tmp_path / "third", other)
    nowhere = config(tiny("llava")).model_copy(update={"start": str(tmp_path / "nowhere")})
    with pytest.raises(PalateError, match="has no checkpoint of a pretraining"):
        pretrain(tmp_path / "fourth", nowhere)
    assert not (tmp_path / "fourth").exists()


def test_a_shallower_model_begins_with_the_first_layers_of_a_deeper_one(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "SMALL_LAYERS", 1)
    pretrain(tmp_path / "whole", config(tiny("llava")))
    (tmp_path / "cut").mkdir()
    embedded.cut(tiny("llava"), tmp_path / "cut")
    still = config(tmp_path / "cut", steps=1, learning_rate=1e-12, projector_learning_rate=1e-12, average=0)
    pretrain(tmp_path / "small", still.model_copy(update={"start": str(tmp_path / "whole")}))
    whole, small = learnt(tmp_path / "whole"), learnt(tmp_path / "small")
    assert small.keys() < whole.keys()
    assert not any(".layers.1." in name for name in small)
    assert all(torch.allclose(whole[name], small[name], atol=1e-3) for name in small)
