"""``palate train``: a dataset becomes a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, Seed, Set, parse_assignments
from palate.errors import PalateError


def train(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")],
    model: Annotated[
        str, typer.Option(help="popularity, item-knn, content-knn, gru4rec, sasrec, or a plug-in's name.")
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder of the new run.")],
    modalities: Annotated[
        str,
        typer.Option(
            metavar="id,text,image,fields",
            help="What an item's vector is made of; auto: ids, and the texts and pictures that are encoded.",
        ),
    ] = "auto",
    missing: Annotated[
        str, typer.Option(metavar="{learned,mean,zeros}", help="What stands for an absent text or picture.")
    ] = "learned",
    store: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=NAME", help="Take another feature store than features/MODALITY. Repeatable."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="cross-entropy, sampled-softmax, gbce, bpr, or a plug-in's name.")
    ] = "cross-entropy",
    neighbours: Annotated[
        str,
        typer.Option(
            metavar="co-occurrence,lexical",
            help="What is nearest to the newest items adds to the scores; auto: by the log and all that is encoded.",
        ),
    ] = "auto",
    encoder_ffn: Annotated[
        str | None,
        typer.Option(
            metavar="{dense,moe}", help="Feed-forward layers of sasrec: one network, or a mixture of experts."
        ),
    ] = None,
    experts: Annotated[int | None, typer.Option(min=1, help="With moe: networks in each block (default: 4).")] = None,
    active: Annotated[
        int | None, typer.Option(min=1, help="With moe: networks that each item passes through (default: 1).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="At most so many (default: trainer.epochs).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda (default: trainer.device).")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: torch's choice).")] = None,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Take the weights of this run: go on with new logs.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")] = False,
    seed: Seed = 0,
    set_: Set = None,
    config: ConfigFile = None,
) -> None:
    """Train a recommender on a dataset's training split.

    The best epoch on the validation split is kept. Killed at any moment, the same command with --resume goes on and
    ends with the same numbers.
    """
    import torch

    from palate.cli.shared.content import AUTO, NONE, choose_content
    from palate.data.dataset import Dataset
    from palate.features.folders import open_features
    from palate.training.fit import train as fit

    settings = train_settings(
        list(set_ or []),
        model,
        epochs=epochs,
        device=device,
        encoder_ffn=encoder_ffn,
        experts=experts,
        active=active,
    )
    if threads is not None:
        torch.set_num_threads(threads)
    data = Dataset.load(dataset)
    content = choose_content(model, dataset, len(data.catalogue), modalities, neighbours, warm_start)
    if content.whiten is not None:
        settings["ranker"] = {"whiten": content.whiten, **settings.get("ranker", {})}
    features = open_features(dataset, data.catalogue, content.modalities, store or [])
    if AUTO in (modalities, neighbours) and len(content.modalities + content.neighbours) > 1:
        near = ",".join(content.neighbours) or NONE
        print(f"Content: --modalities {','.join(content.modalities)} --neighbours {near}", file=sys.stderr)
    run = fit(
        data,
        model=model,
        out=out,
        seed=seed,
        modalities=content.modalities,
        missing=missing,
        objective=objective,
        neighbours=content.neighbours,
        settings=settings,
        features=features,
        dataset_path=dataset,
        warm_start=warm_start,
        resume=resume,
    )
    _report(run.info, out)


def train_settings(
    assignments: list[str],
    model: str,
    *,
    epochs: int | None = None,
    device: str | None = None,
    encoder_ffn: str | None = None,
    experts: int | None = None,
    active: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings by section: those of ``--set`` with the options over them."""
    settings: dict[str, dict[str, Any]] = parse_assignments(assignments)
    trainer = settings.setdefault("trainer", {})
    if epochs is not None:
        trainer["epochs"] = epochs
    if device is not None:
        trainer["device"] = device
    if not trainer:
        del settings["trainer"]
    encoder = {"encoder-ffn": encoder_ffn, "experts": experts, "active": active}
    if any(value is not None for value in encoder.values()):
        settings["ranker"] = {**settings.get("ranker", {}), **_encoder_settings(model, encoder)}
    return settings


def _encoder_settings(model: str, given: dict[str, Any]) -> dict[str, Any]:
    """The ranker's settings that the options of the encoder stand for.

    Raises:
        PalateError: the model has no such layers, or no such kind of layer exists.
    """
    from palate.rankers.registry import RANKERS

    options = {name: value for name, value in given.items() if value is not None}
    config = getattr(RANKERS[model], "Config", None)
    if "ffn" not in getattr(config, "model_fields", {}):
        raise PalateError(
            f"--{next(iter(options))}: {model} has no feed-forward layers to choose", "Leave it out, or train sasrec."
        )
    kind = options.get("encoder-ffn", "moe")
    if kind not in ("dense", "moe"):
        raise PalateError(f"--encoder-ffn {kind}: no such layer", "Choose dense or moe.")
    return {"ffn" if name == "encoder-ffn" else name: value for name, value in options.items()}


def _report(info: dict[str, Any], out: Path) -> None:
    from palate.console import open_console

    console = open_console()
    best = info.get("best")
    if best:
        numbers = ", ".join(f"{k} {v:.4f}" for k, v in best.items() if "@" in k)
        console.print(f"Best epoch {best['epoch']} of {info['epochs']} on validation: {numbers}")
    console.print(f"Run: {out}  (next: palate evaluate {out})", soft_wrap=True)
