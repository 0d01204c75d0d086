"""What the commands of ``palate mllm`` share: the extra, threads, and what is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.cli.shared.output import print_json_made
from palate.console import counted
from palate.errors import PalateError
from palate.progress import say


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
    say(f"{figures}{seconds}{speed}")


def report(info: dict[str, Any], out: Path, json_: bool) -> bool:
    """Print what a training has come to; whether this process is one that prints it for people."""
    from palate.console import open_console, print_warning
    from palate.runs.launch import is_first_worker

    if not is_first_worker():  # which prints for all
        return False
    if info.get("unreadable_pictures"):
        lost = counted(info["unreadable_pictures"], "picture")
        print_warning(open_console(stderr=True), f"{lost} could not be shown: counted as missing (--missing-image).")
    for warning in info.get("alignment", {}).get("warnings", []):
        print_warning(open_console(stderr=True), warning)
    if json_:
        print_json_made(out, info)
        return False
    console = open_console()
    best, metric = info["best"], info["metric"]
    console.print(
        f"Best validation at epoch {best['epoch']:.2f} of {info['epochs']}: {metric} {best[metric]:.4f}", soft_wrap=True
    )
    if not best["step"]:
        console.print("No step improved on the model as it came: its adapter does nothing.", soft_wrap=True)
    console.print(
        f"Run: {out}  (curve: {out}/learning-curve.png; next: palate evaluate {out} --protocol sampled)", soft_wrap=True
    )
    return True
