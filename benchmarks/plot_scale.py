"""Draw how cost grows with interactions and with items: ``benchmarks/scale.json`` as ``docs/pictures/scale.png``.

    python benchmarks/plot_scale.py

The JSON holds what the benchmarks printed (docs/experiments.md, "Scale", has their commands). Printed are the exponents
of growth between the two largest sizes: 1 is linear, 0 does not grow.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from palate.plots import COLOURS, GREY, picture

HERE = Path(__file__).resolve().parent
Lines = Sequence[dict[str, Any]]
Series = dict[str, list[tuple[float, float]]]


def read_figures(path: Path = HERE / "scale.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def points(lines: Lines, size: str, value: Callable[[dict[str, Any]], float]) -> list[tuple[float, float]]:
    return [(float(line[size]), value(line)) for line in lines]


def stage(lines: Lines, name: str) -> Lines:
    return [line for line in lines if line["stage"] == name]


def growth(series: list[tuple[float, float]]) -> float:
    """The exponent between the two largest sizes."""
    (size, value), (larger, more) = sorted(series)[-2:]
    return math.log(more / value) / math.log(larger / size)


def panels(figures: dict[str, Any]) -> dict[tuple[str, str], Series]:
    """Title and unit of each panel, and its lines."""
    prepared, many = figures["prepare"], figures["prepare_many_ids"]
    names = ("evaluate", "recommend", "step", "search")
    evaluated, recommended, steps, searched = (figures[name] for name in names)
    logs = {
        "prepare, 100 rows per user": stage(prepared, "prepare"),
        "prepare, 10 rows per user": stage(many, "prepare"),
        "doctor, 100 rows per user": stage(prepared, "examine"),
    }
    return {
        ("interactions", "CPU seconds"): {
            name: points(lines, "rows", lambda line: line["cpu_s"]) for name, lines in logs.items()
        },
        ("interactions", "peak memory, GB"): {
            name: points(lines, "rows", lambda line: line["peak_gb"]) for name, lines in logs.items()
        },
        ("items", "CPU milliseconds"): {
            "a training step, 2,000 targets": points(steps, "items", lambda line: line["cpu_ms"]),
            "evaluating one user": points(evaluated, "items", lambda line: 1e3 * line["cpu_s"] / line["users"]),
            "recommending to one user": points(recommended, "items", lambda line: 1e3 * line["cpu_s"] / line["users"]),
            "FAISS, one request": points(searched, "items", lambda line: line["faiss_ms"]),
        },
        ("items", "peak memory, GB "): {
            "a training step (dense table)": points(steps, "items", lambda line: line["peak_mb"] / 1024),
            "evaluation": points(evaluated, "items", lambda line: line["peak_gb"]),
            "FAISS": points(searched, "items", lambda line: line["peak_gb"]),
        },
    }


def draw(shown: dict[tuple[str, str], Series], out: Path) -> None:
    with picture(out, 10, 7) as figure:
        for axes, ((size, unit), series) in zip(figure.subplots(2, 2).flat, shown.items(), strict=True):
            for (name, found), colour in zip(series.items(), COLOURS, strict=False):
                axes.plot(*zip(*found, strict=True), marker="o", markersize=4, color=colour, label=name)
            largest = max(found[-1] for found in series.values())
            smallest = min(found[0][0] for found in series.values())
            line = [(smallest, largest[1] * smallest / largest[0]), largest]
            axes.plot(*zip(*line, strict=True), color=GREY, linestyle=":", linewidth=1, label="linear")
            axes.set(xscale="log", yscale="log", xlabel=size, ylabel=unit.strip())
            values = [value for found in series.values() for _, value in found]
            axes.set_ylim(min(values) / 2, max(values) * 10)  # with room for the legend
            axes.grid(True)
            axes.legend(loc="upper left")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "pictures" / "scale.png")
    options = parser.parse_args()
    shown = panels(read_figures())
    draw(shown, options.out)
    for (size, unit), series in shown.items():
        for name, found in series.items():
            print(f"{unit.strip()} by {size}: {name}: to the power {growth(found):.2f}")


if __name__ == "__main__":
    main()
