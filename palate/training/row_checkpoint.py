"""The rows of a sharded table in a checkpoint: one file for each worker, read again by any number of workers.

The rest of the checkpoint (:mod:`palate.training.checkpoint`) is written last and names the files, so that a training
that is killed in between resumes from those before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from palate.rankers.sharded_ids import ShardedIds
from palate.storage.files import atomic_file
from palate.storage.tensors import load_tensors

_WEIGHT = "items.ids.own.weight"
_KEPT = ("exp_avg", "exp_avg_sq", "current")
_FOLDER = "checkpoints"


class RowCheckpoint:
    """What a worker writes of its rows.

    Args:
        folder: of the run, which all workers see.
        ids: the worker's share of the table.
    """

    def __init__(self, folder: Path, ids: ShardedIds) -> None:
        self._folder, self._share, self._num_rows = folder / _FOLDER, ids.share, ids.num_rows
        self._number = 0

    def write(self, state: dict[str, Any]) -> dict[str, Any]:
        """Write the rows of a training's state.

        Returns:
            The state without them, and with the names of all workers' files.
        """
        rest, rows = _split(state)
        self._number += 1
        names = [f"rows-{self._number}-{index}-of-{self._share.count}" for index in range(self._share.count)]
        with atomic_file(self._file(names[self._share.index])) as part:
            save_file({name: one.contiguous() for name, one in rows.items()}, part)
        return {**rest, "rows_number": self._number, "rows_files": names}

    def read(self, state: dict[str, Any]) -> dict[str, Any]:
        """The state with the rows of this worker, whatever number of workers has written them."""
        self._number, names = state.pop("rows_number"), state.pop("rows_files")
        own = torch.tensor(self._share.rows(self._num_rows), dtype=torch.long)
        rows: dict[str, Tensor] = {}
        for index, name in enumerate(names):
            here = own % len(names) == index
            if not bool(here.any()) and (index or len(own)):  # a worker without rows learns what they are made of
                continue
            for key, one in load_tensors(self._file(name), "Remove the checkpoints and train from the start.").items():
                mine = rows.setdefault(key, one.new_empty(len(own), *one.shape[1:]))
                mine[here] = one[own[here] // len(names)]
        return _joined(state, rows)

    def remove_others(self, state: dict[str, Any]) -> None:
        """Remove the files of earlier checkpoints; other workers may be writing later ones."""
        for file in self._folder.glob("rows-*.safetensors"):
            number = file.stem.split("-")[1]
            if file.stem not in state["rows_files"] and number.isdigit() and int(number) <= self._number:
                file.unlink()

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"


def _split(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A state without a table's rows, and the rows."""
    (table,) = state["optimizer"]["tables"]
    rows = {"weight": state["model"][_WEIGHT], **{name: table[name] for name in _KEPT}}
    rest = {
        **state,
        "model": {name: one for name, one in state["model"].items() if name != _WEIGHT},
        "optimizer": {
            **state["optimizer"],
            "tables": [{name: one for name, one in table.items() if name not in _KEPT}],
        },
    }
    if state["average"]:
        shadow = state["average"]["shadow"]
        rows["average"] = shadow[_WEIGHT]
        rest["average"] = {
            **state["average"],
            "shadow": {name: one for name, one in shadow.items() if name != _WEIGHT},
        }
    return rest, rows


def _joined(state: dict[str, Any], rows: dict[str, Tensor]) -> dict[str, Any]:
    """The state that :func:`_split` has split."""
    state["model"][_WEIGHT] = rows["weight"]
    state["optimizer"]["tables"][0] |= {name: rows[name] for name in _KEPT}
    if state["average"]:
        state["average"]["shadow"][_WEIGHT] = rows["average"]
    return state
