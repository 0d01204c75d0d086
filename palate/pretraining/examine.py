"""What a model can do on worlds that were never learnt from."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.prompter import PromptOptions
from palate.pretraining.config import WorldsConfig
from palate.pretraining.features import kept_features
from palate.pretraining.rows import RowModel
from palate.pretraining.shops import draw_shop_world
from palate.pretraining.tasks import SeenWorld, recommend_at, see

# Far from the seeds of training.
FIRST_SEED = 1_000_000
CASES, OTHERS = 24, 10

HOW = {
    "auc": PromptOptions(
        history_items=6, images="both", history_images=6, fields=("brand",), item_text="full", history_text="full"
    ),
    "auc_words": PromptOptions(history_items=6, fields=("brand",), item_text="full", history_text="full"),
    "auc_blind": PromptOptions(blind=True, images="candidate", fields=("brand",), item_text="full"),
}


class Examination:
    """A quick examination of a model: one new shop, the last purchases of some people.

    Args:
        folder: where features of pictures are kept.
    """

    def __init__(self, chat: ChatModel, config: WorldsConfig, folder: Path) -> None:
        self.chat, self.config, self.folder = chat, config, folder

    @cached_property
    def shop(self) -> SeenWorld:
        world = draw_shop_world(FIRST_SEED, items=self.config.items, people=self.config.people)
        return SeenWorld(world, kept_features(self.chat, world, self.folder))

    def quick(self, model: RowModel) -> dict[str, float]:
        """AUC of the next purchase against items drawn at random, with pictures, without, and without the history."""
        out = {}
        for name, options in HOW.items():
            out[name] = round(
                float(np.mean(self.areas(model, self.shop, options, CASES if name == "auc" else CASES // 2))), 4
            )
        rng = np.random.default_rng(FIRST_SEED)
        out["seen"] = round(
            float(np.mean([model.losses(see(self.shop, rng), self.shop.features).named["see"] for _ in range(2)])), 4
        )
        return out

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
