"""Train every arm of a recipe with every seed, then evaluate them in one table. Interrupted, it goes on.

    python benchmarks/arms.py recipes/ml-100k-pictures.toml DATASET --seeds 0,1,2 --out runs/pictures [--split valid]

The recipe has a table ``[train]`` with what the arms share (as for ``palate train``), a table ``[arm.NAME]`` for what
each changes, and a table ``[evaluate]`` with options of ``palate evaluate``. The first arm is the base.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from palate.cli.options import to_toml


def options_of(table: dict[str, Any]) -> list[str]:
    """The command-line words that stand for a table of a recipe."""
    words: list[str] = []
    for key, value in table.items():
        if isinstance(value, dict):
            value = dict(value)
            if "name" in value:  # [train.objective] name = "gbce" chooses, the rest are its settings
                words += [f"--{key}", value.pop("name")]
            words += [word for k, v in value.items() for word in ("--set", f"{key}.{k}={to_toml(v)}")]
        elif value is True:
            words.append(f"--{key}")
        elif isinstance(value, list) and key == "store":
            words += [word for item in value for word in ("--store", item)]
        else:
            words += [f"--{key}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words


def merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``change`` over it, section by section."""
    result = {**base, **change}
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = {**base[key], **value}
    return result


def palate(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "palate", *words], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", help="comma-separated arms")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    recipe = tomllib.loads(options.recipe.read_text())
    wanted = options.only.split(",") if options.only else list(recipe["arm"])
    rows: dict[str, list[str]] = {}
    for name in wanted:
        for seed in options.seeds.split(","):
            run = options.out / f"{name}-{seed}"
            rows.setdefault(name, []).append(str(run))
            table = merged(recipe["train"], recipe["arm"][name])
            words = ["train", str(options.dataset), "--out", str(run), "--seed", seed, "--resume"]
            palate(*words, *options_of(table))
    groups = [f"{name}={','.join(runs)}" for name, runs in rows.items()]
    palate(
        "evaluate",
        *groups,
        *("--split", options.split, "--out", str(options.out / options.split)),
        *options_of(recipe.get("evaluate", {})),
    )


if __name__ == "__main__":
    main()
