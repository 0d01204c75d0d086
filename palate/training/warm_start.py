"""Take the weights of an earlier run for a catalogue that has changed since."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from palate.data.catalogue import Catalogue
from palate.errors import PalateError
from palate.features.fields import FIELDS, Vocabulary
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.storage.files import read_json
from palate.storage.tensors import load_tensors

# Facts of the dataset, not learned: the new dataset's own stay.
_OWN = ("items.warm",)
_OWN_ENDS = (".present", ".usage")


def copy_weights(run: Run, model: SequentialRanker, catalogue: Catalogue) -> int:
    """Copy ``run``'s weights into ``model``; rows that belong to items move to the same item's new index.

    Returns:
        How many items of the catalogue were known to the run.

    Raises:
        PalateError: the run's model has another shape.
    """
    path = run.model_folder / "weights.safetensors"
    if not path.is_file():
        raise PalateError(f"{run.folder} has no weights to start from", "Give a trained run of the same model.")
    old = load_tensors(path, "Train the run again.")
    in_run = catalogue.indices_in(run.catalogue)
    known = np.flatnonzero(in_run)
    # What has a row for each item, or for each value of a field: the same one's row in the run, and here.
    rows: dict[str, tuple[Any, Any]] = {"items.ids.weight": (in_run[known], known)}
    earlier = run_vocabulary(run)
    if earlier is not None and model.fields is not None:
        rows[f"items.features.{FIELDS}.values.weight"] = model.fields.moved_from(earlier)
    state = model.state_dict()
    with torch.no_grad():
        for name, value in state.items():
            if name in _OWN or name.endswith(_OWN_ENDS):
                continue
            if name not in old:
                raise PalateError(f"{run.folder} has no '{name}'", "Warm-start with the same model and modalities.")
            if value.shape == old[name].shape and name not in rows:
                value.copy_(old[name])
            elif name in rows and value.shape[1] == old[name].shape[1]:
                before, after = (torch.as_tensor(one, dtype=torch.long) for one in rows[name])
                value[after] = old[name][before]
            else:
                raise PalateError(
                    f"'{name}' is {tuple(old[name].shape)} in {run.folder}, {tuple(value.shape)} here",
                    "Warm-start with the same ranker settings.",
                )
    return len(known)


def run_vocabulary(run: Run) -> Vocabulary | None:
    """The values of fields that a finished run learnt; None: it reads no fields.

    Raises:
        PalateError: it does, and its model's file does not hold them.
    """
    if FIELDS not in run.info.get("features", {}):
        return None
    path = run.model_folder / "config.json"
    try:
        return Vocabulary.from_json(read_json(path)["fields"])
    except (KeyError, TypeError, ValueError) as error:
        raise PalateError(f"{path} is damaged ({type(error).__name__}: {error})", "Train the run again.") from None
