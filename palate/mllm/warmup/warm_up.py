"""Warm-up: the projector of a LLaVA model learns to caption the catalogue's pictures; all other weights stay.

The first stage of LLaVA's training (Liu et al. 2023, arXiv 2304.08485, section 4.2), on the catalogue at hand. The
image encoder is frozen, so every picture is encoded once. Held-out items show whether the model uses pictures: their
captions must be likelier with their own pictures than with others'.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.embedded import RAW_MODELS
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.lm.projector_inputs import projector_inputs
from palate.mllm.prompts.chat import Picture
from palate.mllm.prompts.items import Items
from palate.mllm.warmup.captions import CaptionConfig, answer_parts, caption, caption_fields, question
from palate.mllm.warmup.training import LEAST_ITEMS, CaptionedFeatures, ProjectorTraining, WarmUpConfig
from palate.progress import track
from palate.runs.run import environment
from palate.storage.files import atomic_folder, digest, write_json
from palate.storage.leftovers import remove
from palate.storage.lock import alone
from palate.storage.remote import recorded, takes_urls

__all__ = ["FACTS", "WarmUpConfig", "warm_up"]

FACTS = "warm-up.json"


@takes_urls("out")
def warm_up(
    dataset: Dataset,
    *,
    out: Path | str,
    model: str = "embedded",
    seed: int = 0,
    caption_config: CaptionConfig | None = None,
    config: WarmUpConfig | None = None,
    dataset_path: Path | str | None = None,
) -> dict[str, Any]:
    """Train the projector and save the model, as transformers saves it, with ``warm-up.json`` beside it.

    Interrupted and called again with the same arguments it goes on where it was (a hidden folder beside ``out``).

    Args:
        out: a new folder; ``open_model(out)`` loads it.
        model: ``embedded``, ``embedded-small``, or another model of the LLaVA family.

    Returns:
        The facts in ``warm-up.json``: options, data, losses by epoch, losses of held-out items.

    Raises:
        PalateError: ``out`` is no new folder, another family, too few pictures, a loss that is not finite.
    """
    config, caption_config = config or WarmUpConfig(), caption_config or CaptionConfig()
    started = time.perf_counter()
    out = Path(out)
    if not out.name:  # "." or "/"
        raise PalateError(f"'{out}' is no name of a new folder", "Give one, such as --out models/shop.")
    with _checkpoint(out) as checkpoint, atomic_folder(out) as folder:
        chat = open_model(ModelOptions(name=model, dtype=config.dtype), device=config.device)
        if not chat.traits.two_layer_projector or not hasattr(chat.core.model, "multi_modal_projector"):
            raise PalateError(
                f"'{model}' ({chat.family}) has no projector to warm up", "Choose embedded or embedded-small."
            )
        rng = np.random.default_rng(seed)
        fields = caption_fields(dataset.catalogue, caption_config)
        items = Items.of(dataset.catalogue, fields=fields)
        captions = _captions(items, caption_config, config.max_items, rng)
        rendered, prompt = question(chat)
        data = _encode_pictures(chat, rendered, captions, items)
        held_out = max(4, round(config.held_out * len(data)))
        order = rng.permutation(len(data))
        valid, test, train = order[: held_out // 2], order[held_out // 2 : held_out], order[held_out:]
        if not len(train):
            raise PalateError("every item is held out, none is left to learn from", "Lower trainer.held_out.")
        facts: dict[str, Any] = {
            "base": {"name": model, "fingerprint": chat.fingerprint},
            "seed": seed,
            "options": {"caption": caption_config.model_dump(), "trainer": config.model_dump()},
            "fields": fields,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        }
        training = ProjectorTraining(chat, prompt, data, config, seed)
        training.start(train, learnt=model not in RAW_MODELS)
        before = training.compare(test)
        rows = training.run(train, valid, checkpoint, digest(json.dumps(facts, sort_keys=True)))
        place = dataset_path or dataset.folder
        facts["dataset"]["path"] = None if place is None else recorded(place)
        facts |= {
            "items": {"learnt": len(train), "choosing": len(valid), "telling": len(test)},
            "telling_items": [items.ids[item] for item in np.array(list(captions))[test].tolist()],
            "example": " ".join(next(iter(captions.values())).values()),
            "held_out": {"before": before, "after": training.compare(test)},
            "epochs": rows,
            "seconds": round(time.perf_counter() - started, 1),
            "environment": environment(),
        }
        training.finish()
        chat.core.to(torch.bfloat16).save_pretrained(folder)
        chat.processor.save_pretrained(folder)
        write_json(folder / FACTS, facts)
    return facts


@contextmanager
def _checkpoint(out: Path) -> Iterator[Path]:
    """The checkpoint file, locked for this process; it stays if the block is interrupted after the first one."""
    folder = out.with_name(f".{out.name}.warm-up")
    file = folder / "checkpoint.pt"
    with alone(folder, f"another process is warming up {out}", "Wait for it, or choose another --out."):
        try:
            yield file
        finally:
            if out.exists() or not file.exists():
                remove(folder)


def _captions(items: Items, config: CaptionConfig, most: int, rng: np.random.Generator) -> dict[int, dict[str, str]]:
    """Captions by item, of at most ``most`` items with pictures, in a seeded order."""
    made: dict[int, dict[str, str]] = {}
    order = rng.permutation(len(items)) + 1
    for item in track(order.tolist(), "Captions"):
        picture = items.picture(item)
        if picture is not None:
            made[item] = caption(items, item, picture, config)
        if len(made) == most:
            break
    if len(made) < LEAST_ITEMS:
        raise PalateError(
            f"the dataset has {len(made)} items with a picture, too few to learn from",
            "Prepare it with pictures (column 'image'), or do without a warm-up.",
        )
    return made


def _encode_pictures(
    chat: ChatModel, rendered: str, captions: dict[int, dict[str, str]], items: Items
) -> CaptionedFeatures:
    """Every picture through the frozen image encoder, once."""
    features = []
    with projector_inputs(chat) as encode:
        for item in track(captions, "Pictures", total=len(captions)):
            picture = items.picture(item)
            assert isinstance(picture, Picture)
            features.append(encode(picture.open(chat.longest)))
    return CaptionedFeatures(
        torch.stack(features), [answer_parts(chat, rendered, parts) for parts in captions.values()]
    )
