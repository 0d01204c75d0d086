"""Each picture is prepared once, and the prompts are those of the plain processor."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

from transformers import BatchFeature

from palate.mllm.lm.loading import open_model
from palate.mllm.lm.prepared_pictures import PreparedPictures
from palate.mllm.prompts.chat import Chat, Picture


class Processor:
    """Pixels are the mean colour; with ``sizes`` also the picture's own size."""

    name = "own"

    def __init__(self, sizes: bool = False) -> None:
        self.sizes = sizes
        self.calls: list[int] = []

    def __call__(self, images: list[Image.Image], scale: float = 1.0, **_: Any) -> BatchFeature:
        self.calls.append(len(images))
        pixels = [torch.tensor(image.resize((1, 1)).getpixel((0, 0))).float() * scale for image in images]
        made = {"pixel_values": torch.stack(pixels)[:, :, None, None]}
        return BatchFeature(
            made | ({"image_sizes": torch.tensor([image.size for image in images])} if self.sizes else {})
        )


RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (8, 4), "blue")


def test_a_picture_is_prepared_once() -> None:
    plain = Processor()
    prepared = PreparedPictures(plain)
    for images in ([RED, BLUE], [BLUE, RED, BLUE], [RED.copy()]):
        found = prepared(images, return_tensors="pt")
        assert torch.equal(found["pixel_values"], Processor()(images)["pixel_values"])
    assert plain.calls == [1, 1]
    assert prepared.name == "own"


def test_other_options_are_other_pixels() -> None:
    prepared = PreparedPictures(Processor())
    first, second = (prepared([RED], return_tensors="pt", scale=scale)["pixel_values"] for scale in (1.0, 2.0))
    assert torch.equal(second, 2 * first)


def test_pixels_that_come_with_sizes_are_prepared_together() -> None:
    plain = Processor(sizes=True)
    prepared = PreparedPictures(plain)
    for _ in range(2):
        assert list(prepared([RED, BLUE], return_tensors="pt")) == ["pixel_values", "image_sizes"]
    assert plain.calls == [1, 1, 2, 2], "tried once, picture by picture"


def test_memory_is_bounded() -> None:
    plain = Processor()
    prepared = PreparedPictures(plain, max_bytes=3 * 4)
    for image in (RED, BLUE, RED):
        prepared([image], return_tensors="pt")
    assert plain.calls == [1, 1, 1]


def test_prompts_are_those_of_the_plain_processor(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    RED.save(tmp_path / "red.png")
    model = open_model(str(tiny("llava")))
    assert isinstance(model._reader.image_processor, PreparedPictures)
    assert not isinstance(model.processor.image_processor, PreparedPictures), "it is saved as it came"
    pickle.dumps(model.processor.image_processor)
    chat = Chat((Picture(tmp_path / "red.png"), "and", Picture(None), "Which?"))
    once, again = model.encode(chat), model.encode(chat)
    model._reader = model.processor
    plain = model.encode(chat)
    for found in (once, again):
        assert torch.equal(found.ids, plain.ids)
        assert torch.equal(found.pictures["pixel_values"], plain.pictures["pixel_values"])
