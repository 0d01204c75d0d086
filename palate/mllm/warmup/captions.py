"""Captions that the projector learns: what the catalogue says of an item, and the colours of its picture."""

from __future__ import annotations

import numpy as np
import polars as pl
from PIL import Image
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.data.catalogue import Catalogue
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.names import field_names

QUESTION = "\nWhat is this?"
# A field distinguishes kinds of items rather than items where a value belongs to this many of them on average.
_SHARED = 10
_SIDE = 48
# Names of the hues by the degree up to which each goes; what is above the last is red again.
_HUES = ((15, "red"), (40, "orange"), (70, "yellow"), (165, "green"), (200, "cyan"), (255, "blue"), (290, "purple"))
_LAST_HUES = ((335, "pink"), (361, "red"))


class CaptionConfig(Config):
    """What a caption consists of (``--set caption.KEY=VALUE``).

    By default these are fields that many items share (genres, categories), for only these show in the picture of an
    item never seen, and colours, which are true of any picture. A picture seldom shows the title, and then its tokens
    drown the others.
    """

    fields: str | None = Field(
        None, description="Fields in captions (default: those that items share).", examples=["genres,category"]
    )
    title: bool = Field(False, description="The title as well, last.")
    colours: bool = Field(True, description="The colours of the picture, named by counting its pixels.")
    words: int = Field(24, ge=0, description="Words of the fields, at most.")


def caption_fields(catalogue: Catalogue, config: CaptionConfig) -> list[str]:
    """The fields that captions are made of."""
    if config.fields is not None:
        return field_names(config.fields, "fields")
    return [name for name in catalogue.text_fields if _shared(catalogue.frame[name])]


def _shared(column: pl.Series) -> bool:
    values = column.explode() if isinstance(column.dtype, pl.List) else column
    values = values.drop_nulls()
    return len(values) > 0 and values.n_unique() * _SHARED <= len(values)


def caption(items: Items, item: int, picture: Picture, config: CaptionConfig) -> dict[str, str]:
    """The caption of one item in parts: ``fields``, ``colours``, ``title``, as far as there are any."""
    fields = " ".join(items.text(item).split()[: config.words]).rstrip(".,;: ")
    parts = {"fields": f"{fields}."} if fields else {}
    if config.colours:
        parts["colours"] = f"Colours: {', '.join(colours(picture.open()))}."
    if config.title or not parts:
        parts["title"] = f"{items.title(item).rstrip('.')}."
    return parts


def question(model: ChatModel) -> tuple[str, Tensor]:
    """The question about a picture: as rendered, and as tokens ``[tokens]`` with the picture's placeholders."""
    chat = Chat((Picture(None), QUESTION))
    return model.render(chat), model.encode(chat).ids


def answer_parts(model: ChatModel, rendered: str, parts: dict[str, str]) -> dict[str, list[int]]:
    """Tokens of each part; the end of the turn belongs to the last."""
    made: dict[str, list[int]] = {}
    for name, text in parts.items():
        if made:
            made[name] = model.tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
        else:
            made[name] = model.answer_ids(rendered, text)
    if model.chat_template.end_of_turn is not None:
        made[name].append(model.chat_template.end_of_turn)
    return made


def colours(image: Image.Image, most: int = 3, least: float = 0.12) -> list[str]:
    """Names of the colours that cover the picture, the largest share first.

    Args:
        most: colours named at most.
        least: share of the pixels below which a colour is not named; the largest always is.

    >>> colours(Image.new("RGB", (8, 8), (200, 20, 20)))
    ['red']
    """
    # Shrunk while it is still red, green and blue: the mean of two hues on a circle is not between them.
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BOX).convert("HSV")
    hue, saturation, value = (np.asarray(small)[..., channel].ravel() / 255 for channel in range(3))
    names = np.full(hue.shape, "", dtype="<U8")
    for end, name in reversed((*_HUES, *_LAST_HUES)):
        names[hue * 360 <= end] = name
    names[(names == "orange") & (value < 0.6)] = "brown"
    faint = (saturation < 0.18) | (value * saturation < 0.12)
    names[faint] = "grey"
    names[faint & (value > 0.82)] = "white"
    names[value < 0.22] = "black"
    found, counts = np.unique(names, return_counts=True)
    # By share, then by name, so that ties are resolved alike everywhere.
    order = sorted(zip(-counts / counts.sum(), found.tolist(), strict=True))
    return [name for place, (share, name) in enumerate(order[:most]) if place == 0 or -share >= least]
