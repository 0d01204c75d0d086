"""Training a projector to caption pictures, on the features of a frozen image encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sized
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from palate.config import Config
from palate.errors import PalateError
from palate.mllm.lm.chat_model import IGNORED, ChatModel, padded
from palate.progress import track
from palate.storage.files import atomic_file

LEAST_ITEMS = 10  # with pictures: fewer can neither be learnt from nor held out
CHECKPOINT_SECONDS = 60.0
# Channels that hardly ever move would be blown up into noise: their spread is taken to be this share of the mean one.
_FLOOR = 0.1


class WarmUpConfig(Config):
    """How the projector is trained (``--set trainer.KEY=VALUE``), by AdamW, in float32.

    The learning rate rises over the first twentieth of the steps, then falls as a cosine.
    """

    epochs: int = Field(6, ge=1, description="Passes over the items.")
    steps: int | None = Field(None, ge=1, description="Stop after this many steps, whatever the epochs are.")
    batch_size: int = Field(16, ge=1, description="Items per step.")
    learning_rate: float = Field(2e-3, gt=0, description="Learning rate at its peak.")
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of the gradient; 0 is off.")
    held_out: float = Field(
        0.2,
        gt=0,
        lt=1,
        description="Share of the items that are not learnt from: half of them choose the epoch, half measure the "
        "result.",
    )
    max_items: int = Field(5000, ge=LEAST_ITEMS, description="At most this many items, drawn by --seed.")
    device: str = Field("auto", description="auto, cpu or cuda.")
    dtype: str = Field("auto", description="Precision of the weights that stay.", examples=["{auto,float32,bfloat16}"])


@dataclass(frozen=True)
class CaptionedFeatures:
    """Items for training, one row each.

    Attributes:
        features: of their pictures, from the image encoder, ``[items, places, width]``, float16 on the CPU.
        answers: tokens of their captions, by part.
    """

    features: Tensor
    answers: list[dict[str, list[int]]]

    def __len__(self) -> int:
        return len(self.answers)


class Standardised(nn.Module):
    """A LLaVA projector behind ``(x - mean) / spread``, channel by channel.

    Channels of a tower have very different scales and are never negative; standardised, the first layer learns many
    times faster. The standardising is linear, so :meth:`folded` puts it into that layer's weights.

    Args:
        projector: with ``linear_1``, ``act``, ``linear_2``; a float32 copy of it is trained.
        features: what it will see, ``[items, places, width]``.
        learnt: whether the projector has learnt something: it is then the same function of features as before. A random
            one learns faster from weights that are alike for all channels.
    """

    def __init__(self, projector: Any, features: Tensor, *, learnt: bool) -> None:
        super().__init__()
        self.inner = deepcopy(projector).float()
        device = self.inner.linear_1.weight.device
        flat = features.float().flatten(0, 1)
        spread = flat.std(0)
        mean: Tensor = flat.mean(0)
        self.mean: Tensor
        self.spread: Tensor
        self.register_buffer("mean", mean.to(device))
        self.register_buffer("spread", spread.clamp(min=float(_FLOOR * spread.mean()) or 1.0).to(device))
        if learnt:
            self._take_up()

    def forward(self, features: Tensor) -> Tensor:
        """``[..., places, width]`` -> ``[..., places, dim]``."""
        out: Tensor = self.inner((features - self.mean) / self.spread)
        return out

    @torch.no_grad()
    def _take_up(self) -> None:
        """Undo the standardising in the first layer: the inverse of :meth:`folded`."""
        first = self.inner.linear_1
        first.bias.add_(first.weight @ self.mean)
        first.weight.mul_(self.spread)

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights as they are now."""
        return {name: value.clone() for name, value in self.state_dict().items()}

    def folded(self) -> Any:
        """The same function as a plain projector."""
        plain = deepcopy(self.inner)
        with torch.no_grad():
            plain.linear_1.weight.div_(self.spread)
            plain.linear_1.bias.sub_(plain.linear_1.weight @ self.mean)
        return plain


class ProjectorTraining:
    """Holds the model, with all but the projector frozen.

    Args:
        prompt: tokens of the question, ``[tokens]``, with the picture's placeholders.
        data: to learn from and to compare with; rows below are rows of it.
    """

    def __init__(
        self, chat: ChatModel, prompt: Tensor, data: CaptionedFeatures, config: WarmUpConfig, seed: int
    ) -> None:
        self.chat, self.prompt, self.data, self.config = chat, prompt.to(chat.device), data, config
        self.core = chat.core.model
        self.seed = seed
        self.places = (prompt == chat.core.config.image_token_id).nonzero()[:, 0].to(chat.device)
        chat.core.requires_grad_(False)
        with torch.inference_mode(False), torch.no_grad():
            self.embedded = self.core.get_input_embeddings()(self.prompt).clone()  # [prompt, dim]

    def start(self, rows: np.ndarray[Any, Any], *, learnt: bool) -> None:
        """Standardise what goes into the projector, and make it trainable.

        Args:
            learnt: whether the projector has learnt something, and goes on from there.
        """
        features = self.data.features[torch.as_tensor(rows)]
        self.projector = Standardised(self.core.multi_modal_projector.float(), features, learnt=learnt)
        self.projector.requires_grad_(True)

    def run(
        self, train: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], checkpoint: Path, identity: str
    ) -> list[dict[str, float]]:
        """Train; the projector of the best epoch by the loss of ``chosen_by`` is in place afterwards.

        Args:
            checkpoint: where the state is saved meanwhile; training continues from a state that is there.
            identity: of all that decides the result; a checkpoint of another one is overwritten.

        Returns:
            One row per epoch: step, loss, held-out loss.
        """
        config = self.config
        per_epoch = math.ceil(len(train) / config.batch_size)
        total = min(config.epochs * per_epoch, config.steps or config.epochs * per_epoch)
        optimiser = torch.optim.AdamW(
            self.projector.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, total))
        state: dict[str, Any] = {
            "step": 0,
            "best": math.inf,
            "kept": self.projector.weights(),
            "rows": [],
            "losses": [],
        }
        moving: dict[str, Any] = {"projector": self.projector, "optimiser": optimiser, "schedule": schedule}
        found = _read(checkpoint, identity)
        if found is not None:
            for name, part in moving.items():
                part.load_state_dict(found.pop(name))
            state |= found
        batches = self._batches(train, state["step"], total)
        saved = time.monotonic()
        for step, batch in enumerate(
            track(batches, "Warm-up, steps", total, done=state["step"]), start=state["step"] + 1
        ):
            loss = torch.cat(self._losses(batch, batch)).mean()
            if not torch.isfinite(loss):
                raise PalateError(f"the loss became {loss.item()} at step {step}", "Lower --learning-rate.")
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if config.clip_norm:
                nn.utils.clip_grad_norm_(self.projector.parameters(), config.clip_norm)
            optimiser.step()
            schedule.step()
            state["step"] = step
            state["losses"].append(loss.item())
            if step % per_epoch == 0 or step == total:
                held_out = float(self._by_item(valid, valid)["all"].mean())
                mean = float(np.mean(state["losses"]))
                state["rows"].append({"step": step, "loss": round(mean, 4), "held_out": round(held_out, 4)})
                state["losses"] = []
                if held_out < state["best"]:
                    state |= {"best": held_out, "kept": self.projector.weights()}
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                saved = time.monotonic()
                parts = {name: part.state_dict() for name, part in moving.items()}
                with atomic_file(checkpoint) as part_file:
                    torch.save({"identity": identity, **state, **parts}, part_file)
        self.projector.load_state_dict(state["kept"])
        rows: list[dict[str, float]] = state["rows"]
        return rows

    def _batches(self, rows: np.ndarray[Any, Any], done: int, total: int) -> Iterator[np.ndarray[Any, Any]]:
        """Batches number ``done`` to ``total``, the same wherever training begins."""
        size = self.config.batch_size
        per_epoch = math.ceil(len(rows) / size)
        for step in range(done, total):
            epoch, place = divmod(step, per_epoch)
            order = np.random.default_rng([self.seed, 1, epoch]).permutation(rows)
            yield order[place * size : (place + 1) * size]

    def compare(self, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Loss per token of held-out captions with their own pictures and with each other's, and by part."""
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
        """Mean loss per token by item ``[rows]``: of the whole caption (``all``) and of its parts (nan: none)."""
        names = dict.fromkeys(name for row in rows for name in self.data.answers[row])
        out = {name: np.full(len(rows), np.nan) for name in ("all", *names)}
        size = 2 * self.config.batch_size
        with torch.no_grad():
            for start in range(0, len(rows), size):
                batch = rows[start : start + size]
                for place, loss in enumerate(self._losses(batch, pictures[start : start + size]), start=start):
                    parts = self.data.answers[rows[place]]
                    out["all"][place] = loss.mean().item()
                    for name, part in zip(parts, _split(loss, parts.values()), strict=True):
                        out[name][place] = part.mean().item()
        return out

    def _losses(self, rows: np.ndarray[Any, Any], pictures: np.ndarray[Any, Any]) -> list[Tensor]:
        """Loss of every token of the captions of ``rows`` with the pictures of others, or their own."""
        device, core = self.chat.device, self.core
        answers = [torch.tensor([*chain.from_iterable(self.data.answers[row].values())]) for row in rows]
        labels = padded(answers, IGNORED, "right").to(device)  # [B, longest]
        visual = self.projector(self.data.features[torch.as_tensor(pictures)].to(device).float())
        head = self.embedded.expand(len(rows), -1, -1).clone()  # [B, prompt, dim]
        head[:, self.places] = visual.to(head.dtype)
        tail = core.get_input_embeddings()(labels.clamp(min=0))
        mask = torch.cat([torch.ones(head.shape[:2], dtype=torch.long, device=device), (labels != IGNORED).long()], 1)
        hidden = core.language_model(
            inputs_embeds=torch.cat([head, tail], 1), attention_mask=mask, use_cache=False
        ).last_hidden_state
        # The state before a token predicts it; only answers go through the head, whose output is wide.
        answered = hidden[:, head.shape[1] - 1 : -1][labels != IGNORED]
        logits = self.chat.core.lm_head(answered).float()
        losses = nn.functional.cross_entropy(logits, labels[labels != IGNORED], reduction="none")
        return _split(losses, answers)

    def finish(self) -> None:
        """Put the trained projector back, as the model knows it."""
        self.core.multi_modal_projector = self.projector.folded()


def _read(checkpoint: Path, identity: str) -> dict[str, Any] | None:
    """The state of an interrupted training, if it is one of the same."""
    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError):
        return None
    return state if isinstance(state, dict) and state.pop("identity", None) == identity else None


def _split(losses: Tensor, parts: Collection[Sized]) -> list[Tensor]:
    """The losses of each part."""
    return list(torch.split(losses, [len(part) for part in parts]))


def _rate(step: int, total: int) -> float:
    """Share of the peak learning rate at a step."""
    rise = max(1, total // 20)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, total - rise)))
