"""The warm-up: it learns to look, proves it on held-out items, and changes nothing but the projector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("transformers")

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.warmup.captions import (
    QUESTION,
    CaptionConfig,
    answer_parts,
    caption,
    caption_fields,
    colours,
    question,
)
from palate.mllm.warmup.training import ProjectorTraining, Standardised, WarmUpConfig
from palate.mllm.warmup.warm_up import warm_up

Tiny = Callable[[str], Path]
KINDS = {"Comedy": (220, 30, 30), "Action": (30, 30, 220), "Thriller": (30, 200, 30)}


def dataset(folder: Path, items: int = 60, kind: str | None = None) -> Dataset:
    """Items of three kinds; the colour of the picture tells which, the title does not."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    kinds = [kind or sorted(KINDS)[number % 3] for number in range(items)]
    for number, name in enumerate(kinds):
        noise = rng.integers(-20, 20, (60, 60, 3))
        Image.fromarray(np.clip(np.array(KINDS[name]) + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    catalogue = pl.DataFrame(
        {
            "item_id": [str(number) for number in range(items)],
            "title": [f"item {number}" for number in range(items)],
            "image": [f"{number}.png" for number in range(items)],
            "genre": kinds,
            "plot": [f"plot of its own {number}" for number in range(items)],
        }
    )
    log = pl.DataFrame({"user": ["u"] * items, "item": [str(number) for number in range(items)]})
    return from_frames(log, catalogue, images=folder, k_core=0)


FAST = WarmUpConfig(epochs=10, batch_size=4, learning_rate=1e-2, device="cpu", dtype="float32", held_out=0.5)


def test_it_learns_to_look(tiny: Tiny, tmp_path: Path) -> None:
    data = dataset(tmp_path / "pictures")
    longer = FAST.model_copy(update={"epochs": 20})
    facts = warm_up(
        data, out=tmp_path / "model", model=str(tiny("llava")), config=longer, caption_config=CaptionConfig(title=False)
    )
    before, after = facts["held_out"]["before"], facts["held_out"]["after"]
    assert after["own_picture"] < before["own_picture"]
    assert after["gap"] > 2 * after["gap_standard_error"] > 0
    assert after["own_is_likelier"] > 0.6  # a third of the others are of the same kind
    assert after["gap_by_part"]["fields"] > 0
    assert after["gap_by_part"]["colours"] > 0
    assert abs(before["gap"]) < after["gap"] / 2
    assert facts["items"] == {"learnt": 30, "choosing": 15, "telling": 15}
    assert facts["fields"] == ["genre"]
    assert json.loads((tmp_path / "model/warm-up.json").read_text()) == facts


def test_nothing_but_the_projector_changes(tiny: Tiny, tmp_path: Path) -> None:
    data = dataset(tmp_path / "pictures", items=20)
    one = FAST.model_copy(update={"steps": 2})
    facts = warm_up(data, out=tmp_path / "model", model=str(tiny("llava")), config=one, seed=1)
    before = load_file(tiny("llava") / "model.safetensors")
    after = load_file(tmp_path / "model/model.safetensors")
    assert before.keys() == after.keys()
    changed = {name for name, value in before.items() if not torch.equal(value.to(torch.bfloat16), after[name])}
    assert changed == {name for name in before if "multi_modal_projector" in name}
    assert len(changed) == 4
    model = open_model(str(tmp_path / "model"))
    assert model.takes_pictures
    assert model.fingerprint != facts["base"]["fingerprint"]


def test_the_same_seed_gives_the_same_model(tiny: Tiny, tmp_path: Path) -> None:
    data = dataset(tmp_path / "pictures", items=20)
    one = FAST.model_copy(update={"steps": 3})
    prints = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        warm_up(data, out=tmp_path / name, model=str(tiny("llava")), config=one, seed=seed)
        prints.append(open_model(str(tmp_path / name)).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_interrupted_it_goes_on_and_ends_the_same(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(tmp_path / "pictures", items=24)
    config = FAST.model_copy(update={"epochs": 3, "batch_size": 5})
    told: dict[str, Any] = {"model": str(tiny("llava")), "config": config, "seed": 2}
    whole = warm_up(data, out=tmp_path / "whole", **told)

    monkeypatch.setattr("palate.mllm.warmup.training.CHECKPOINT_SECONDS", 0.0)
    seen = {"batches": 0}
    losses = ProjectorTraining._losses

    def counted(self: ProjectorTraining, rows: Any, pictures: Any) -> Any:
        seen["batches"] += torch.is_grad_enabled()
        if seen["batches"] == seen.get("stop"):
            raise KeyboardInterrupt
        return losses(self, rows, pictures)

    monkeypatch.setattr(ProjectorTraining, "_losses", counted)
    seen["stop"] = 5
    with pytest.raises(KeyboardInterrupt):
        warm_up(data, out=tmp_path / "broken", **told)
    assert not (tmp_path / "broken").exists()
    assert (tmp_path / ".broken.warm-up" / "checkpoint.pt").is_file()
    del seen["stop"]
    seen["batches"] = 0
    again = warm_up(data, out=tmp_path / "broken", **told)
    assert seen["batches"] == whole["epochs"][-1]["step"] - 4  # the first four steps were not taken again
    assert again["epochs"] == whole["epochs"]
    assert again["held_out"] == whole["held_out"]
    same = [open_model(str(tmp_path / name)).fingerprint for name in ("whole", "broken")]
    assert same[0] == same[1]
    assert not (tmp_path / ".broken.warm-up").exists()


def test_the_checkpoint_of_another_training_is_not_taken(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(tmp_path / "pictures", items=20)
    monkeypatch.setattr("palate.mllm.warmup.training.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("palate.mllm.warmup.warm_up.remove", lambda *_: None)  # keeps the checkpoint of what ended well
    few = FAST.model_copy(update={"steps": 3})
    warm_up(data, out=tmp_path / "model", model=str(tiny("llava")), config=few)
    (tmp_path / "model").rename(tmp_path / "first")
    assert (tmp_path / ".model.warm-up" / "checkpoint.pt").is_file()
    other = warm_up(data, out=tmp_path / "model", model=str(tiny("llava")), config=few, seed=9)
    assert [row["step"] for row in other["epochs"]] == [3]
    fresh = warm_up(data, out=tmp_path / "fresh", model=str(tiny("llava")), config=few, seed=9)
    assert fresh["epochs"] == other["epochs"]


def test_its_loss_is_that_of_the_saved_model(tiny: Tiny, tmp_path: Path) -> None:
    """What training computes with kept features is what a chat with the same picture computes."""
    data = dataset(tmp_path / "pictures", items=20)
    says = CaptionConfig()
    facts = warm_up(data, out=tmp_path / "model", model=str(tiny("llava")), config=FAST.model_copy(update={"steps": 4}))
    model = open_model(str(tmp_path / "model"))
    items = Items.of(data.catalogue, fields=caption_fields(data.catalogue, says))
    order = np.random.default_rng(0)
    drawn = (order.permutation(20) + 1)[order.permutation(20)][5:10]  # the same draws as the warm-up's
    losses = []
    for item in drawn.tolist():
        picture = items.picture(item)
        assert picture is not None
        said = " ".join(caption(items, item, picture, says).values())
        row = model.encode(Chat((picture, QUESTION)), answer=said)
        with torch.inference_mode():
            losses.append(model.model(**model.collate([row], labels=True)).loss.item())
    assert np.mean(losses) == pytest.approx(facts["held_out"]["after"]["own_picture"], rel=0.02)  # saved in bfloat16


@pytest.mark.parametrize("learnt", [False, True])
def test_a_folded_projector_does_the_same(tiny: Tiny, learnt: bool) -> None:
    plain = open_model(str(tiny("llava"))).core.model.multi_modal_projector
    features = torch.rand(5, 16, 32, generator=torch.Generator().manual_seed(0)) * torch.linspace(0, 9, 32) + 3
    made = Standardised(plain, features, learnt=learnt)
    same = torch.allclose(made(features), plain(features), atol=1e-4, rtol=1e-4)
    assert same == learnt  # what has learnt something goes on from there
    torch.testing.assert_close(made.folded()(features), made(features), atol=1e-4, rtol=1e-4)
    assert made.folded().state_dict().keys() == plain.state_dict().keys()


def test_what_cannot_be_warmed_up_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    data = dataset(tmp_path / "pictures", items=20)
    with pytest.raises(PalateError, match=r"\(smolvlm\) has no projector to warm up"):
        warm_up(data, out=tmp_path / "model", model=str(tiny("smolvlm")), config=FAST)
    few = from_frames(
        pl.DataFrame({"user": ["u"] * 4, "item": list("abcd")}),
        pl.DataFrame({"item_id": list("abcd"), "title": list("abcd"), "image": [None, None, None, "a.png"]}),
        images=tmp_path,
        k_core=0,
    )
    with pytest.raises(PalateError, match="0 items with a picture, too few"):
        warm_up(few, out=tmp_path / "model", model=str(tiny("llava")), config=FAST)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(PalateError, match="exists already"):
        warm_up(data, out=tmp_path / "model", model=str(tiny("llava")), config=FAST)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["mine.txt"]


def test_captions(tiny: Tiny, tmp_path: Path) -> None:
    data = dataset(tmp_path / "pictures", kind="Comedy")
    items = Items.of(data.catalogue, fields=["genre"])
    picture = items.picture(1)
    assert picture is not None
    parts = caption(items, 1, picture, CaptionConfig(title=True))
    assert list(parts.values()) == ["Comedy.", "Colours: red.", f"{items.title(1)}."]
    assert caption_fields(data.catalogue, CaptionConfig(fields="plot, genre")) == ["plot", "genre"]
    bare = CaptionConfig(title=False, colours=False, words=0)
    assert list(caption(items, 1, picture, bare)) == ["title"]  # never nothing
    model = open_model(str(tiny("llava")))
    rendered, prompt = question(model)
    tokens = answer_parts(model, rendered, parts)
    joined = [token for part in tokens.values() for token in part]
    whole = model.encode(Chat((Picture(None), QUESTION)), answer=" ".join(parts.values())).ids
    assert [*prompt.tolist(), *joined] == whole.tolist()


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((0, 0, 0), "black"),
        ((255, 255, 255), "white"),
        ((128, 128, 128), "grey"),
        ((220, 20, 30), "red"),
        ((255, 150, 0), "orange"),
        ((110, 60, 20), "brown"),
        ((250, 230, 40), "yellow"),
        ((20, 160, 40), "green"),
        ((40, 200, 210), "cyan"),
        ((30, 40, 200), "blue"),
        ((130, 40, 190), "purple"),
        ((240, 90, 180), "pink"),
    ],
)
def test_colours_have_their_plain_names(rgb: tuple[int, int, int], name: str) -> None:
    assert colours(Image.new("RGB", (20, 30), rgb)) == [name]


def test_two_reds_do_not_make_a_cyan() -> None:
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[::2], stripes[1::2] = (220, 10, 40), (220, 40, 10)
    assert colours(Image.fromarray(stripes)) == ["red"]


def test_colours_come_by_share_and_small_ones_are_left_out() -> None:
    image = Image.new("RGB", (100, 100), (30, 40, 200))
    image.paste((220, 20, 30), (0, 0, 100, 30))
    image.paste((250, 230, 40), (0, 0, 20, 20))
    assert colours(image) == ["blue", "red"]
