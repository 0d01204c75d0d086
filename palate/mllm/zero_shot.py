"""A language model as a recommender as it comes: the same prompts and scores, without an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.config import Config
from palate.data.dataset import Dataset
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.files import atomic_folder
from palate.lock import one_writer
from palate.mllm.opened import ModelOptions, open_parts
from palate.mllm.prompter import PromptOptions
from palate.runs import Run


def zero_shot(
    dataset: Dataset,
    *,
    out: Path | str,
    settings: Mapping[str, Mapping[str, Any]],
    seed: int = 0,
    device: str = "auto",
    dataset_path: Path | str | None = None,
    prompts: Path | None = None,
    summaries: str | None = None,
    item_summaries: str | None = None,
) -> Run:
    """A run of a model that has learnt nothing from the dataset; nothing is computed here but its description.

    Args:
        settings: by section: ``model`` (``name`` is required), ``prompt``, ``scoring``.

    The other arguments are those of :func:`palate.mllm.sft.fine_tune`.

    Raises:
        PalateError: settings, summaries, a model or a run folder that do not fit.
    """
    known: dict[str, type[Config]] = {"model": ModelOptions, "prompt": PromptOptions}
    for section in settings:
        if section not in (*known, "scoring"):
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, [*known, "scoring"]))
    model = ModelOptions.parse(settings.get("model", {}), where="settings [model]")
    prompt = PromptOptions.parse(settings.get("prompt", {}), where="settings [prompt]")
    if (Path(out) / "run.json").exists():
        raise PalateError(f"{out} holds a run already", "Choose another --out.")
    opened = open_parts(
        dataset,
        model,
        prompt,
        device=parse_device(device),
        prompts=prompts,
        dataset_path=dataset_path,
        summaries=summaries,
        item_summaries=item_summaries,
        settings=settings.get("scoring"),
    )
    recommender = opened.recommender()
    with one_writer(out):
        run = Run.start(
            out,
            model="mllm",
            options={"mllm": opened.config.model_dump(mode="json")},
            seed=seed,
            dataset=dataset,
            dataset_path=dataset_path,
        )
        with atomic_folder(run.model_folder, replace=True) as part:
            recommender.save(part)
        return run.add(finished=True, made_from=opened.facts, seconds=0.0, describe=recommender.describe())
