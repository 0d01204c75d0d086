"""Questions about pictures: the language model's answers, counted right or wrong against the generator's truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from palate.data.dataset import Dataset
from palate.demo.runner import Demo
from palate.demo.shop.traits import WORDS, item_traits, named
from palate.demo.shop.truth import load_truth
from palate.storage.files import read_json, write_json

ANSWERS = "answers.json"
SHOWN, NEW_TOKENS = 4, 24
ASPECTS = ("kind", "colour", "pattern")


def ask_about_pictures(demo: Demo, model: str, dtype: str, count: int) -> None:
    """Print answers about pictures of items drawn at random, and how many are right.

    The answers are saved in ``mllm/answers.json``, and not asked for again.

    Args:
        model: an embedded model, or a folder.
        count: how many pictures.
    """
    file = demo.out / "mllm" / ANSWERS
    asked = {"model": model, "dtype": dtype, "seed": demo.seed, "count": count}
    saved = read_json(file) if file.is_file() else None
    if not isinstance(saved, dict) or saved.get("asked") != asked:
        data = demo.data()
        saved = {"asked": asked, "answers": _answers(demo, data, _drawn(data, count, demo.seed), model, dtype)}
        write_json(file, saved)
    answers = saved["answers"]
    for one in answers[:SHOWN]:
        truth = ", ".join(one["truth"][aspect] for aspect in ASPECTS)
        demo.console.print(f"  {one['item']} ({truth}): {one['answer']!r}")
    right = {aspect: sum(one["right"][aspect] for one in answers) for aspect in ASPECTS}
    counts = [f"the {aspect} of {right[aspect]} (of {len(WORDS[aspect])} there are)" for aspect in ASPECTS]
    demo.console.print(
        f"Of {len(answers)} pictures it names {', '.join(counts[:-1])} and {counts[-1]} rightly.", style="bold"
    )
    demo.facts["pictures"] = {"asked": len(answers), **right}


def _drawn(data: Dataset, count: int, seed: int) -> list[int]:
    """Items with a picture, drawn by the seed."""
    pictured = np.flatnonzero(data.catalogue.frame["image"].is_not_null().to_numpy()) + 1
    drawn: list[int] = np.random.default_rng([seed, 0x736565]).permutation(pictured)[:count].tolist()
    return drawn


def _answers(demo: Demo, data: Dataset, items: Sequence[int], model: str, dtype: str) -> list[dict[str, Any]]:
    """For each item: what it is in truth, what the model answers, and which aspects are right.

    An aspect is right if the answer names the true word of it and no other.
    """
    from palate.mllm.backends.base import ModelRequest, Reply
    from palate.mllm.backends.local import LocalBackend
    from palate.mllm.lm.loading import open_model
    from palate.mllm.lm.options import ModelOptions
    from palate.mllm.prompts.chat import Chat, Picture
    from palate.mllm.warmup.captions import QUESTION

    texts: dict[str, str] = {}

    def done(reply: Reply) -> tuple[()]:
        texts[reply.key] = reply.text or ""
        return ()

    ids, truth = data.catalogue.ids, load_truth(demo.dataset)
    backend = LocalBackend(open_model(ModelOptions(name=model, dtype=dtype)), batch_size=8)
    chats = {ids[item]: Chat((Picture(data.catalogue.image_path(item)), QUESTION)) for item in items}
    backend.work((ModelRequest(item, chat, NEW_TOKENS) for item, chat in chats.items()), done)
    answers = []
    for item in items:
        traits, answer = item_traits(truth, item), texts[ids[item]]
        said = named(answer, ASPECTS)
        right = {aspect: said[aspect] == [traits[aspect]] for aspect in ASPECTS}
        answers.append({"item": ids[item], "truth": traits, "answer": answer, "right": right})
    return answers
