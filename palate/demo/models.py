"""The models of the demo, one entry each: to add one to the table, add it to :data:`MODELS`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palate.demo.runner import DemoCommand

KNN = "item-knn"
IDS, FULL = "sasrec (ids)", "sasrec (ids + text + pictures)"
NEAR = "sasrec (+ neighbours)"
CONTINUED, DPO, RODPO = "cross-entropy continued", "DPO (uniform)", "RoDPO"
# How all trained models are trained: of eight settings the best on validation, by the mean of ids and content.
_SETTINGS = (
    "--set ranker.dropout=0.3 --set trainer.learning_rate=1e-3 --set trainer.batch_size=128 --set trainer.patience=5 "
    "--epochs {epochs} --seed {seed}"
)


@dataclass(frozen=True)
class DemoModel:
    """One row of the demo's table.

    Attributes:
        label: in tables and pictures.
        folder: of its run, in ``runs/``, and of its bundle.
        command: makes the run; ``{epochs}`` and ``{seed}`` are filled in, and ``--out`` and ``--resume`` added.
        encoded: whether it reads encoded texts and pictures: without encoders it is left out.
        start: folder of the model that it goes on from, which comes before it in :data:`MODELS`.
        aligned: whether it is much like the one it goes on from: it is in tables alone, not in pictures and bundles.
    """

    label: str
    folder: str
    command: str
    encoded: bool = False
    start: str = ""
    aligned: bool = False


def model_commands(models: Sequence[DemoModel], epochs: int, seed: int) -> dict[str, DemoCommand]:
    """The commands that make the runs of models, by folder, in order."""
    made: dict[str, DemoCommand] = {}
    for model in models:
        folder = f"runs/{model.folder}"
        made[model.folder] = DemoCommand(
            f"{model.command.format(epochs=epochs, seed=seed)} --out $DEMO/{folder} --resume",
            makes=folder,
            goes_on=True,
            after=(made[model.start],) if model.start else (),
        )
    return made


# An alignment goes on from the content ranker, and its last weights are kept, so that each shows what it did.
_ALIGN = (
    "palate align $DEMO/runs/sasrec-near --epochs 2 --set trainer.learning_rate=3e-4 --set trainer.keep=last "
    "--set trainer.patience=0 --seed {seed}"
)
_PAIRS = "--set align.share=0.5"
_ALIGNED: dict[str, Any] = {"encoded": True, "start": "sasrec-near", "aligned": True}

# The ranker of content and neighbours is the one in question; what is aligned is compared with as much more training.
MODELS = (
    DemoModel("popularity", "popularity", "palate train $DEMO/dataset --model popularity --seed {seed}"),
    DemoModel(KNN, "item-knn", "palate train $DEMO/dataset --model item-knn --seed {seed}"),
    DemoModel(
        IDS, "sasrec-ids", f"palate train $DEMO/dataset --model sasrec --modalities id --neighbours none {_SETTINGS}"
    ),
    DemoModel(
        FULL,
        "sasrec-full",
        "palate train $DEMO/dataset --model sasrec --modalities id,text,image --neighbours none "
        f"--set ranker.fusion=sum --set ranker.whiten=48 {_SETTINGS}",
        encoded=True,
    ),
    DemoModel(
        NEAR,
        "sasrec-near",
        "palate attach $DEMO/runs/sasrec-full --neighbours co-occurrence,lexical,text,image",
        encoded=True,
        start="sasrec-full",
    ),
    DemoModel(CONTINUED, "continued", f"{_ALIGN} --objective none", **_ALIGNED),
    DemoModel(DPO, "dpo", f"{_ALIGN} --objective dpo --negatives uniform {_PAIRS}", **_ALIGNED),
    DemoModel(RODPO, "rodpo", f"{_ALIGN} --objective dpo --negatives top-k {_PAIRS}", **_ALIGNED),
)
