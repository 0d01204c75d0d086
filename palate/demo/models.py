"""The models of the demo, one entry each: to add one to the table, add it to :data:`ARMS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.features.store import FeatureStore
    from palate.runs.run import Run

IDS, FULL = "sasrec (ids)", "sasrec (ids + text + pictures)"
NEAR = "sasrec (+ neighbours)"
# How all trained models are trained: of eight settings the best on validation, by the mean of ids and content.
RANKER = {"dropout": 0.3}
TRAINER = {"learning_rate": 1e-3, "batch_size": 128, "patience": 5}


@dataclass(frozen=True)
class DemoModel:
    """One row of the demo's table.

    Attributes:
        label: in tables and pictures.
        folder: of its run, in ``runs/``, and of its bundle.
        model: a name of :data:`palate.rankers.registry.RANKERS`.
        content: feature stores that it reads beside the ids; where one is missing, the arm is left out.
        ranker: settings of the ranker, beside :data:`RANKER`.
        options: further arguments of :func:`palate.training.fit.train`.
        start: folder of the arm whose run gets ``neighbours``; it is not trained again.
        neighbours: sources, see :func:`palate.training.attach.attach`.
    """

    label: str
    folder: str
    model: str = "sasrec"
    content: tuple[str, ...] = ()
    ranker: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    neighbours: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether it learns by epochs."""
        return self.model not in ("popularity", "item-knn")

    def train(
        self, data: Dataset, out: Path, stores: Mapping[str, FeatureStore], *, epochs: int, seed: int, dataset: Path
    ) -> Run:
        """The run of this arm in ``out``; one that is there is returned as it is, or finished."""
        from palate.training.attach import attach
        from palate.training.fit import train

        if self.start is not None:
            near = self.neighbours
            return attach(out.parent / self.start, out=out, neighbours=near, dataset_path=dataset, resume=True)
        options: dict[str, Any] = {"model": self.model, **self.options}
        if self.trained:
            options["settings"] = {"ranker": {**RANKER, **self.ranker}, "trainer": {**TRAINER, "epochs": epochs}}
        if self.content:
            options |= {"modalities": ("id", *self.content), "features": {name: stores[name] for name in self.content}}
        return train(data, out=out, seed=seed, dataset_path=dataset, resume=True, **options)


# The last arm is the one in question: it is compared with ids and with item-knn.
ARMS = (
    DemoModel("popularity", "popularity", model="popularity"),
    DemoModel("item-knn", "item-knn", model="item-knn"),
    DemoModel(IDS, "sasrec-ids"),
    DemoModel(FULL, "sasrec-full", content=("text", "image"), ranker={"fusion": "sum", "whiten": 48}),
    DemoModel(
        NEAR,
        "sasrec-near",
        content=("text", "image"),
        start="sasrec-full",
        neighbours=("co-occurrence", "lexical", "text", "image"),
    ),
)
