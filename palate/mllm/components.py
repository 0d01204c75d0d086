"""A language model, its prompts and the summaries that they show, opened together and checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import LETTERS, NO, YES, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.recommender import BaseLM, MLLMConfig, MLLMRecommender
from palate.mllm.scoring.scorer import Scorer
from palate.mllm.summaries.items import ItemSummaries
from palate.mllm.summaries.preferences import Preferences
from palate.mllm.summaries.store import store_folder
from palate.storage.remote import recorded

# Share of the items that could be described and are not, at most: some failures are nothing unusual.
_UNDESCRIBED = 0.1


@dataclass(frozen=True)
class PromptedModel:
    """A language model with its prompts: the parts of a recommender.

    Attributes:
        model: the language model.
        prompter: its prompts.
        preferences: of users, where the prompt shows them.
        config: all of it, as it is stored in a run.
        facts: for ``run.json``.
    """

    model: ChatModel
    prompter: Prompter
    preferences: Preferences | None
    config: MLLMConfig
    facts: dict[str, Any]

    def recommender(self) -> MLLMRecommender:
        return MLLMRecommender(self.model, self.prompter, self.preferences, self.config)


def load_components(
    dataset: Dataset,
    model: ModelOptions,
    prompt: PromptOptions,
    *,
    device: str = "cpu",
    runs_on: str | None = None,
    prompts: Path | None = None,
    dataset_path: Path | str | None = None,
    summaries: str | None = None,
    item_summaries: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> PromptedModel:
    """Open everything; what is quickly refused is refused before the model is loaded.

    Args:
        device, runs_on: see :func:`palate.mllm.lm.loading.open_model`.
        prompts: folder of a user's own templates.
        dataset_path: where summaries are stored; by default the folder that the dataset was read from.
        summaries: name of the store of user summaries, for prompts that show one.
        item_summaries: name of the store of item summaries that prompts show.
        settings: more of :class:`~palate.mllm.recommender.MLLMConfig`: rotations, rows.

    Raises:
        PalateError: options that do not go together, summaries that are not there, no such model, or prompts with
            pictures for a model that takes none.
    """
    parts = open_prompts(
        dataset,
        prompt,
        prompts=prompts,
        dataset_path=dataset_path,
        summaries=summaries,
        item_summaries=item_summaries,
    )
    prompt = parts.options
    chat = open_model(model, device=device, runs_on=runs_on)
    if prompt.images != "none" and not chat.takes_pictures:
        raise PalateError(
            f"the prompt shows pictures, and '{model.name}' ({chat.family}) is read as a text model, which takes none",
            "Use --images none, or choose an image-text-to-text model (docs/mllm-models.md).",
        )
    _score_two(chat, prompt)
    opened = model.model_copy(
        update={
            # A folder is found again from wherever the run is used.
            "name": recorded(model.name) if Path(model.name).is_dir() else model.name,
            "dtype": str(chat.core.dtype).removeprefix("torch."),
        }
    )
    base = BaseLM(**opened.model_dump(), fingerprint=chat.fingerprint)
    config = MLLMConfig.parse({"base": base, "prompt": prompt, **(settings or {})}, where="settings [scoring]")
    facts = {
        "prompts": {
            name: parts.templates.fingerprint(name)
            for name in ((f"{prompt.task}-blind",) if prompt.blind else (prompt.task,))
        },
        "items": parts.items.fingerprint,
        "summaries": None if parts.preferences is None else summaries,
        "item_summaries": item_summaries,
    }
    return PromptedModel(chat, Prompter(parts.items, prompt, parts.templates), parts.preferences, config, facts)


@dataclass(frozen=True)
class PromptParts:
    """What prompts are made of, whatever model reads them.

    Attributes:
        options: as they were chosen, with what follows from the stores that were named.
        templates: the texts around what is shown.
        items: the texts of items.
        preferences: of users, where the prompt shows them.
    """

    options: PromptOptions
    templates: Templates
    items: Items
    preferences: Preferences | None


def open_prompts(
    dataset: Dataset,
    prompt: PromptOptions,
    *,
    prompts: Path | None = None,
    dataset_path: Path | str | None = None,
    summaries: str | None = None,
    item_summaries: str | None = None,
) -> PromptParts:
    """The parts of prompts, with all that can be refused without the model.

    Args:
        prompts, dataset_path, summaries, item_summaries: of :func:`load_components`.

    Raises:
        PalateError: options that do not go together, summaries or pictures that are not there.
    """
    _check_blind(prompt, summaries)
    for option in ("item_summaries", "history_summaries"):
        if getattr(prompt, option) and item_summaries is None:
            raise PalateError(
                f"prompt.{option} is set, and no store of item summaries is named",
                "Give --item-summaries NAME (`palate summarise items --name`)"
                + (" instead." if option == "item_summaries" else " as well."),
            )
    templates = Templates.load(prompts)
    folder = _summaries_folder(dataset_path or dataset.folder, summaries or item_summaries)
    preferences = _preferences(dataset, prompt, folder, summaries, templates)
    items = _items(dataset, prompt, preferences, folder, summaries, item_summaries)
    options = prompt.model_copy(update={"item_summaries": item_summaries is not None})
    if not options.shows_candidates:
        raise PalateError(
            "item_text is none, and neither pictures nor summaries of candidates are shown",
            "Give --images candidate or --item-summaries NAME, or another --item-text.",
        )
    if item_summaries is not None:
        _check_described(items, dataset.catalogue.frame["image"].to_list(), item_summaries)
    if options.images != "none" and dataset.catalogue.frame["image"].null_count() == len(dataset.catalogue):
        raise PalateError("the prompt shows pictures, and the catalogue has none", "Use --images none.")
    return PromptParts(options, templates, items, preferences)


def _score_two(model: ChatModel, prompt: PromptOptions) -> None:
    """Score two small prompts: a model that fails at that fails before there is a run."""
    blank, question = Picture(None), "Answer in one word."
    pictures = {"none": 0, "candidate": 1}.get(prompt.images, 2)
    answers = (YES, NO) if prompt.task == "yes-no" else LETTERS[:2]
    chats = [Chat((question,)), Chat((*[blank] * pictures, question))]
    Scorer(model, reuse=False).logits(chats, answers)


def _check_blind(prompt: PromptOptions, summaries: str | None) -> None:
    """Refuse the control with options of the history, of which it shows nothing."""
    if not prompt.blind:
        return
    remedies = {
        "--summary": (prompt.summary != "none", "use --summary none"),
        "--summaries": (summaries is not None, "leave it out"),
        "--history-items": (prompt.history_items is not None, "leave it out"),
        "--history-text": (prompt.history_text != "title", "use --history-text title"),
        "prompt.history_summaries": (prompt.history_summaries, "leave it out"),
        f"--images {prompt.images}": (
            prompt.images in ("history", "both"),
            f"use --images {'candidate' if prompt.images == 'both' else 'none'}",
        ),
    }
    for option, (conflicts, remedy) in remedies.items():
        if conflicts:
            raise PalateError(f"--blind shows nothing of the user, and {option} is given", f"With --blind, {remedy}.")


def _check_described(items: Items, pictures: Sequence[str | None], name: str) -> None:
    """Refuse summaries of some items only: a candidate that has one would be known to be what somebody took.

    Items that cannot be described, without a picture where pictures are, do not count; nor do a few failures.
    """
    described = {item for item in range(1, len(items) + 1) if items.summary(item)}
    pictured = {item for item, picture in enumerate(pictures, 1) if picture}
    could_be = pictured if described <= pictured else set(range(1, len(items) + 1))
    if len(could_be - described) > _UNDESCRIBED * len(could_be):
        raise PalateError(
            f"{len(could_be - described):,} of {len(could_be):,} items that could be described have no summary in "
            f"'{name}': a candidate that has one would be known by it",
            "Run `palate summarise items` for all of them, without --users and --limit.",
        )


def _summaries_folder(dataset_path: Path | str | None, name: str | None) -> Path:
    if dataset_path is None and name is not None:
        raise PalateError(
            f"summaries '{name}' are stored in a dataset's folder, and there is none", "Give the dataset's path."
        )
    return Path(dataset_path or ".")


def _preferences(
    dataset: Dataset, prompt: PromptOptions, folder: Path, name: str | None, templates: Templates
) -> Preferences | None:
    shown = prompt.summary != "none" and not prompt.blind
    if shown and name is None:
        raise PalateError(
            f"the prompt shows a {prompt.summary} summary of the user, and no store is named",
            "Write one with `palate summarise users`, and give its name as --summaries.",
        )
    if name is None or prompt.blind:
        return None
    if not shown:
        raise PalateError(
            "--summaries is given, and the prompt shows no summary", "Give --summary recurrent or direct."
        )
    preferences = Preferences.open(folder, name, dataset.catalogue, templates)
    if preferences.options.strategy != prompt.summary:
        raise PalateError(
            f"the summaries '{name}' are {preferences.options.strategy}, not {prompt.summary}",
            f"Use --summary {preferences.options.strategy}, or name another store.",
        )
    return preferences


def _items(
    dataset: Dataset,
    prompt: PromptOptions,
    preferences: Preferences | None,
    folder: Path,
    name: str | None,
    item_summaries: str | None,
) -> Items:
    """The item texts of prompts: with preferences, exactly those that these were written from."""
    if preferences is None:
        written = ItemSummaries.load(store_folder(folder, "items", item_summaries)) if item_summaries else None
        return Items.of(dataset.catalogue, written, prompt.fields)
    if prompt.fields is not None and prompt.fields != preferences.options.fields:
        read = ",".join(preferences.options.fields or ()) or "all text"
        raise PalateError(
            f"the preferences '{name}' were written from {read} of the items, not from {','.join(prompt.fields)}",
            "Leave --fields out: prompts then show what the preferences were written from.",
        )
    shown = preferences.made.get("item_summaries")
    if item_summaries is not None and item_summaries != shown:
        raise PalateError(
            f"the preferences '{name}' were written with "
            + (f"the item summaries '{shown}'" if shown else "no item summaries")
            + f", not with '{item_summaries}'",
            "Name the same store, or leave --item-summaries out.",
        )
    return preferences.items
