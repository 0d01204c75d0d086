"""Captions to warm the projector up with: what the catalogue says of an item, and the colours of its picture."""

from __future__ import annotations

import polars as pl
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.data.catalogue import Catalogue
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.warmup.colours import colours
from palate.names import field_names

QUESTION = "\nWhat is this?"
# A field tells kinds of items apart, not items, where a value belongs to so many of them on average.
_SHARED = 10


class CaptionConfig(Config):
    """What a caption says (``--set caption.KEY=VALUE``).

    Attributes:
        fields: fields of the catalogue, in order, separated by commas; None: those whose values many items share
            (genres, categories), for only these can be told from the picture of an item never seen.
        title: the title as well, last. It can seldom be told from a picture, and then its tokens drown the others.
        colours: the colours of the picture, named by counting its pixels.
        words: at most so many words of the fields.
    """

    fields: str | None = None
    title: bool = False
    colours: bool = True
    words: int = Field(24, ge=0)


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
    if model.dialect.end_of_turn is not None:
        made[name].append(model.dialect.end_of_turn)
    return made
