"""Warm-up: the projector of a LLaVA model learns to caption the catalogue's own pictures, all else stays as it is.

The first stage of LLaVA's training (Liu et al. 2023, arXiv 2304.08485, section 4.2), on the catalogue at hand. The
tower is frozen, so every picture is looked at once. Items that were held out tell whether the model looks: their
captions must be likelier with their own pictures than with others'.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sized
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.config import Config
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.files import atomic_folder, write_json
from palate.mllm.captions import CaptionConfig, answer_parts, caption, caption_fields, question
from palate.mllm.chat import Picture
from palate.mllm.eyes import FAMILIES
from palate.mllm.items import Items
from palate.mllm.loading import open_model
from palate.mllm.model import IGNORED, ChatModel, padded
from palate.mllm.projector import Standardised
from palate.progress import track
from palate.runs import environment

FACTS = "warm-up.json"
_LEAST = 10  # items with pictures: fewer can neither be learnt from nor held out


class WarmUpConfig(Config):
    """How the projector is trained (``--set trainer.KEY=VALUE``).

    Attributes:
        epochs: passes over the items.
        steps: stop after so many steps, whatever the epochs say.
        batch_size: items a step.
        learning_rate: of AdamW, at its peak: it rises over the first twentieth of the steps, then falls as a cosine.
        weight_decay: of AdamW.
        clip_norm: largest norm of the gradient; 0 is off.
        held_out: share of the items that are not learnt from: half of them choose the epoch, half tell the result.
        max_items: a seeded sample of at most so many items.
        device: auto, cpu, cuda ...
        dtype: of the frozen weights: auto, float32, bfloat16. The projector itself trains in float32.
    """

    epochs: int = Field(6, ge=1)
    steps: int | None = Field(None, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, ge=0)
    held_out: float = Field(0.2, gt=0, lt=1)
    max_items: int = Field(5000, ge=_LEAST)
    device: str = "auto"
    dtype: str = "auto"


@dataclass(frozen=True)
class Shown:
    """Items as the training sees them, one row each.

    Attributes:
        features: what the tower made of their pictures, ``[items, places, width]``, float16 on the CPU.
        answers: tokens of their captions, by part.
    """

    features: Tensor
    answers: list[dict[str, list[int]]]

    def __len__(self) -> int:
        return len(self.answers)


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

    Args:
        out: a new folder; ``open_model(out)`` loads it.
        model: ``embedded``, ``embedded-small``, or another model of the LLaVA family.

    Returns:
        The facts in ``warm-up.json``: options, data, losses by epoch, what held-out items say.

    Raises:
        PalateError: another family, too few pictures, a loss that is not finite.
    """
    config, says = config or WarmUpConfig(), caption_config or CaptionConfig()
    started = time.perf_counter()
    with atomic_folder(out) as folder:
        chat = open_model(model, device=config.device, dtype=config.dtype)
        if chat.family not in FAMILIES or not hasattr(chat.core.model, "multi_modal_projector"):
            raise PalateError(
                f"'{model}' ({chat.family}) has no projector to warm up", "Choose embedded or embedded-small."
            )
        rng = np.random.default_rng(seed)
        fields = caption_fields(dataset.catalogue, says)
        items = Items.of(dataset.catalogue, fields=fields)
        captions = _captions(items, says, config.max_items, rng)
        rendered, prompt = question(chat)
        shown = _look(chat, rendered, captions, items)
        out_of_it = max(4, round(config.held_out * len(shown)))
        order = rng.permutation(len(shown))
        chosen_by, told_by, train = order[: out_of_it // 2], order[out_of_it // 2 : out_of_it], order[out_of_it:]
        training = _Training(chat, prompt, shown, config, seed)
        training.start(train)
        before = training.compare(told_by)
        rows = training.run(train, chosen_by)
        after = training.compare(told_by)
        training.finish()
        chat.core.to(torch.bfloat16).save_pretrained(folder)
        chat.processor.save_pretrained(folder)
        facts = {
            "base": {"name": model, "fingerprint": chat.fingerprint},
            "seed": seed,
            "options": {"caption": says.model_dump(), "trainer": config.model_dump()},
            "fields": fields,
            "dataset": {
                "name": dataset.name,
                "path": str(Path(dataset_path).resolve()) if dataset_path else None,
                "fingerprint": dataset.fingerprint,
            },
            "items": {"learnt": len(train), "choosing": len(chosen_by), "telling": len(told_by)},
            "example": " ".join(next(iter(captions.values())).values()),
            "held_out": {"before": before, "after": after},
            "epochs": rows,
            "seconds": round(time.perf_counter() - started, 1),
            "environment": environment(),
        }
        write_json(folder / FACTS, facts)
    return facts


def _captions(items: Items, config: CaptionConfig, most: int, rng: np.random.Generator) -> dict[int, dict[str, str]]:
    """Captions by item, of items with pictures, of at most so many, in a seeded order."""
    made: dict[int, dict[str, str]] = {}
    order = rng.permutation(len(items)) + 1
    for item in track(order.tolist(), "captions"):
        picture = items.picture(item)
        if picture is not None:
            made[item] = caption(items, item, picture, config)
        if len(made) == most:
            break
    if len(made) < _LEAST:
        raise PalateError(
            f"the dataset has {len(made)} items with a picture, too few to learn from",
            "Prepare it with pictures (column 'image'), or do without a warm-up.",
        )
    return made


def _look(chat: ChatModel, rendered: str, captions: dict[int, dict[str, str]], items: Items) -> Shown:
    """Every picture through the frozen tower, once."""
    core = chat.core.model
    kept: dict[str, Tensor] = {}

    def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        kept["places"] = given[0].detach()

    hook = core.multi_modal_projector.register_forward_pre_hook(keep)
    features = []
    try:
        for item in track(captions, "pictures", total=len(captions)):
            picture = items.picture(item)
            assert isinstance(picture, Picture)
            pixels = chat.processor.image_processor(images=[picture.open(chat.longest)], return_tensors="pt")
            with torch.inference_mode():
                core.get_image_features(pixel_values=pixels["pixel_values"].to(chat.device, chat.core.dtype))
            features.append(kept["places"][0].to("cpu", torch.float16))
    finally:
        hook.remove()
    return Shown(torch.stack(features), [answer_parts(chat, rendered, parts) for parts in captions.values()])


class _Training:
    """The loop."""

    def __init__(self, chat: ChatModel, prompt: Tensor, shown: Shown, config: WarmUpConfig, seed: int) -> None:
        self.chat, self.prompt, self.shown, self.config = chat, prompt.to(chat.device), shown, config
        self.core = chat.core.model
        self.rng = np.random.default_rng([seed, 1])
        self.places = (prompt == chat.core.config.image_token_id).nonzero()[:, 0].to(chat.device)
        chat.core.requires_grad_(False)
        with torch.inference_mode(False), torch.no_grad():
            self.embedded = self.core.get_input_embeddings()(self.prompt).clone()  # [prompt, dim]

    def start(self, rows: np.ndarray[Any, Any]) -> None:
        """Standardise what goes into the projector, and make it trainable."""
        self.projector = Standardised(
            self.core.multi_modal_projector.float(), self.shown.features[torch.as_tensor(rows)]
        )
        self.projector.requires_grad_(True)

    def run(self, train: np.ndarray[Any, Any], chosen_by: np.ndarray[Any, Any]) -> list[dict[str, float]]:
        """Train; the projector of the best epoch by the loss of ``chosen_by`` is in place afterwards."""
        config = self.config
        per_epoch = math.ceil(len(train) / config.batch_size)
        total = min(config.epochs * per_epoch, config.steps or math.inf)
        optimiser = torch.optim.AdamW(
            self.projector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, int(total)))
        best = (math.inf, self.projector.weights())
        rows: list[dict[str, float]] = []
        losses: list[float] = []
        for step, batch in enumerate(track(self._batches(train, int(total)), "warm-up", total=int(total)), start=1):
            loss = torch.cat(self._losses(batch, batch)).mean()
            if not torch.isfinite(loss):
                raise PalateError(f"the loss became {loss.item()} at step {step}", "Lower --learning-rate.")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if config.clip_norm:
                nn.utils.clip_grad_norm_(self.projector.parameters(), config.clip_norm)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            if step % per_epoch == 0 or step == total:
                held_out = float(self._by_item(chosen_by, chosen_by)["all"].mean())
                rows.append({"step": step, "loss": round(float(np.mean(losses)), 4), "held_out": round(held_out, 4)})
                losses = []
                if held_out < best[0]:
                    best = (held_out, self.projector.weights())
        self.projector.load_state_dict(best[1])
        return rows

    def _batches(self, rows: np.ndarray[Any, Any], total: int) -> Iterator[np.ndarray[Any, Any]]:
        made = 0
        while True:
            order = self.rng.permutation(rows)
            for start in range(0, len(order), self.config.batch_size):
                if made == total:
                    return
                made += 1
                yield order[start : start + self.config.batch_size]

    def compare(self, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Loss a token of held-out captions with their own pictures and with each other's, and by part."""
        own = self._by_item(rows, rows)
        others = self._by_item(rows, np.roll(rows, 1))  # in a random order: nobody's own
        gap = others["all"] - own["all"]
        return {
            "own_picture": round(float(own["all"].mean()), 4),
            "other_picture": round(float(others["all"].mean()), 4),
            "gap": round(float(gap.mean()), 4),
            "gap_standard_error": round(float(gap.std(ddof=1) / math.sqrt(len(gap))), 4),
            "own_is_likelier": round(float((gap > 0).mean()), 4),
            "gap_by_part": {
                name: round(float(np.nanmean(others[name] - own[name])), 4) for name in own if name != "all"
            },
        }

    def _by_item(self, rows: np.ndarray[Any, Any], pictures: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Mean loss a token by item ``[rows]``: of the whole caption (``all``) and of its parts (nan: it has none)."""
        names = dict.fromkeys(name for row in rows for name in self.shown.answers[row])
        out = {name: np.full(len(rows), np.nan) for name in ("all", *names)}
        size = 2 * self.config.batch_size
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                for place, loss in enumerate(self._losses(batch, pictures[start : start + size]), start=start):
                    parts = self.shown.answers[rows[place]]
                    out["all"][place] = loss.mean().item()
                    for name, part in zip(parts, _split(loss, parts.values()), strict=True):
                        out[name][place] = part.mean().item()
        return out

    def _losses(self, rows: np.ndarray[Any, Any], pictures: np.ndarray[Any, Any]) -> list[Tensor]:
        """Loss of every token of the captions of ``rows`` with the pictures of others, or their own."""
        device, core = self.chat.device, self.core
        answers = [torch.tensor([*chain.from_iterable(self.shown.answers[row].values())]) for row in rows]
        labels = padded(answers, IGNORED, "right").to(device)  # [B, longest]
        visual = self.projector(self.shown.features[torch.as_tensor(pictures)].to(device).float())
        head = self.embedded.expand(len(rows), -1, -1).clone()  # [B, prompt, dim]
        head[:, self.places] = visual.to(head.dtype)
        tail = core.get_input_embeddings()(labels.clamp(min=0))
        mask = torch.cat([torch.ones(head.shape[:2], dtype=torch.long, device=device), (labels != IGNORED).long()], 1)
        hidden = core.language_model(
            inputs_embeds=torch.cat([head, tail], 1), attention_mask=mask, use_cache=False
        ).last_hidden_state
        # The state before a token predicts it; only answers go through the head, whose output is wide.
        spoken = hidden[:, head.shape[1] - 1 : -1][labels != IGNORED]
        logits = self.chat.core.lm_head(spoken).float()
        losses = nn.functional.cross_entropy(logits, labels[labels != IGNORED], reduction="none")
        return _split(losses, answers)

    def finish(self) -> None:
        """Put the trained projector back, as the model knows it."""
        self.core.multi_modal_projector = self.projector.folded()


def _split(losses: Tensor, parts: Collection[Sized]) -> list[Tensor]:
    """The losses of each part."""
    return list(torch.split(losses, [len(part) for part in parts]))


def _rate(step: int, total: int) -> float:
    """Share of the peak learning rate at a step."""
    rise = max(1, total // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
