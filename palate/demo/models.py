"""The models of the demo, one entry each: to add one to the table, add it to :data:`MODELS`."""

from __future__ import annotations

from dataclasses import dataclass

IDS, FULL = "sasrec (ids)", "sasrec (ids + text + pictures)"
NEAR = "sasrec (+ neighbours)"
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
    """

    label: str
    folder: str
    command: str
    encoded: bool = False

    def line(self, epochs: int, seed: int) -> str:
        """The command line."""
        return f"{self.command.format(epochs=epochs, seed=seed)} --out $DEMO/runs/{self.folder} --resume"


# The last model is the one in question: it is compared with ids and with item-knn.
MODELS = (
    DemoModel("popularity", "popularity", "palate train $DEMO/dataset --model popularity --seed {seed}"),
    DemoModel("item-knn", "item-knn", "palate train $DEMO/dataset --model item-knn --seed {seed}"),
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
)
