"""What the projector of a LLaVA model sees of pictures: the features that a frozen image encoder gives, once each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from palate.mllm.lm.chat_model import ChatModel


class ProjectorInputs:
    """Encodes pictures; made by :func:`projector_inputs`."""

    def __init__(self, chat: ChatModel) -> None:
        self.chat = chat
        self.captured: Tensor | None = None

    def __call__(self, image: Image.Image) -> Tensor:
        """Float16 ``[places, width]`` on the CPU, of a picture that is no larger than ``chat.longest``."""
        chat = self.chat
        pixels = chat.processor.image_processor(images=[image], return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            chat.core.model.get_image_features(pixel_values=pixels.to(chat.device, chat.core.dtype))
        assert self.captured is not None
        return self.captured[0].to("cpu", torch.float16).clone()

    def hook(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.captured = inputs[0].detach()


@contextmanager
def projector_inputs(chat: ChatModel) -> Iterator[ProjectorInputs]:
    """What encodes pictures for the projector of a model of the LLaVA family, for the time of the block."""
    made = ProjectorInputs(chat)
    hook = chat.core.model.multi_modal_projector.register_forward_pre_hook(made.hook)
    try:
        yield made
    finally:
        hook.remove()
