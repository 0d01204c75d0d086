"""Features of items in memory once per machine, whatever the number of workers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from palate.rankers.sequential import SequentialRanker
from palate.runs.workers import Workers
from palate.storage.exhausted import writing
from palate.storage.tensors import load_tensors


def fill_once(
    model: SequentialRanker, workers: Workers, fill: Callable[[], None], take: Callable[[Mapping[str, Tensor]], None]
) -> None:
    """Give the models of all workers their features.

    The first worker of each machine makes them and writes them to a temporary file, which all workers of the machine
    map into memory; it is removed at once. A lone worker keeps what it has made.

    Args:
        fill: makes the features of this worker's model.
        take: puts in their place what another model's :func:`feature_buffers` are.
    """
    if workers.count == 1 or not model.items.features:
        fill()
        return
    folder = ""
    if workers.local == 0:
        fill()
        folder = tempfile.mkdtemp(prefix="palate-features-")
        with writing(Path(folder)):
            save_file(feature_buffers(model), Path(folder) / "features.safetensors")
    home = workers.each(folder)[workers.index - workers.local]
    take(load_tensors(Path(home) / "features.safetensors", "Start the training again."))
    workers.wait()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def feature_buffers(model: SequentialRanker) -> dict[str, Tensor]:
    """What :meth:`palate.rankers.sequential.SequentialRanker.set_features` has made, by modality and name."""
    return {name: buffer.contiguous() for name, buffer in model.items.features.named_buffers()}
