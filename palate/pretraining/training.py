"""Pretraining: an adapter and a projector learn to see, write and recommend, on worlds drawn for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palate.errors import PalateError
from palate.mllm.finetune.config import LoraConfig
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.trainer import hushed
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.embedded import RAW_MODELS
from palate.mllm.warmup.training import Standardised
from palate.pretraining import tasks
from palate.pretraining.catalogues import draw_word_world
from palate.pretraining.config import PretrainConfig, WorldsConfig
from palate.pretraining.examine import Examination
from palate.pretraining.features import kept_features
from palate.pretraining.rows import Row, RowModel
from palate.pretraining.seen_world import SeenWorld
from palate.pretraining.shops import draw_shop_world
from palate.progress import track
from palate.runs.log import RunLog, peak_memory_mb
from palate.storage.files import atomic_file, digest

_LEAST_RATE = 0.05  # share of the peak learning rate at the end
_DRAW = {"see": tasks.see, "write": tasks.write, "match": tasks.match, "recommend": tasks.recommend}
# Worlds are drawn when they are needed, and more of them the longer training lasts: it begins at once.
_AT_FIRST, _STEPS_PER_WORLD = 4, 6
_FEW = 16  # worlds whose features standardise the projector's input at most


class Worlds:
    """The worlds of a training, drawn when they are needed; features of pictures are kept in a folder.

    Args:
        folder: of the features: nothing is lost with it but time.
    """

    def __init__(self, chat: ChatModel, config: WorldsConfig, folder: Path) -> None:
        self.chat, self.config, self.folder = chat, config, folder
        self.shop = lru_cache(maxsize=None)(self._shop)
        self.catalogue = lru_cache(maxsize=None)(self._catalogue)

    def _shop(self, number: int) -> SeenWorld:
        config, seed = self.config, self.config.first_seed + number
        kept = (self.folder / f"shop {seed}.safetensors").is_file()
        world = draw_shop_world(seed, items=config.items, people=config.people, pictures=0 if kept else 112)
        return SeenWorld(world, kept_features(self.chat, world, self.folder))

    def _catalogue(self, number: int) -> SeenWorld:
        config = self.config
        world = draw_word_world(config.first_seed + number, items=config.items, people=config.people)
        return SeenWorld(world, None)

    def of_step(self, step: int, task: str, rng: np.random.Generator) -> SeenWorld:
        """A world for a row: a shop, or for what needs no picture one in words as well."""
        known = _AT_FIRST + step // _STEPS_PER_WORLD
        shops = min(self.config.shops, known)
        catalogues = min(self.config.catalogues, known)
        number = int(rng.integers(shops))
        in_words = task != "see" and catalogues > 0 and rng.random() < (0.5 if task == "write" else 0.25)
        return self.catalogue(int(rng.integers(catalogues))) if in_words else self.shop(number)


class Pretraining:
    """The model, its adapter and projector, and all that a checkpoint holds.

    Args:
        chat: the model as it is; its language model gets the adapter.
        folder: of the run.
    """

    def __init__(self, chat: ChatModel, config: PretrainConfig, seed: int, folder: Path) -> None:
        from peft import get_peft_model

        self.chat, self.config, self.seed, self.folder = chat, config, seed, folder
        trainer = config.trainer
        self.worlds = Worlds(chat, config.worlds, folder / "features")
        features = self.worlds.shop(0).features
        assert features is not None
        torch.manual_seed(seed)
        chat.core.requires_grad_(False)
        lora = LoraConfig(r=trainer.r, alpha=trainer.alpha, dropout=0.0)
        adapter = peft_config(chat, lora)
        raw = config.model in RAW_MODELS
        self.projector = Standardised(chat.core.model.multi_modal_projector, features[1:], learnt=not raw)
        if raw:
            scale_output(self.projector, features[1:], chat.core.get_input_embeddings().weight)
        self.projector.requires_grad_(True)
        with hushed():
            self.peft = get_peft_model(chat.core, adapter)
        chat.model = self.peft
        self.adapter = [value for value in self.peft.parameters() if value.requires_grad]
        self.moving = [*self.adapter, *self.projector.inner.parameters()]
        self.averaged = [value.detach().clone() for value in self.moving]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.adapter, "lr": trainer.learning_rate},
                {"params": list(self.projector.inner.parameters()), "lr": trainer.projector_learning_rate},
            ],
            weight_decay=trainer.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: rate(step, trainer.steps, trainer.warmup_ratio)
        )
        self.model = RowModel(chat, self.projector)
        self.rows: list[dict[str, Any]] = []
        self.step, self.tokens, self.seconds = 0, 0, 0.0

    def row(self, step: int, number: int) -> tuple[Row, Tensor | None]:
        """Row ``number`` of a step, and the features of its world: the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, 0x726F77, step, number])
        shares = self.config.tasks.model_dump()
        total = sum(shares.values())
        task = str(rng.choice(list(shares), p=[share / total for share in shares.values()]))
        world = self.worlds.of_step(step, task, rng)
        return _DRAW[task](world, rng), world.features

    def learn(self) -> dict[str, list[float]]:
        """One step of the optimiser; losses by name."""
        count = self.config.trainer.rows
        found: dict[str, list[float]] = {}
        for number in range(count):
            losses = self.model.losses(*self.row(self.step, number))
            self.tokens += losses.tokens
            (losses.total / count).backward()  # type: ignore[no-untyped-call]
            for name, value in losses.named.items():
                found.setdefault(name, []).append(value)
        norm = torch.nn.utils.clip_grad_norm_(self.moving, self.config.trainer.clip_norm)
        if not torch.isfinite(norm):
            raise PalateError(f"the gradient is no number any more at step {self.step}", "Lower trainer.learning_rate.")
        self.optimiser.step()
        self.schedule.step()
        self.optimiser.zero_grad()
        self.step += 1
        decay = min(self.config.trainer.average, self.step / (self.step + 10))
        torch._foreach_lerp_(self.averaged, [value.detach() for value in self.moving], 1 - decay)
        found["norm"] = [float(norm)]
        return found

    def swap(self) -> None:
        """Put the averaged weights in the place of those that are trained; again puts them back."""
        with torch.no_grad():
            for value, average in zip(self.moving, self.averaged, strict=True):
                kept = value.clone()
                value.copy_(average)
                average.copy_(kept)

    def save_checkpoint(self, identity: str) -> None:
        state = {
            "identity": identity,
            "step": self.step,
            "rows": self.rows,
            "seconds": self.seconds,
            "tokens": self.tokens,
            "moving": [value.detach() for value in self.moving],
            "averaged": self.averaged,
            "standard": {"mean": self.projector.mean, "spread": self.projector.spread},
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        with atomic_file(self.folder / "checkpoint.pt") as part:
            torch.save(state, part)

    def begin_with(self, checkpoint: Path) -> None:
        """Take the averaged weights of another run for the first ones; of a deeper model, those of its first layers.

        Raises:
            PalateError: they are of another model or rank.
        """
        state = torch.load(checkpoint, weights_only=True)
        weights: list[Tensor] = state["averaged"]
        weights = weights[: len(self.adapter)] + weights[len(self.adapter) - len(self.moving) :]
        if [value.shape for value in weights] != [value.shape for value in self.moving]:
            raise PalateError(f"{checkpoint} is of another model, or of another rank", "Use the options of its run.")
        self._take(state, weights)
        self.averaged = [value.clone() for value in weights]

    def _take(self, state: dict[str, Any], weights: list[Tensor]) -> None:
        with torch.no_grad():
            for value, kept in zip(self.moving, weights, strict=True):
                value.copy_(kept)
        self.projector.mean.copy_(state["standard"]["mean"])
        self.projector.spread.copy_(state["standard"]["spread"])

    def load_checkpoint(self, identity: str) -> bool:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            PalateError: it is of another training.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return False
        state = torch.load(path, weights_only=True)
        if state["identity"] != identity:
            raise PalateError(f"{self.folder} holds another pretraining", "Choose another --out, or the same options.")
        self._take(state, state["moving"])
        self.averaged = state["averaged"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.rows = state["step"], state["rows"]
        self.seconds, self.tokens = state["seconds"], state["tokens"]
        return True

    def run(self, identity: str, on_row: Callable[[dict[str, Any]], None] | None = None) -> None:
        """Train to the last step, with measurements and checkpoints on the way."""
        trainer = self.config.trainer
        examination = Examination(self.chat, self.config.worlds, self.folder / "features")
        log = RunLog(self.folder, self.rows, tensorboard=False)
        began = saved = time.monotonic()
        losses: dict[str, list[float]] = {}
        for _ in track(range(self.step, trainer.steps), "Pretraining, steps", trainer.steps, done=self.step):
            for name, values in self.learn().items():
                losses.setdefault(name, []).extend(values)
            if self.step % trainer.validate_every == 0 or self.step == trainer.steps:
                self.swap()
                self.seconds += time.monotonic() - began
                row = {
                    "step": self.step,
                    **{name: round(float(np.mean(values)), 4) for name, values in losses.items()},
                    **examination.quick(self.model),
                    "seconds": round(self.seconds, 1),
                    "peak_memory_mb": round(peak_memory_mb(self.chat.device), 1),
                }
                self.swap()
                losses, began = {}, time.monotonic()
                log.add(row)
                if on_row is not None:
                    on_row(row)
            if time.monotonic() - saved > 60 * trainer.checkpoint_minutes or self.step == trainer.steps:
                self.seconds += time.monotonic() - began
                self.save_checkpoint(identity)
                began = saved = time.monotonic()
        log.close()


@torch.no_grad()
def scale_output(projector: Standardised, features: Tensor, embeddings: Tensor) -> None:
    """Make what a fresh projector gives as large as the embeddings of words are.

    Args:
        features: of some pictures, ``[pictures, places, width]``.
        embeddings: ``[words, dim]``.
    """
    ratio = embeddings.float().square().mean().sqrt() / projector(features.float()).square().mean().sqrt()
    projector.inner.linear_2.weight.mul_(ratio)
    projector.inner.linear_2.bias.mul_(ratio)


def rate(step: int, steps: int, warmup_ratio: float) -> float:
    """Share of the peak learning rate at a step: it rises, then falls as a cosine to a twentieth.

    >>> [round(rate(step, 100, 0.1), 2) for step in (0, 9, 10, 55, 100)]
    [0.1, 1.0, 1.0, 0.53, 0.05]
    """
    rise = max(1, round(warmup_ratio * steps))
    if step < rise:
        return (step + 1) / rise
    part = (step - rise) / max(1, steps - rise)
    return _LEAST_RATE + (1 - _LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(part, 1)))


def checkpoint_of(folder: Path | str) -> Path:
    """The checkpoint of a run.

    Raises:
        PalateError: it has none.
    """
    path = Path(folder) / "checkpoint.pt"
    if not path.is_file():
        raise PalateError(f"{folder} has no checkpoint of a pretraining", "Name the --out of an earlier run.")
    return path


def identity_of(chat: ChatModel, config: PretrainConfig, seed: int) -> str:
    """What decides the result; a checkpoint of another identity is refused."""
    return digest(chat.fingerprint, config.model_dump_json(), str(seed))
