"""What a training run writes down as it goes: metrics.jsonl, TensorBoard events, the learning curve."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import torch

from palate.plots import GREY, RED, picture, second_scale
from palate.runs.trackers import LiveTrackers, tracker_names
from palate.storage.files import write_text

Row = dict[str, Any]


def peak_memory_mb(device: torch.device) -> float:
    """Largest memory so far, in MiB: of the GPU where one computes, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


class RunLog:
    """Rows of ``metrics.jsonl``, one per epoch, and the same numbers for TensorBoard and the trackers.

    The file is written anew from the rows of the checkpoint when a run resumes, so that no epoch stands twice.
    """

    def __init__(self, folder: Path, rows: list[Row], tensorboard: bool) -> None:
        self.folder = folder
        self.rows = rows
        self._write()
        self._trackers = LiveTrackers(folder, tracker_names())
        self._events: Any = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            last = rows[-1]["step"] if rows else -1
            self._events = SummaryWriter(str(folder / "tensorboard"), purge_step=last + 1)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self._write()
        if self._events is not None:
            for name, value in row.items():
                if name != "epoch" and isinstance(value, int | float):
                    self._events.add_scalar(name, value, row["step"])
            self._events.flush()
        self._trackers.add(self.rows)

    def _write(self) -> None:
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in self.rows))

    def close(self) -> None:
        if self._events is not None:
            self._events.close()
        self._trackers.close()


def plot_learning_curve(rows: list[Row], metric: str, path: Path) -> None:
    """Loss and validation metric over the epochs, as a PNG; the best epoch is marked."""
    trained = [row for row in rows if "loss" in row]  # epoch 0, if there is one, is validated only
    scored = [row for row in rows if metric in row]
    with picture(path, 8, 4.5) as figure:
        losses = figure.add_subplot()
        epochs = [row["epoch"] for row in trained]
        losses.plot(epochs, [row["loss"] for row in trained], color=GREY, label="training loss")
        losses.set(xlabel="epoch", ylabel="training loss")
        lines = list(losses.lines)
        if scored:
            values = second_scale(losses)
            epochs = [row["epoch"] for row in scored]
            values.plot(epochs, [row[metric] for row in scored], color=RED, marker=".", label=f"validation {metric}")
            best = max(scored, key=lambda row: float(row[metric]))
            values.scatter([best["epoch"]], [best[metric]], s=70, color=RED, zorder=3)
            values.annotate(
                f"{best[metric]:.4f} at epoch {best['epoch']}",
                (best["epoch"], best[metric]),
                textcoords="offset points",
                xytext=(0, 9),
                ha="center",
                color=RED,
            )
            values.margins(y=0.15)
            values.set_ylabel(f"validation {metric}")
            lines += values.lines
        losses.legend(lines, [str(line.get_label()) for line in lines], loc="center right")
