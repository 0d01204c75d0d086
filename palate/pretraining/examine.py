"""What a model can do on worlds that were never learnt from."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.prompter import PromptOptions
from palate.pretraining.config import WorldsConfig
from palate.pretraining.features import kept_features
from palate.pretraining.rows import RowModel
from palate.pretraining.seen_world import SeenWorld
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.tasks import match, recommend_at, see

# Far from the seeds of training.
FIRST_SEED = 1_000_000
SHOPS, CASES, OTHERS = 3, 8, 10  # new shops, people of each, items beside the one that was taken

_TEXTS: dict[str, Any] = {"fields": ("brand",), "item_text": "full", "history_text": "full"}
HOW = {
    "auc": PromptOptions(history_items=6, images="both", history_images=6, **_TEXTS),
    "auc_words": PromptOptions(history_items=6, **_TEXTS),
    "auc_blind": PromptOptions(blind=True, images="candidate", **_TEXTS),
}

SEEN = PromptOptions(history_items=6, images="both", history_images=6)


class Examination:
    """A quick examination of a model on a few new shops.

    Args:
        folder: where features of pictures are kept.
    """

    def __init__(self, chat: ChatModel, config: WorldsConfig, folder: Path) -> None:
        self.chat, self.config, self.folder = chat, config, folder

    @cached_property
    def shops(self) -> list[SeenWorld]:
        seeds = range(FIRST_SEED + 1, FIRST_SEED + 1 + SHOPS)
        worlds = [draw_shop_world(seed, items=self.config.items, people=self.config.people) for seed in seeds]
        return [SeenWorld(world, kept_features(self.chat, world, self.folder)) for world in worlds]

    def quick(self, model: RowModel) -> dict[str, float]:
        """How well the model does.

        Returns:
            ``auc``: of the last purchases of some people against items drawn at random; ``auc_blind``: without their
            histories; ``new_order`` (of :func:`~palate.pretraining.tasks.match`), ``new_order_seen`` (where nothing
            but pictures tells items apart) and ``new_see``: losses per question.
        """
        found: dict[str, list[float]] = {}
        for number, shop in enumerate(self.shops):
            for name in ("auc", "auc_blind"):
                found.setdefault(name, []).extend(self.areas(model, shop, HOW[name], CASES))
            rng = np.random.default_rng([FIRST_SEED, number])
            with torch.no_grad():
                for _ in range(4):
                    for name, row in (
                        ("order", match(shop, rng)),
                        ("order_seen", match(shop, rng, SEEN, titles=False)),
                    ):
                        found.setdefault(f"new_{name}", []).append(model.losses(row, shop.features).named["order"])
                losses = model.losses(see(shop, rng), shop.features)
                found.setdefault("new_see", []).append(losses.named["see"])
        return {name: round(float(np.mean(values)), 4) for name, values in found.items()}

    def areas(self, model: RowModel, world: SeenWorld, options: PromptOptions, cases: int) -> list[float]:
        """Area under the curve of each person's last purchase."""
        out = []
        with torch.no_grad():
            for number, person in enumerate(world.world.people[:cases]):
                rng = np.random.default_rng([FIRST_SEED, number])
                taken = set(person.history.tolist())
                free = [item for item in range(1, len(world.world.items) + 1) if item not in taken]
                others = rng.choice(free, OTHERS, replace=False).tolist()
                step = len(person.history) - 1
                row = recommend_at(world, person, step, options, rng, [int(person.history[step]), *others])
                odds = model.scores(row, world.features).numpy()
                out.append(float(np.mean((odds[0] > odds[1:]) + 0.5 * (odds[0] == odds[1:]))))
        return out
