"""Palate: recommenders that understand pictures and text and are aligned on preferences.

The calls behind the commands, loaded on first use so that ``import palate`` stays light::

    from palate import Recommendations, align, blend, encode, evaluate, from_frames, prepare, train, tune
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("palate")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"

# Name -> module. The rooms import one another by their full names; this is for users. __init__.pyi says the same.
_CALLS = {
    "BERT4Rec": "palate.estimators",
    "EASE": "palate.estimators",
    "GRU4Rec": "palate.estimators",
    "HSTU": "palate.estimators",
    "IALS": "palate.estimators",
    "ItemKNN": "palate.estimators",
    "Popularity": "palate.estimators",
    "SASRec": "palate.estimators",
    "TIGER": "palate.estimators",
    "Bundle": "palate.bundle.load",
    "Dataset": "palate.data.dataset",
    "FeatureStore": "palate.features.store",
    "PalateError": "palate.errors",
    "Recommendations": "palate.rankers.recommend",
    "Run": "palate.runs.run",
    "TuneRecipe": "palate.experiments.tune_recipe",
    "align": "palate.alignment.align",
    "align_mllm": "palate.mllm.alignment.align",
    "attach": "palate.training.attach",
    "blend": "palate.training.blend",
    "describe": "palate.artefact",
    "encode": "palate.features.encode",
    "evaluate": "palate.evaluation.evaluate",
    "fine_tune": "palate.mllm.finetune.sft",
    "from_frames": "palate.data.frames",
    "gate": "palate.evaluation.gate",
    "load_recommender": "palate.rankers.registry",
    "prepare": "palate.data.prepare",
    "refit": "palate.training.refit",
    "train": "palate.training.fit",
    "tune": "palate.experiments.tune",
    "zero_shot": "palate.mllm.zero_shot",
}

__all__ = ["__version__", *_CALLS]


def __getattr__(name: str) -> Any:
    if name not in _CALLS:
        raise AttributeError(f"module 'palate' has no attribute {name!r}")
    return getattr(import_module(_CALLS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
