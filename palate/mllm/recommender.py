"""The MLLM as a Recommender: a prompt has the user and a candidate, and the log-odds of the answer are the score.

Stage 3 of MLLM-MSR (arXiv 2408.09698): preference + candidate -> "yes" or "no". ``choose`` ranks lettered candidates in
one prompt instead.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from palate.config import Config
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import LETTERS, NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer
from palate.mllm.summaries.preferences import Preferences
from palate.recommender import Histories, Recommender, as_sequences
from palate.storage.files import read_json, write_json

_A_FEW = 4  # candidates of the prompt that the time of others is estimated from
REMEDY = "Make it again with `palate mllm sft` or `palate mllm zero-shot`."
MERGED = "merged"  # folder of a saved model with the adapters that belong into its weights
# Consent to code that a model brings along: this machine's, never the run's, which may come from elsewhere.
CONSENT = "PALATE_TRUST_REMOTE_CODE"


class BaseLM(ModelOptions):
    """The language model below the adapter.

    Who made the run agreed to ``trust_remote_code``; whoever loads it must agree again (:data:`CONSENT`).

    Attributes:
        fingerprint: of its weights; another model of the same name is refused.
    """

    fingerprint: str
    dtype: str = Field("float32", description="Precision of its weights, as they were in memory.")


class MLLMConfig(Config):
    """Options of a run of an MLLM.

    Attributes:
        base: the language model.
        prompt: what its prompts show.
        rotations: ``choose``: in how many rotations every list is shown; a candidate's score is the mean over them,
            which takes out the model's preference for a letter or a place. 1: one order only.
        rows: prompts that go through the model at a time.
    """

    base: BaseLM
    prompt: PromptOptions = Field(default_factory=PromptOptions)
    rotations: int = Field(default=1, ge=1)
    rows: int = Field(default=32, ge=1)


class MLLMRecommender(Recommender):
    """Scores candidates; the whole catalogue is left to a retriever (:mod:`palate.cascade.cascade`).

    Args:
        model: with its adapter, if it has one.
        preferences: written preferences of users, or None where the prompt shows none.
        merged: folders of the adapters that have become part of the model's weights, in their order.
    """

    name: ClassVar[str] = "mllm"
    Config: ClassVar[type[MLLMConfig]] = MLLMConfig
    whole_catalogue: ClassVar[bool] = False
    # Users per call in an evaluation: few, so that its progress moves.
    batch_size = 4

    def __init__(
        self,
        model: ChatModel,
        prompter: Prompter,
        preferences: Preferences | None,
        config: MLLMConfig,
        merged: Sequence[Path] = (),
    ) -> None:
        shown = config.prompt.summary != "none" and not config.prompt.blind
        if shown and preferences is None:
            raise PalateError(
                f"the prompt shows a {config.prompt.summary} summary of the user, and there are none",
                "Write them with `palate summarise users`, or use --summary none.",
            )
        self.model, self.prompter, self.config = model, prompter, config
        self.merged = tuple(merged)
        self.preferences = preferences if shown else None
        self.num_items = len(prompter.items)
        self.scorer = Scorer(model, rows=config.rows, remember=True)

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        """Log-odds of "yes" (``yes-no``) or mean log-probability of the candidate's letter (``choose``).

        Candidates of index 0 are padding and score ``-inf``.
        """
        rows = as_sequences(histories)
        if candidates is None:
            raise PalateError(
                f"the multimodal model cannot afford all {self.num_items:,} items for {len(rows):,} histories "
                f"({self._estimate(len(rows) * self.num_items)})",
                "Let a fast model propose (--retriever RUN0), or rank sampled candidates (--protocol sampled).",
            )
        out = torch.full(candidates.shape, -torch.inf)
        written = self.written(rows)
        for number, (history, preference) in enumerate(zip(rows, written, strict=True)):
            real = (candidates[number] > 0).nonzero()[:, 0]
            items = candidates[number][real].tolist()
            if items:
                ask = self._yes_no if self.config.prompt.task == "yes-no" else self._choose
                out[number, real] = ask(history.tolist(), items, preference)
        return out

    def written(self, rows: Sequences) -> Sequence[str | None]:
        """The summary of each history that its prompts show, or None where they show none."""
        return [None] * len(rows) if self.preferences is None else self.preferences.of(rows.to_lists())

    def set_data_folder(self, folder: Path) -> None:
        if self.preferences is not None:
            self.preferences.set_data_folder(folder)

    def check_ready(self, histories: Histories) -> None:
        """Look up all preferences that the prompts of these histories show.

        Raises:
            PalateError: how many are missing, and the command that writes them.
        """
        self.written(as_sequences(histories))

    def allow_generation(self) -> None:
        """Let histories without a preference get one from the model that wrote the others, if that ran in a process
        like this one; no request goes to a server."""
        preferences = self.preferences
        if preferences is not None and preferences.spec is not None:
            preferences.allow(partial(preferences.spec.open, str(self.model.device)))

    def _yes_no(self, history: list[int], items: list[int], preference: str | None) -> Tensor:
        chats = [self.prompter.yes_no(history, item, preference) for item in items]
        return self.scorer.log_odds(chats, YES, NO)

    def _choose(self, history: list[int], items: list[int], preference: str | None) -> Tensor:
        if len(items) > len(LETTERS):
            raise PalateError(
                f"'choose' has letters for {len(LETTERS)} candidates, not for {len(items)}",
                "Use a smaller --depth or fewer --negatives, or a run of the task yes-no.",
            )
        count, rotations = len(items), self.config.rotations
        shifts = sorted({round(part * count / rotations) % count for part in range(rotations)})
        orders = [[(place + shift) % len(items) for place in range(len(items))] for shift in shifts]
        chats = [self.prompter.choose(history, [items[place] for place in order], preference) for order in orders]
        by_letter = self.scorer.logits(chats, LETTERS[: len(items)]).log_softmax(dim=1)
        total = torch.zeros(len(items))
        for order, row in zip(orders, by_letter, strict=True):
            total[order] += row
        return total / len(orders)

    def forget_pictures(self) -> None:
        """Keep no features of pictures: training changes them."""
        self.scorer = Scorer(self.model, rows=self.config.rows)

    def cost(self) -> dict[str, float]:
        """The cost of scoring so far: prompts, tokens that went through the model, seconds."""
        scorer = self.scorer
        return {"prompts": scorer.prompts, "tokens": scorer.tokens, "seconds": round(scorer.seconds, 3)}

    def _estimate(self, prompts: int) -> str:
        """How long that many prompts would take, from those scored so far or from one small prompt."""
        if self.config.prompt.task == "yes-no" and self.scorer.prompts:
            each = self.scorer.seconds / self.scorer.prompts
        else:
            items = list(range(1, min(_A_FEW, self.num_items) + 1))
            began = time.perf_counter()
            if self.config.prompt.task == "yes-no":
                items = items[:1]
                self._yes_no([], items, None)
            else:
                self._choose([], items, None)
            each = (time.perf_counter() - began) / len(items)
        seconds = prompts * each
        for unit, size in (("hours", 3600), ("minutes", 60)):
            if seconds >= size / 10:
                return f"about {seconds / size:,.1f} {unit} here"
        return f"about {seconds:.2g} seconds here"

    def describe(self) -> dict[str, Any]:
        config = self.config
        return {
            "name": self.name,
            "num_items": self.num_items,
            "base": config.base.name,
            "task": config.prompt.task,
            "summary": config.prompt.summary,
            "images": config.prompt.images,
            "adapter": hasattr(self.model.model, "peft_config"),
            "parameters": int(sum(one.numel() for one in self.model.core.parameters())),
        }

    def save(self, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
        """Adapter, prompts, item texts, summaries: everything but the base model and the pictures.

        Args:
            weights: of the adapter, where they are sharded.
        """
        write_json(
            folder / "config.json",
            {"name": self.name, "num_items": self.num_items, "config": self.config.model_dump(mode="json")},
        )
        self.prompter.items.save(folder)
        (folder / "prompts").mkdir()
        self.prompter.templates.save(folder / "prompts")
        if self.preferences is not None:
            self.preferences.save(folder)
        for number, adapter in enumerate(self.merged):
            shutil.copytree(adapter, folder / MERGED / str(number))
        if hasattr(self.model.model, "peft_config"):
            own = {} if weights is None else {"state_dict": dict(weights)}
            self.model.model.save_pretrained(folder / "adapter", safe_serialization=True, **own)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        config = read_config(folder)
        check_consent(folder, config)
        items = Items.load(folder)
        templates = Templates.load(folder / "prompts")
        written = config.prompt.summary != "none" and not config.prompt.blind
        preferences = Preferences.load(folder, items) if written else None
        model = open_saved(folder, config, device)
        merged = merged_adapters(folder)
        return cls(model, Prompter(items, config.prompt, templates), preferences, config, merged)


def merged_adapters(folder: Path) -> list[Path]:
    """Adapters of a saved model that belong into its weights, in their order."""
    found = (folder / MERGED).iterdir() if (folder / MERGED).is_dir() else ()
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))


def open_saved(folder: Path, config: MLLMConfig, device: str = "cpu") -> ChatModel:
    """The language model of a saved model, with its adapters, without its prompts.

    Raises:
        PalateError: it needs to run code without consent on this machine, or is not the one that the run was made with.
    """
    check_consent(folder, config)
    base = config.base
    model = open_model(
        base,
        device=device,
        adapter=folder / "adapter" if (folder / "adapter").is_dir() else None,
        merged=merged_adapters(folder),
    )
    if model.fingerprint != base.fingerprint:
        raise PalateError(
            f"'{base.name}' is another model than the one that {folder} was made with "
            f"({model.fingerprint} instead of {base.fingerprint})",
            "Bring the old model back, or make the run again with the new one.",
        )
    return model


def check_consent(folder: Path, config: MLLMConfig) -> None:
    """A run is data, and data cannot agree to run code; this machine's owner can."""
    if config.base.trust_remote_code and os.environ.get(CONSENT) != "1":
        raise PalateError(
            f"the run in {folder} wants to run code that the model '{config.base.name}' brings along",
            f"Read that code first. If you trust it, set {CONSENT}=1 in the environment of this machine.",
        )


def read_config(folder: Path) -> MLLMConfig:
    """The options of a saved model, without loading it."""
    facts = read_json(folder / "config.json")
    if not isinstance(facts, dict) or facts.get("name") != MLLMRecommender.name:
        raise PalateError(f"{folder} holds no multimodal model", REMEDY)
    return MLLMConfig.parse(facts.get("config", {}), where=str(folder / "config.json"))
