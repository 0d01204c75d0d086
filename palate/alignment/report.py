"""What an alignment did, once it is over: numbers, warnings and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from palate.alignment.chart import plot_alignment
from palate.alignment.pairs import PairDrawer, sample_pairs
from palate.alignment.prefixes import Prefixes
from palate.data.dataset import Dataset, Part
from palate.data.sequences import Sequences, offsets_of
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender
from palate.runs.log import Row
from palate.storage.files import write_json
from palate.training.plan import Prepared

# A mean chosen log-probability that falls by more than this (nats) is worth a warning.
_FALL = 0.05


def report_alignment(
    folder: Path,
    rows: list[Row],
    best: Row,
    pairs: PairDrawer,
    dataset: Dataset,
    aligned: Recommender,
    prepared: Prepared,
) -> dict[str, Any]:
    """Write ``alignment.json`` and ``alignment.png``; returns what ``run.json`` records.

    ``pool_held_out`` is the only number that looks at validation and test items; it is made when training is over and
    nothing can be chosen by it any more.
    """
    assert isinstance(aligned, SequentialRanker)
    held_out = held_out_share(pairs, dataset, aligned, prepared)
    facts: dict[str, Any] = {"pool_held_out": held_out, "warnings": warnings(best)}
    write_json(folder / "alignment.json", {"rows": rows, **facts})
    plot_alignment(rows, held_out, folder / "alignment.png")
    return facts


def warnings(best: Row) -> list[str]:
    """What a user should know of the selected weights, by the row of their validation."""
    found = []
    drift = best.get("chosen_drift")
    if drift is not None and drift < -_FALL:
        found.append(
            f"the log-probability of chosen items fell by {-drift:.3f} on average: the policy pushes rejected items "
            "down without lifting the chosen ones. Raise align.cross_entropy, or lower --weight or the learning rate."
        )
    return found


@torch.no_grad()
def held_out_share(pairs: PairDrawer, dataset: Dataset, model: SequentialRanker, prepared: Prepared) -> float | None:
    """Share of pool items (or of negatives, where there is no pool) that the user takes in validation or test.

    Measured at each user's last training target, the one that is closest to the held-out items.
    """
    device = pairs.class_of.device
    counts = torch.from_numpy(dataset.train_counts).float().to(device)
    held_out = (dataset.parts == Part.VALID) | (dataset.parts == Part.TEST)
    lengths = np.bincount(dataset.rows_user[held_out], minlength=dataset.num_users).astype(np.int64)
    future = Prefixes(Sequences(dataset.items[held_out], offsets_of(lengths)))
    width = int((counts > 0).sum())
    hits, seen = 0.0, 0.0
    for drawn in sample_pairs(pairs, model.to(device), prepared.sequences, counts):
        last = pairs.prefixes.last(drawn.row_places)
        later = pairs.classes(*future.of_users(pairs.prefixes.owners(drawn.row_places)), len(drawn.items), width)
        classes, counted = drawn.rejected.classes, drawn.rejected.valid
        if drawn.rejected.pool is not None and drawn.rejected.pool_valid is not None:
            classes, counted = drawn.rejected.pool, drawn.rejected.pool_valid
        mask = counted & torch.from_numpy(last).to(device).unsqueeze(1)
        hits += float((later.has(classes) & mask).sum())
        seen += float(mask.sum())
    return hits / seen if seen else None
