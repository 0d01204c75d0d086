"""The models of the demo, one entry each: to add one to the table, add it to :data:`MODELS`."""

from __future__ import annotations

from dataclasses import dataclass

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
        aligned: whether it goes on from another model, which it resembles: it is in tables alone, not in pictures and
            bundles.
    """

    label: str
    folder: str
    command: str
    encoded: bool = False
    aligned: bool = False

    def line(self, epochs: int, seed: int) -> str:
        """The command line."""
        return f"{self.command.format(epochs=epochs, seed=seed)} --out $DEMO/runs/{self.folder} --resume"


# An alignment goes on from the content ranker, and its last weights are kept, so that each shows what it did.
_ALIGN = (
    "palate align $DEMO/runs/sasrec-near --epochs 3 --set trainer.learning_rate=3e-4 --set trainer.keep=last "
    "--set trainer.patience=0 --seed {seed}"
)
_PAIRS = "--set align.share=0.5"

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
    ),
    DemoModel(CONTINUED, "continued", f"{_ALIGN} --objective none", encoded=True, aligned=True),
    DemoModel(DPO, "dpo", f"{_ALIGN} --objective dpo --negatives uniform {_PAIRS}", encoded=True, aligned=True),
    DemoModel(RODPO, "rodpo", f"{_ALIGN} --objective dpo --negatives top-k {_PAIRS}", encoded=True, aligned=True),
)
