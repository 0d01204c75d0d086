"""Questions about pictures that the warm-up held out: the language model's answers, counted right or wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.demo.runner import Demo
from palate.storage.files import read_json, write_json

QUESTIONS, SHOWN = 24, 4
ANSWERS = "answers.json"
_KIND = "category"


def ask_about_pictures(demo: Demo, dtype: str) -> None:
    """Print answers about pictures of held-out items, and how many are right; the answers are saved in ``mllm/``."""
    from palate.mllm.warmup.warm_up import FACTS

    data, model = demo.data(), demo.out / "mllm" / "model"
    file = demo.out / "mllm" / ANSWERS
    if not file.is_file():
        write_json(file, _answers(data, model, read_json(model / FACTS)["telling_items"][:QUESTIONS], dtype))
    answers = read_json(file)
    for one in answers[:SHOWN]:
        demo.console.print(f"  {one['item']} is {one['truth']!r}; the model answers {one['answer']!r}")
    kinds = [one["kind"] for one in answers if one["kind"] is not None]
    demo.console.print(
        f"It names the kind of product of {sum(kinds)} of {len(kinds)} such pictures rightly (there are "
        f"{data.catalogue.frame[_KIND].drop_nulls().n_unique()} kinds), and the main colour of "
        f"{sum(one['colour'] for one in answers)} of {len(answers)}."
    )


def _answers(data: Dataset, model: Path, ids: Sequence[str], dtype: str) -> list[dict[str, Any]]:
    """For each item: what it is, what the model answers, and whether kind and main colour are right.

    ``kind`` is None where the catalogue does not know it.
    """
    from palate.mllm.backends.base import ModelRequest, Reply
    from palate.mllm.backends.local import LocalBackend
    from palate.mllm.lm.loading import open_model
    from palate.mllm.prompts.chat import Chat, Picture
    from palate.mllm.warmup.captions import QUESTION, colours

    index = data.catalogue.index
    pictures = {item: Picture(data.catalogue.image_path(index[item])) for item in ids}
    texts: dict[str, str] = {}

    def done(reply: Reply) -> tuple[()]:
        texts[reply.key] = reply.text or ""
        return ()

    backend = LocalBackend(open_model(str(model), dtype=dtype), batch_size=8)
    backend.work((ModelRequest(item, Chat((picture, QUESTION)), 24) for item, picture in pictures.items()), done)
    answers = []
    for item, picture in pictures.items():
        row, answer = data.catalogue.frame.row(index[item] - 1, named=True), texts[item]
        shades = colours(picture.open())
        main = next((shade for shade in shades if shade != "white"), shades[0])
        answers.append(
            {
                "item": item,
                "truth": ", ".join([*filter(None, (row[_KIND], row["material"])), *shades]),
                "answer": answer,
                "kind": row[_KIND].lower() in answer.lower() if row[_KIND] else None,
                "colour": main in re.findall(r"\w+", answer.lower()),
            }
        )
    return answers
