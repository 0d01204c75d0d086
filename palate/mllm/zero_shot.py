"""A language model as a recommender without training: the same prompts and scores, without an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.data.dataset import Dataset
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.mllm.components import load_components
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.prompter import PromptOptions
from palate.runs.run import Run
from palate.storage.files import atomic_folder
from palate.storage.lock import one_writer
from palate.storage.remote import takes_urls


@takes_urls("out")
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
    """A run of a model that was not trained on the dataset; only its description is computed here.

    Args:
        settings: by section: ``model`` (``name`` is required), ``prompt``, ``scoring``.

    The other arguments are those of :func:`palate.mllm.finetune.sft.fine_tune`.

    Raises:
        PalateError: settings, summaries, a model or a run folder that do not fit.
    """
    known = ("model", "prompt", "scoring")
    for section in settings:
        if section not in known:
            raise PalateError(f"unknown section '{section}' in the settings", suggest(section, known))
    model = ModelOptions.parse(settings.get("model", {}), where="settings [model]")
    prompt = PromptOptions.parse(settings.get("prompt", {}), where="settings [prompt]")
    _refuse_run(out)
    parts = load_components(
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
    recommender = parts.recommender()
    with one_writer(out):
        _refuse_run(out)  # another process may have made one in the meantime
        # The run is written after its model: killed before, the same command starts again.
        with atomic_folder(Path(out) / "model", replace=True) as part:
            recommender.save(part)
        return Run.start(
            out,
            model="mllm",
            options={"mllm": parts.config.model_dump(mode="json")},
            seed=seed,
            dataset=dataset,
            dataset_path=dataset_path,
            facts={
                "finished": True,
                "made_from": parts.facts,
                "seconds": 0.0,
                "describe": recommender.describe(),
            },
        )


def _refuse_run(out: Path | str) -> None:
    if (Path(out) / "run.json").exists():
        raise PalateError(f"{out} holds a run already", "Choose another --out.")
