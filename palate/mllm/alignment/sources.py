"""What an alignment of a language model is made from: the run it starts at, its data, its weights, a retriever."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.groups import RunGroup, open_dataset
from palate.features.folders import store_folder
from palate.features.store import FeatureStore
from palate.mllm.finetune.trainer import check_precision
from palate.mllm.lm.loading import merge_adapter
from palate.mllm.recommender import MLLMRecommender
from palate.objectives import Preference
from palate.rankers.registry import load_recommender
from palate.recommender import Recommender
from palate.runs.run import Run
from palate.storage.files import file_digest

MODALITIES = ("text", "image")


def open_run_of(run: Run | Path | str) -> Run:
    """The run, or the run in a folder."""
    return run if isinstance(run, Run) else Run.open(run)


def check_start(start: Run) -> None:
    """Refuse what is no finished run of a language model."""
    if start.info["model"] != MLLMRecommender.name:
        raise PalateError(
            f"{start.folder} is a run of '{start.info['model']}', not of a language model",
            "Align it with `palate align`.",
        )
    if not start.finished:
        raise start.unfinished()


def data_of(start: Run, dataset: Dataset | None, path: Path | None) -> Dataset:
    """What the run was made from: given, or opened where it is."""
    if dataset is None:
        return open_dataset([RunGroup(start.name, (start,))], path)
    if dataset.fingerprint != start.info["dataset"]["fingerprint"]:
        raise PalateError(f"{start.folder} was made from other data than {dataset.name}", "Give the dataset it saw.")
    return dataset


def policy_of(start: Run, device: str) -> MLLMRecommender:
    """The run's model with its adapter merged into the weights."""
    policy = load_recommender(start, device=device)
    assert isinstance(policy, MLLMRecommender)
    check_precision(str(policy.model.core.dtype).removeprefix("torch."))
    if policy.config.base.quantisation is not None:
        raise PalateError(
            f"the weights of {start.folder} are {policy.config.base.quantisation}: its adapter would not merge exactly",
            "Fine-tune without --quantisation before you align.",
        )
    adapter = start.model_folder / "adapter"
    if hasattr(policy.model.model, "peft_config"):
        policy.model.model = merge_adapter(policy.model.model, str(adapter))
        policy.merged = (*policy.merged, adapter)
    return policy


def digests_of(policy: MLLMRecommender) -> list[str]:
    """Of the adapters that are part of its weights."""
    return [file_digest(folder / "adapter_model.safetensors") for folder in policy.merged]


def retriever_of(retriever: Run | Path | str, start: Run, device: str) -> Recommender:
    """The model that proposes rejected items; it ranks the whole catalogue of the same data."""
    run = open_run_of(retriever)
    if run.info["dataset"]["fingerprint"] != start.info["dataset"]["fingerprint"]:
        raise PalateError(
            f"the retriever {run.folder} was trained on other data than {start.folder}",
            "Train one on the same dataset.",
        )
    if not run.finished:
        raise PalateError(f"the retriever {run.folder} is not finished", "Finish it first.")
    found = load_recommender(run, device=device)
    if not found.whole_catalogue:
        raise PalateError(f"'{found.name}' cannot rank the whole catalogue", "Choose a fast retriever.")
    return found


def feature_stores(dataset: Path, catalogue: Catalogue) -> dict[str, FeatureStore]:
    """The stores ``text`` and ``image`` of a dataset's folder, as far as they are there.

    Others (shuffled among items, say) were made for a comparison and tell nothing of how alike items are.
    """
    folders = {name: store_folder(dataset, name) for name in MODALITIES}
    return {name: FeatureStore.load(folder, catalogue) for name, folder in folders.items() if folder.is_dir()}


def stores_for(
    preference: Preference, path: Path | None, dataset: Dataset, features: Mapping[str, FeatureStore] | None
) -> Mapping[str, FeatureStore]:
    """The features that hardness is made of; none where it is not asked for."""
    if not preference.needs_hardness:
        return {}
    if features is None:
        features = {} if path is None else feature_stores(path, dataset.catalogue)
    if not features:
        raise PalateError(
            f"hardness compares items by their features, and {path or dataset.name} has none",
            "Run `palate encode`, or use --hardness one.",
        )
    return features
