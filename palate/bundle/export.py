"""ONNX: the sequence encoder for runtimes without torch, checked against torch before it is written."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.rankers.blend import Blend
from palate.rankers.gru4rec import Recurrent
from palate.rankers.moe import SparseFeedForward
from palate.rankers.packing import Grid
from palate.rankers.registry import RANKERS
from palate.rankers.sequential import SequentialRanker
from palate.recommender import Recommender

FOLDER = "onnx"
ENCODER = f"{FOLDER}/encoder.onnx"
ITEMS = f"{FOLDER}/items.safetensors"
# The largest difference to torch, in scores, that may pass.
TOLERANCE = 1e-4
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# ONNX keeps a model in one file of at most 2 GB.
_LARGEST = 1_900_000_000
_CHECKED = 24  # random histories


@dataclass(frozen=True)
class Padded:
    """A batch on a grid of its own: a row a history, filled up behind. Says what encoders ask of a packed batch.

    Attributes:
        items: int64 ``[B, L]``, 0 behind a history's end.
        lengths: int64 ``[B]``, at least 1.
    """

    items: Tensor
    lengths: Tensor

    @property
    def _columns(self) -> Tensor:
        return torch.arange(self.items.shape[1], device=self.items.device)

    @property
    def positions(self) -> Tensor:
        """int64 ``[B * L]``: 0 for the oldest item."""
        return self._columns.expand(self.items.shape).reshape(-1)

    @property
    def positions_from_end(self) -> Tensor:
        """int64 ``[B * L]``: 0 for the newest item; what stands behind it does not matter."""
        return (self.lengths.unsqueeze(1) - 1 - self._columns).clamp_min(0).reshape(-1)

    @property
    def grid(self) -> Grid:
        """A token a cell."""
        rows, width = self.items.shape
        cells = torch.arange(rows * width, device=self.items.device)
        causal = self._columns.unsqueeze(0) <= self._columns.unsqueeze(1)
        real = self._columns.unsqueeze(0) < self.lengths.unsqueeze(1)
        mask = (causal.unsqueeze(0) & real.unsqueeze(1)).unsqueeze(1)  # [B, 1, L, L]
        return Grid(cells, cells, mask, width)


class _PaddedRecurrent(nn.Module):
    """:class:`Recurrent` on a padded batch: what stands behind a history's end is read after it, and never before."""

    def __init__(self, inner: Recurrent) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, batch: Padded) -> Tensor:
        rows, width = batch.items.shape
        states, _ = self.inner.gru(self.inner.input_norm(x).view(rows, width, -1))
        result: Tensor = self.inner.output(states).reshape(rows * width, -1)
        return result


class _AllExperts(nn.Module):
    """A mixture of experts without sorting its tokens, which no graph of fixed steps can do."""

    def __init__(self, inner: SparseFeedForward) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, notes: Any = None) -> Tensor:
        return self.inner.all_experts(x, self.inner.route(x))


class UserVectors(nn.Module):
    """Item indices in, the vectors that item vectors are multiplied by out: what is exported.

    Args:
        model: any ranker of :class:`~palate.rankers.sequential.SequentialRanker`.
    """

    def __init__(self, model: SequentialRanker) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval().cpu()
        self.register_buffer("table", model.table().detach().cpu().float().clone())
        for parent in list(self.model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Recurrent):
                    setattr(parent, name, _PaddedRecurrent(child))
                elif isinstance(child, SparseFeedForward):
                    setattr(parent, name, _AllExperts(child))

    def forward(self, items: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """
        Args:
            items: int64 ``[B, L]``, oldest first, 0 behind a history's end; ``L`` at most ``max_length``.
            lengths: int64 ``[B]``.

        Returns:
            users float ``[B, d]``; of a model with ``repeat_bias`` also repeats float ``[B, L]``: what is added to the
            score of the item that stands there (0 where it stands again later).
        """
        batch = Padded(items, lengths.clamp_min(1))
        rows, width = items.shape
        table = self.get_buffer("table")
        hidden = self.model.encode(table.index_select(0, items.reshape(-1)), batch)  # type: ignore[arg-type]
        ends = torch.arange(rows, device=items.device) * width + batch.lengths - 1
        scores = self.model._scores(hidden.index_select(0, ends), table)
        return (scores.queries,) if self.model.repeat is None else (scores.queries, self._repeats(batch))

    def _repeats(self, batch: Padded) -> Tensor:
        items, columns = batch.items, batch._columns
        later = columns.unsqueeze(1) < columns.unsqueeze(0)  # [L, L]: the second stands later
        again = ((items.unsqueeze(2) == items.unsqueeze(1)) & later.unsqueeze(0)).any(2)
        lags = batch.positions_from_end.view(items.shape)
        bias = self.model.repeat_values()[lags]
        real = columns.unsqueeze(0) < batch.lengths.unsqueeze(1)
        return torch.where(real & ~again & (items > 0), bias, 0.0)


def check_exportable(model: str, *, neighbours: bool = False) -> None:
    """Refuse a model that is more or less than a sequence encoder, or a machine without the exporter, before there is a
    bundle."""
    if model == Blend.name:
        raise PalateError(
            "a blend is several models, not one sequence encoder to export", "Leave out --onnx, or export its parts."
        )
    kind = RANKERS[model]
    if not issubclass(kind, SequentialRanker):
        raise PalateError(f"'{model}' has no sequence encoder to export", "Leave out --onnx.")
    if not kind.causal:
        raise PalateError(f"'{model}' looks both ways, and ONNX would hold a causal encoder", "Leave out --onnx.")
    if not kind.exports:
        raise PalateError(f"'{model}' reads times, and ONNX would hold an encoder of items alone", "Leave out --onnx.")
    if neighbours:
        raise PalateError(
            f"this '{model}' adds neighbours to its scores, which are no part of the encoder that ONNX would hold",
            "Leave out --onnx, or export a run without --neighbours.",
        )
    for package in _PACKAGES:
        try:
            import_module(package)
        except ImportError:
            raise PalateError(f"the export needs the package {package}", "Run `pip install 'palate[onnx]'`.") from None


def export_encoder(model: Recommender, folder: Path) -> dict[str, Any]:
    """Write ``onnx/encoder.onnx`` and ``onnx/items.safetensors`` into ``folder``, and check them against torch.

    Returns:
        Names and shapes of inputs and outputs, and the largest difference to torch that was found.

    Raises:
        PalateError: no sequence encoder, or one whose export differs from it by :data:`TOLERANCE` or more.
    """
    check_exportable(model.name, neighbours=isinstance(model, SequentialRanker) and model.neighbours is not None)
    assert isinstance(model, SequentialRanker)
    table = model.table()
    if table.numel() * 4 > _LARGEST:
        raise PalateError(f"{model.num_items:,} items do not fit into one ONNX file", "Leave out --onnx.")
    (folder / FOLDER).mkdir(exist_ok=True)
    wrapped = UserVectors(model).eval()
    outputs = ["users"] if model.repeat is None else ["users", "repeats"]
    _export(wrapped, model.config.max_length, model.num_items, outputs, folder / ENCODER)
    facts: dict[str, Tensor] = {"items": model.queries(Sequences.from_lists([[1]])).items.cpu().contiguous().clone()}
    if model.popularity is not None:
        facts["popularity"] = model.popularity.cpu().contiguous()
    save_file(facts, folder / ITEMS)
    difference = compare(model, folder)
    if not difference < TOLERANCE:
        raise PalateError(
            f"the exported encoder differs from torch by {difference:.2g}, more than {TOLERANCE:g}",
            "Leave out --onnx, and report this model's settings.",
        )
    return {
        "file": ENCODER,
        "items": ITEMS,
        "max_length": model.config.max_length,
        "inputs": {"items": "int64 [B, L]", "lengths": "int64 [B]"},
        "outputs": {"users": f"float32 [B, {table.shape[1]}]"}
        | ({} if model.repeat is None else {"repeats": "float32 [B, L]"}),
        "difference": difference,
        "torch": torch.__version__,
    }


def _export(wrapped: UserVectors, longest: int, items: int, outputs: list[str], path: Path) -> None:
    width = max(2, min(longest, 7))
    example = torch.randint(1, items + 1, (3, width), generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([width, 1, width - 1])
    rows = torch.export.Dim("batch", min=1)
    # A model that reads a single item has no length to vary.
    columns = torch.export.Dim("length", min=1) if longest > 1 else None
    shapes = {"items": {0: rows, 1: columns} if columns is not None else {0: rows}, "lengths": {0: rows}}
    if longest == 1:
        example, lengths = example[:, :1], torch.ones(3, dtype=torch.int64)
    try:
        with _hushed(), torch.no_grad():
            program = torch.onnx.export(
                wrapped,
                (example, lengths),
                input_names=["items", "lengths"],
                output_names=outputs,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
    except Exception as error:  # the exporter raises its own kinds for whatever it cannot trace
        lines = str(error).strip().splitlines()
        raise PalateError(
            f"the encoder cannot be exported ({type(error).__name__}: {lines[0][:200] if lines else ''})",
            "Leave out --onnx, and report this model's settings.",
        ) from None


@contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporter's remarks on packages that this model has no use for."""
    logs = [logging.getLogger(name) for name in ("torch.onnx", "torch.__trace")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def compare(model: SequentialRanker, folder: Path) -> float:
    """The largest difference between the scores of torch and those of the exported files, on random histories."""
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(str(folder / ENCODER), options, providers=["CPUExecutionProvider"])
    random, longest = np.random.default_rng(0), model.config.max_length
    sizes = [1, min(2, longest), longest, *random.integers(1, longest + 1, _CHECKED - 3).tolist()]
    # Few different items, so that some stand twice.
    pool = random.integers(1, model.num_items + 1, max(2, longest))
    histories = [random.choice(pool, size).tolist() for size in sizes]
    expected = model.queries(Sequences.from_lists(histories))
    table = expected.items.cpu().numpy()
    worst = 0.0
    for part in ([0], list(range(len(histories)))):  # alone, and together
        width = max(len(histories[row]) for row in part)
        items = np.zeros((len(part), width), np.int64)
        for place, row in enumerate(part):
            items[place, : len(histories[row])] = histories[row]
        lengths = np.array([len(histories[row]) for row in part], np.int64)
        try:
            found = session.run(None, {"items": items, "lengths": lengths})
        except Exception:  # kinds of the runtime's own, for a shape that the exporter took for a constant
            return float("inf")
        scores = found[0] @ table.T
        if len(found) > 1:
            np.add.at(scores, (np.arange(len(part))[:, None], items), found[1])
        truth = expected.full()[part].cpu().numpy()
        worst = max(worst, float(np.abs(scores - truth)[:, 1:].max()))
    return worst
