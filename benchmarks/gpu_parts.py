"""Parts of ``benchmarks/gpu.py`` that need no language model. Each yields figures as it finds them."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from catalogue_size import measure as measure_step
from catalogue_size import options_of
from evaluate_large import generated
from evaluate_large import measure as measure_evaluation
from torch import Tensor

from palate.objectives.linear_cross_entropy import linear_cross_entropy
from palate.topk import best_items

Facts = dict[str, Any]


def timed(work: Callable[[], Any], device: str, repeats: int = 3) -> float:
    """Median seconds on the clock, after one call that warms up."""
    work()
    seconds = []
    for _ in range(repeats):
        wait_for(device)
        began = time.perf_counter()
        work()
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def precision(device: str, small: bool) -> Iterator[Facts]:
    """How far the fused loss and its gradients are from those of torch in float64."""
    targets, items, dim = (256, 1_000, 64) if small else (8_192, 12_101, 64)
    drawn = torch.Generator().manual_seed(0)
    queries, vectors = (torch.randn(n, dim, generator=drawn) * 0.5 for n in (targets, items))
    right = torch.randint(items, (targets,), generator=drawn).to(device)

    def differentiated(dtype: torch.dtype, loss: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        leaves = [one.to(device, dtype, copy=True).requires_grad_() for one in (queries, vectors)]
        value = loss(*leaves)
        value.backward()
        return [value.detach(), *(one.grad for one in leaves if one.grad is not None)]

    exact = differentiated(torch.float64, lambda q, w: torch.nn.functional.cross_entropy(q @ w.T, right))
    for dtype in (torch.float32, torch.bfloat16):

        def fused(q: Tensor, w: Tensor, dtype: torch.dtype = dtype) -> Tensor:
            return linear_cross_entropy(q, w, right, dtype=dtype)

        found = differentiated(torch.float32, fused)
        errors = [float((one.double() - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
        seconds = timed(lambda fused=fused: differentiated(torch.float32, fused), device)
        names = ("loss_error", "query_gradient_error", "item_gradient_error")
        yield {"precision": str(dtype), "ms": round(1e3 * seconds, 2), **dict(zip(names, errors, strict=True))}


def training(device: str, small: bool) -> Iterator[Facts]:
    """Epochs of sasrec; the first is left out."""
    from palate.training.fit import train

    dataset = generated(*((300, 400) if small else (12_101, 22_363)), cold=0.0, longest=13)
    low = {"objective": {"precision": "bfloat16"}}
    ways: dict[str, dict[str, Facts]] = {
        "float32": {},
        "bfloat16 loss": low,
        "bfloat16 loss, 1,024 sequences per step": {**low, "trainer": {"batch_size": 1024}},
        "bfloat16 loss and encoder, 1,024 sequences per step": {
            **low,
            "trainer": {"batch_size": 1024, "precision": "bf16"},
        },
    }
    for name, more in ways.items():
        trainer = {"epochs": 3, "patience": 0, "tensorboard": False, "device": device, **more.get("trainer", {})}
        with tempfile.TemporaryDirectory() as folder:
            run = train(
                dataset,
                model="sasrec",
                modalities=("id",),
                neighbours=(),
                out=Path(folder) / "run",
                settings={**more, "trainer": trainer},
            )
            rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        facts = {key: statistics.median(row[key] for row in rows[1:]) for key in ("train_seconds", "eval_seconds")}
        yield {
            "training": name,
            "targets": int((dataset.train_sequences().lengths - 1).clip(0).sum()),
            "items": dataset.num_items,
            **facts,
            "loss": rows[-1]["loss"],
            "peak_memory_mb": rows[-1]["peak_memory_mb"],
        }


def catalogue(device: str, small: bool) -> Iterator[Facts]:
    """Steps of sampled softmax in which only the rows of a step are read and updated."""
    for items in (5_000,) if small else (1_000_000, 10_000_000):
        words = ["--device", device, *(["--targets", "200", "--steps", "5"] if small else ["--steps", "30"])]
        yield {"objective": "sampled-softmax", **measure_step(items, options_of(words))}


def evaluation(device: str, small: bool) -> Iterator[Facts]:
    """The whole of ``evaluate`` on a model on the device."""
    for items, users in ((3_000, 50),) if small else ((1_000_000, 2048), (10_000_000, 2048)):
        yield measure_evaluation(items, users, 64, 64 if small else 4096, torch.get_num_threads(), device)


def search(device: str, small: bool) -> Iterator[Facts]:
    """The best hundred of many random vectors, for 1,024 queries."""
    items, count, k = (5_000, 16, 10) if small else (10_000_000, 1024, 100)
    drawn = torch.Generator(device).manual_seed(0)
    vectors, queries = (torch.randn(n, 64, generator=drawn, device=device) for n in (items, count))

    def exact() -> Tensor:
        parts = [best_items(part @ vectors.T, k)[0] for part in queries.split(128)]
        return torch.cat(parts)

    best = exact().cpu()
    yield {"search": "exact", "items": items, "queries": count, "ms": round(1e3 * timed(exact, device), 1)}
    try:
        import faiss
    except ImportError:
        yield {"search": "FAISS", "skipped": "not installed"}
        return
    if not device.startswith("cuda") or not hasattr(faiss, "StandardGpuResources"):
        yield {"search": "FAISS on a GPU", "skipped": "this FAISS is for CPUs" if device != "cpu" else "no GPU"}
        return
    kept = faiss.StandardGpuResources()
    rows, asked = vectors.cpu().numpy(), queries.cpu().numpy()
    for name in ("Flat", "IVF4096,Flat"):
        index = faiss.index_cpu_to_gpu(kept, 0, faiss.index_factory(64, name, faiss.METRIC_INNER_PRODUCT))
        began = time.perf_counter()
        index.train(rows[:200_000])
        index.add(rows)
        built = time.perf_counter() - began
        found = torch.from_numpy(index.search(asked, k)[1])
        share = torch.tensor([len(set(a) & set(b)) / k for a, b in zip(found.tolist(), best.tolist(), strict=True)])
        seconds = timed(lambda index=index: index.search(asked, k), device)
        facts = {"build_s": round(built, 1), "ms": round(1e3 * seconds, 1), "found": round(float(share.mean()), 4)}
        yield {"search": f"FAISS on the GPU, {name}", **facts}
