"""The tables of docs/scale.md: costs per million, and a plan for a billion interactions.

    python benchmarks/scale_plan.py --core-hour 0.05 --gpu-hour 3

The plan has 50 million items with pictures and 100 million users. Measured costs (``benchmarks/scale.json``, and
figures of the documentation that are named below) times quantities; where two sizes were measured, the growth between
the largest two goes on. Prices and machines are assumptions. Nothing of this size has been run.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import Any

from plot_scale import Lines, growth, points, read_figures, stage

INTERACTIONS, ITEMS, USERS = 1_000_000_000, 50_000_000, 100_000_000
EPOCHS, TESTED_USERS, DIM = 3, 100_000, 64
MACHINES, CORES, WORKERS = 8, 256, 32  # in all; a worker of training has a core, one of Ray a share of them
ENCODER_BYTES = 4 * 100_000  # gradients of two layers of 64 numbers, which all workers average
TARGETS = INTERACTIONS - 3 * USERS  # of one epoch: two interactions of each user are held out, one is the first
# docs/features.md, of one core: texts of 200 characters by MiniLM, pictures of 224 pixels by EfficientNet-Lite0.
TEXTS_PER_SECOND, PICTURES_PER_SECOND = 61, 42
TEXT_WIDTH, PICTURE_WIDTH = 384, 1280
DECODED_MS, PICTURE_BYTES = 1.24, 13_700  # docs/scale.md: the doctor's decoding of a JPEG
# A GPU, by assumption: operations and bytes per second that are reached (a third of TF32's peak, half of the memory's).
GPU_FLOPS, GPU_BYTES = 150e12, 2.4e12


@dataclass(frozen=True)
class Cost:
    """One stage.

    Attributes:
        name: what runs.
        where: on which machines.
        seconds: of a processor, or of GPUs.
        width: how many cores or GPUs work at once.
        memory: bytes per machine; 0 where it does not grow.
        moved: bytes read, written and sent, in all.
        gpu: whether the seconds are a GPU's.
    """

    name: str
    where: str
    seconds: float
    width: int
    memory: float
    moved: float
    gpu: bool = False


def at_size(lines: Lines, size: str, value: str, amount: float) -> float:
    """A measured value at a larger size: by the power or the straight line of the two largest, whichever is more."""
    found = sorted(points(lines, size, lambda line: line[value]))
    (before, less), (largest, last) = found[-2:]
    line = last + (last - less) * (amount - largest) / (largest - before)
    return max(line, last * math.exp(growth(found) * math.log(amount / largest)))


def stages(figures: dict[str, Any]) -> list[Cost]:
    """Every stage, one after another."""
    many = figures["prepare_many_ids"]
    prepared, examined = stage(many, "prepare"), stage(many, "examine")
    log = stage(many, "generate")[-1]["log_mb"] * 2**20 / many[-1]["rows"] * INTERACTIONS
    dataset = 17 * INTERACTIONS  # user, item, time and part, before compression
    pictures = ITEMS * PICTURE_BYTES
    read, step, model = figures["step"], exchange_of(figures), figures["models"]["sharded step"]
    steps = EPOCHS * TARGETS / step["targets"]
    exchanged = model["fixed_seconds"] + step["rows"] * model["seconds_per_million_rows"] / 1e6
    exchanged += step["sent"] * model["seconds_per_gb_sent"] / 2**30
    one_step = at_size(read, "items", "cpu_ms", ITEMS) / 1e3
    table = ITEMS * DIM * 4
    user = at_size(figures["evaluate"], "items", "cpu_s", ITEMS) / figures["evaluate"][-1]["users"]
    gpu_bytes = USERS * (2.0 * ITEMS * 4 + table / 256)  # scores written and read; the table once for 256 users
    exact_gpu = 2.0 * USERS * ITEMS * DIM / GPU_FLOPS + gpu_bytes / GPU_BYTES
    search = figures["search"]
    return [
        Cost(
            "prepare",
            "one machine, one stream",
            at_size(prepared, "rows", "cpu_s", INTERACTIONS),
            1,
            at_size(prepared, "rows", "peak_gb", INTERACTIONS) * 1e9,
            log + dataset,
        ),
        Cost(
            "doctor, without pictures",
            "the same",
            at_size(examined, "rows", "cpu_s", INTERACTIONS),
            1,
            at_size(examined, "rows", "peak_gb", INTERACTIONS) * 1e9,
            dataset,
        ),
        Cost("doctor, pictures", "the same, 8 threads", ITEMS * DECODED_MS / 1e3, 8, 0, pictures),
        Cost(
            "encode texts",
            f"{CORES} cores, by Ray",
            ITEMS / TEXTS_PER_SECOND,
            CORES,
            0,
            ITEMS * (200 + 4 * TEXT_WIDTH),
        ),
        Cost(
            "encode pictures",
            f"{CORES} cores, by Ray",
            ITEMS / PICTURES_PER_SECOND,
            CORES,
            0,
            pictures + ITEMS * 4 * PICTURE_WIDTH,
        ),
        Cost(
            f"train, {EPOCHS} epochs",
            f"{WORKERS} workers, the table divided",
            steps * (one_step + exchanged),
            WORKERS,
            WORKERS / MACHINES * (3 * table / WORKERS + 1e9),
            steps * step["sent"],
        ),
        Cost(
            f"evaluate, {TESTED_USERS:,} users",
            f"{CORES} cores, {WORKERS} workers of Ray",
            TESTED_USERS * user,
            CORES,
            WORKERS / MACHINES * (table + 2**30),
            WORKERS * table,
        ),
        Cost(
            "recommend to everybody, exactly",
            f"{CORES} cores, {WORKERS} workers of Ray",
            USERS * at_size(figures["recommend"], "items", "cpu_s", ITEMS) / figures["recommend"][-1]["users"],
            CORES,
            WORKERS / MACHINES * (table + 2**30),
            WORKERS * table + USERS * 10 * 12,
        ),
        Cost("the same on GPUs (computed)", "8 GPUs, by Ray", exact_gpu, 8, table, USERS * 10 * 12, gpu=True),
        Cost(
            "index of the service",
            "each machine that serves",
            at_size(search, "items", "faiss_build_s", ITEMS),
            1,
            at_size(search, "items", "peak_gb", ITEMS) * 2**30,
            table,
        ),
    ]


def exchange_of(figures: dict[str, Any]) -> dict[str, float]:
    """Of one step of one worker: targets, rows read from the table (inputs, targets and negatives), bytes sent."""
    targets = figures["step"][-1]["targets"]
    rows = 2 * targets + 512
    each = rows * (8 + 2 * 4 * DIM) + 2 * ENCODER_BYTES
    return {"targets": targets, "rows": rows, "sent": each * (WORKERS - 1) / WORKERS}


def unit_costs(figures: dict[str, Any]) -> list[tuple[str, str, float, str]]:
    """Stage, what a million is counted of, seconds of a core, and memory: at the largest sizes measured."""

    def per_million(lines: Lines, name: str) -> float:
        return float(stage(lines, name)[-1]["cpu_s"] / stage(lines, name)[-1]["rows"] * 1e6)

    def slope(lines: Lines, name: str) -> str:
        before, after = stage(lines, name)[-2:]
        return f"{(after['peak_gb'] - before['peak_gb']) * 1e9 / (after['rows'] - before['rows']):.0f} MB"

    few, many = figures["prepare"], figures["prepare_many_ids"]
    search, step = figures["search"][-1], figures["step"][-1]
    index_memory = f"{search['peak_gb'] / search['items'] * 1e9:,.0f} MB"
    evaluated, recommended = (
        one["cpu_s"] / one["users"] / one["items"] * 1e12
        for one in (figures[name][-1] for name in ("evaluate", "recommend"))
    )
    found = search["faiss_ms"] / search["items"] * 1e9
    return [
        ("prepare, 100 rows per user", "rows", per_million(few, "prepare"), slope(few, "prepare")),
        ("prepare, 10 rows per user", "rows", per_million(many, "prepare"), slope(many, "prepare")),
        ("doctor, 10 rows per user", "rows", per_million(many, "examine"), slope(many, "examine")),
        ("doctor, pictures", "pictures", DECODED_MS * 1e3, "-"),
        ("encode texts of 200 characters", "items", 1e6 / TEXTS_PER_SECOND, f"{4 * TEXT_WIDTH:,} MB on disk"),
        ("encode pictures", "items", 1e6 / PICTURES_PER_SECOND, f"{4 * PICTURE_WIDTH:,} MB on disk"),
        ("train sasrec, 64 numbers", "targets", step["cpu_ms"] / step["targets"] * 1e3, "768 MB per million items"),
        ("evaluate at a million items", "users", evaluated, "256 MB per million items"),
        ("recommend at a million items", "users", recommended, "256 MB per million items"),
        ("make the index", "items", search["faiss_build_s"] / search["items"] * 1e6, index_memory),
        ("serve at a million items, FAISS", "requests", found, "the same"),
    ]


def written(cost: Cost, core_hour: float, gpu_hour: float) -> str:
    """A row of the table."""
    hours = cost.seconds / 3600
    dollars = hours * (gpu_hour if cost.gpu else core_hour)
    unit = "GPU-h" if cost.gpu else "core-h"
    memory = f"{cost.memory / 1e9:,.1f} GB" if cost.memory else "1 GB per core"
    cells = (
        cost.name,
        cost.where,
        f"{rounded(hours)} {unit}",
        f"{rounded(hours / cost.width)} h",
        memory,
        f"{rounded(cost.moved / 1e9)} GB",
        f"${rounded(dollars)}",
    )
    return f"| {' | '.join(cells)} |"


def rounded(value: float) -> str:
    """Two figures: nothing here is known better."""
    digits = 1 - math.floor(math.log10(value))
    return f"{round(value, digits):,.{max(digits, 0)}f}"


def tables(core_hour: float = 0.05, gpu_hour: float = 3.0) -> list[str]:
    """The lines of both tables."""
    figures = read_figures()
    lines = ["| stage | per million | processor | memory | price |", "|---|---|---|---|---|"]
    for name, of, seconds, memory in unit_costs(figures):
        price = f"{float(f'{seconds / 3600 * core_hour:.2g}'):.7f}".rstrip("0")
        lines.append(f"| {name} | {of} | {rounded(seconds)} s | {memory} | ${price} |")
    lines += ["", "| stage | where | work | time | memory | bytes moved | price |", "|---|---|---|---|---|---|---|"]
    return lines + [written(cost, core_hour, gpu_hour) for cost in stages(figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--core-hour", type=float, default=0.05, help="dollars")
    parser.add_argument("--gpu-hour", type=float, default=3.0, help="dollars")
    options = parser.parse_args()
    print("\n".join(tables(options.core_hour, options.gpu_hour)))


if __name__ == "__main__":
    main()
