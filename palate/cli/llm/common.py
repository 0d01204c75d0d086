"""What the commands of ``palate mllm`` share: the extra, threads, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from palate.errors import PalateError


def need_extra() -> None:
    """Refuse before the dataset is read where the extra is not installed."""
    from importlib.util import find_spec

    for package in ("transformers", "peft", "trl", "datasets"):
        if find_spec(package) is None:
            raise PalateError(f"language models need the package '{package}'", "pip install 'palate[mllm]'")


def log_row(row: dict[str, Any]) -> None:
    """One line per validation, on standard error."""
    metric = next(name for name in ("AUC", "accuracy") if name in row)
    loss = f"  loss {row['loss']:.4f}" if "loss" in row else ""
    speed = f"  {row['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in row else ""
    figures = f"epoch {row['epoch']:.2f}{loss}  {metric} {row[metric]:.4f}  valid_loss {row['valid_loss']:.4f}"
    seconds = f"  {row['train_seconds']:.1f} s + {row['eval_seconds']:.1f} s"
    typer.echo(f"{figures}{seconds}{speed}", err=True)


def report(info: dict[str, Any], out: Path) -> None:
    from palate.console import open_console, print_warning
    from palate.runs.launch import is_first_worker

    if not is_first_worker():  # which prints for all
        return
    console = open_console()
    best, metric = info["best"], info["metric"]
    console.print(
        f"Best validation at epoch {best['epoch']:.2f} of {info['epochs']}: {metric} {best[metric]:.4f}", soft_wrap=True
    )
    if not best["step"]:
        console.print("No step improved on the model as it came: its adapter does nothing.", soft_wrap=True)
    if info["unreadable_pictures"]:
        print_warning(
            console,
            f"{info['unreadable_pictures']} pictures could not be shown; they count as missing (--missing-image).",
        )
    console.print(
        f"Run: {out}  (curve: {out}/learning-curve.png; next: palate evaluate {out} --protocol sampled)", soft_wrap=True
    )
