"""``palate align``: a trained run becomes one that is aligned on preferences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, Set, parse_assignments
from palate.errors import PalateError


def align(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run of sasrec or gru4rec.")],
    out: Annotated[Path, typer.Option(metavar="RUN2", help="Folder of the new run.")],
    objective: Annotated[
        str,
        typer.Option(
            help="dpo, cdpo, s-dpo, dmpo, ipo, simpo, hanorec; bpr and softmax (controls without a reference); none "
            "(cross-entropy goes on alone); or a plug-in's name."
        ),
    ] = "dpo",
    negatives: Annotated[
        str,
        typer.Option(
            help="How rejected items are chosen: uniform, popularity, in-batch, hard, top-k, mixed, disliked; or a "
            "plug-in's name."
        ),
    ] = "top-k",
    pool_k: Annotated[
        str | None, typer.Option(metavar="N|all", help="Size of the pool of top-k and mixed (default 20).")
    ] = None,
    num_negatives: Annotated[int | None, typer.Option(min=1, help="Rejected items a pair (default 1).")] = None,
    beta: Annotated[
        float | None, typer.Option(help="Scale of the preference logit (default: the objective's).")
    ] = None,
    weight: Annotated[
        float | None, typer.Option(min=0, help="Of the preference loss beside cross-entropy (default 1).")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, help="Draw inside the pool by softmax(score / temperature); 0: uniformly.")
    ] = None,
    mask_future_train: Annotated[
        bool, typer.Option("--mask-future-train", help="Never reject what the user takes later in training.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many passes (default 3).")] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="RUN0", help="Another frozen reference than RUN itself.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the run met it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda (default: as the run was trained).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted alignment in --out.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random (default: the run's).")] = None,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Align a trained ranker on preferences: chosen items against rejected ones, beside cross-entropy.

    The part of an epoch with the best validation is kept, the start included; diagnostics are written as numbers and
    as a picture.
    """
    import torch

    from palate.alignment.align import align as fit

    settings = align_settings(
        list(set_ or []),
        pool_k=pool_k,
        num_negatives=num_negatives,
        beta=beta,
        weight=weight,
        temperature=temperature,
        mask_future_train=mask_future_train,
        epochs=epochs,
        device=device,
    )
    if threads is not None:
        torch.set_num_threads(threads)
    aligned = fit(
        run,
        out=out,
        objective=objective,
        negatives=negatives,
        seed=seed,
        settings=settings,
        reference=reference,
        dataset_path=dataset,
        resume=resume,
    )
    _report(aligned.info, out)


def align_settings(
    assignments: list[str],
    *,
    pool_k: str | None = None,
    num_negatives: int | None = None,
    beta: float | None = None,
    weight: float | None = None,
    temperature: float | None = None,
    mask_future_train: bool = False,
    epochs: int | None = None,
    device: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings by section: those of ``--set`` with the options over them."""
    settings: dict[str, dict[str, Any]] = parse_assignments(assignments)
    given: dict[str, dict[str, Any]] = {
        "preference": {"beta": beta},
        "negatives": {
            "pool_k": None if pool_k is None else _pool(pool_k),
            "num_negatives": num_negatives,
            "temperature": temperature,
            "mask_future": mask_future_train or None,
        },
        "align": {"weight": weight},
        "trainer": {"epochs": epochs, "device": device},
    }
    for section, values in given.items():
        told = {key: value for key, value in values.items() if value is not None}
        if told:
            settings[section] = {**settings.get(section, {}), **told}
    return settings


def _pool(word: str) -> int | str:
    if word == "all":
        return word
    if not word.isdigit() or int(word) < 1:
        raise PalateError(f"--pool-k {word}: not a size", "Give a whole number of at least 1, or all.")
    return int(word)


def _report(info: dict[str, Any], out: Path) -> None:
    from palate.console import open_console, print_warning

    console = open_console()
    best = info["best"]
    numbers = ", ".join(f"{k} {v:.4f}" for k, v in best.items() if "@" in k)
    console.print(f"Best validation after epoch {best['epoch']} of {info['epochs']}: {numbers}", soft_wrap=True)
    if not best["epoch"]:
        console.print("No step improved on the run that it started from: its weights are kept.", soft_wrap=True)
    for warning in info.get("alignment", {}).get("warnings", []):
        print_warning(console, warning)
    pictures = f"{out}/alignment.png" if "alignment" in info else f"{out}/learning-curve.png"
    console.print(f"Run: {out}  (diagnostics: {pictures}; next: palate evaluate {out})", soft_wrap=True)
