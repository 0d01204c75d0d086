"""``palate train``: a dataset becomes a run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, Threads, set_threads
from palate.cli.shared.output import print_json_made
from palate.errors import PalateError

# Defaults of options that a refit takes from its run.
_USUAL = {"modalities": "auto", "missing": "learned", "objective": "cross-entropy", "neighbours": "auto"}


@from_config(
    Fields(
        "palate.rankers.sasrec:SASRecConfig",
        *("ffn", "experts", "active"),
        section="ranker",
        spelled={"ffn": "--encoder-ffn"},
    ),
    Fields("palate.training.config:TrainerConfig", "epochs", "device", section="trainer"),
)
def train(
    dataset: Annotated[
        Path | None, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.", show_default=False)
    ] = None,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Folder of the new run.", show_default=False)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="popularity, item-knn, ease, ials, content-knn, gru4rec, sasrec, bert4rec, hstu, tiger, or that of a "
            "plug-in."
        ),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Train the model of this run, with its settings and its best number of epochs, on all interactions: "
            "nothing is held out.",
        ),
    ] = None,
    modalities: Annotated[
        str,
        typer.Option(
            metavar="id,text,image,fields",
            help="What an item's vector is made of; auto: ids, and the texts and pictures that are encoded.",
        ),
    ] = _USUAL["modalities"],
    missing: Annotated[
        str, typer.Option(metavar="{learned,mean,zeros}", help="What replaces an absent text or picture.")
    ] = _USUAL["missing"],
    store: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=NAME", help="Take another feature store than features/MODALITY. Repeatable."),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="cross-entropy, sampled-softmax, gbce, bpr, or a plug-in's name.")
    ] = _USUAL["objective"],
    neighbours: Annotated[
        str,
        typer.Option(
            metavar="co-occurrence,lexical",
            help="What is nearest to the newest items adds to the scores; auto: by the log and all that is encoded.",
        ),
    ] = _USUAL["neighbours"],
    settings: Settings,
    threads: Threads = None,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Take the weights of this run: go on with new logs.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")] = False,
    finish: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN", help="End this training and keep its best epoch so far, also from another terminal."
        ),
    ] = None,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of everything random (default: 0; with --refit the run's).")
    ] = None,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Train a recommender on a dataset's training split.

    The best epoch on the validation split is saved. Killed at any moment, the same command with --resume goes on and
    ends with the same numbers.

    For example: palate train data/ml-100k --model sasrec --epochs 20 --out runs/sasrec
    """
    from palate.engines import make_engine
    from palate.runs.run import Run, check_new

    if finish is not None:
        _finish(finish, dataset, threads, others=[out, model, refit, warm_start, resume, settings], json_=json_)
        return
    if dataset is None or out is None:
        lacking = "DATASET" if dataset is None else "--out"
        raise PalateError(f"{lacking} is missing", "palate train DATASET --model sasrec --out RUN")
    if refit is not None:
        check_refit(model=model, modalities=modalities, missing=missing, objective=objective, neighbours=neighbours)
    elif model is None:
        raise PalateError("--model is missing", "Name one, such as --model sasrec; or give --refit RUN.")
    else:
        check_layers(model, settings)
    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    if chosen.restarts and not resume:  # workers that are started again resume
        check_new(out)
    shared: dict[str, Any] = {
        "stores": store or [],
        "threads": threads,
        "out": out,
        "settings": settings,
        "warm_start": warm_start,
        "resume": resume or chosen.restarts,
    }
    if refit is not None:
        call = partial(refit_from_folder, dataset, refit, seed=seed, **shared)
    else:
        shared |= {"model": model, "modalities": modalities, "missing": missing}
        shared |= {"objective": objective, "neighbours": neighbours, "seed": seed or 0}
        call = partial(fit_from_folder, dataset, **shared)
    with chosen, nullcontext() if chosen.in_process else _progress_of(out, settings):
        chosen.together(call, out.parent / f".{out.name}.workers", [dataset])
    _report(Run.open(out).info, out, json_)


def _progress_of(out: Path, settings: Settings) -> AbstractContextManager[None]:
    """Reports the epochs of a run that other processes train."""
    from palate.training.config import TrainerConfig
    from palate.training.follow import reported

    return reported(out, TrainerConfig.parse(settings.get("trainer", {}), where="settings [trainer]"))


def fit_from_folder(
    dataset: Path,
    *,
    modalities: str,
    neighbours: str,
    threads: int | None,
    settings: Settings,
    **options: Any,
) -> None:
    """Open a dataset and train: the whole of the command but its report, in each worker.

    Args:
        options: of :func:`palate.training.fit.train`, as all that is not named in the command's own terms.
    """
    from palate.cli.shared.content import listed_or_auto
    from palate.data.dataset import Dataset
    from palate.data.streamed import StreamedDataset
    from palate.training.config import TrainerConfig
    from palate.training.fit import train as fit

    set_threads(threads)
    streamed = TrainerConfig.parse(settings.get("trainer", {}), where="settings [trainer]").stream
    data = StreamedDataset.open(dataset) if streamed else Dataset.load(dataset)
    fit(
        data,
        modalities=listed_or_auto(modalities),
        neighbours=listed_or_auto(neighbours),
        settings=settings,
        dataset_path=dataset,
        **options,
    )


def refit_from_folder(dataset: Path, run: Path, *, threads: int | None, **options: Any) -> None:
    """Open a dataset, and train a run's recipe on all of it, in each worker.

    Args:
        options: of :func:`palate.training.refit.refit`.
    """
    from palate.data.dataset import Dataset
    from palate.rankers.blend import Blend
    from palate.runs.run import Run
    from palate.training.blend_refit import refit_blend
    from palate.training.refit import refit

    set_threads(threads)
    start = Run.open(run)
    again = refit_blend if start.info["model"] == Blend.name else refit
    again(start, Dataset.load(dataset), dataset_path=dataset, **options)


def _finish(run: Path, dataset: Path | None, threads: int | None, others: list[object], json_: bool) -> None:
    """End a training early, and say what was done."""
    from palate.console import open_console
    from palate.training.finish import finish

    if any(others):
        raise PalateError(f"--finish ends the training of {run} as it is", "Leave out the other options.")
    set_threads(threads)
    made = finish(run, dataset_path=dataset)
    console = open_console()
    if made.finished:
        _report(made.info, run, json_)
    elif json_:
        print_json_made(run, made.info)
    else:
        resumed = ", or at once when it is resumed" if "alignment" in made.info["options"] else ""
        console.print(f"{run} ends after its next validation{resumed}, and keeps its best epoch.", soft_wrap=True)


def check_refit(*, model: str | None, **options: str) -> None:
    """Refuse options that say again, or otherwise, what the run that is refitted says."""
    wrong = ["model"] if model is not None else [name for name, one in options.items() if one != _USUAL[name]]
    if wrong:
        raise PalateError(
            f"--{wrong[0]} contradicts --refit, which takes model and settings from its run",
            f"Leave out --{wrong[0]}, or train with it and validate first.",
        )


def check_layers(model: str, settings: Settings) -> None:
    """Refuse to choose feed-forward layers of a model that has none to choose."""
    from palate.rankers.registry import RANKERS
    from palate.rankers.trained import TrainedRanker

    kind = RANKERS[model]
    known = kind.Config.model_fields if issubclass(kind, TrainedRanker) else {}
    for name in ("ffn", "experts", "active"):
        if name in settings.get("ranker", {}) and "ffn" not in known:
            option = "--encoder-ffn" if name == "ffn" else f"--{name}"
            raise PalateError(
                f"{option}: {model} has no feed-forward layers to choose", "Leave it out, or train sasrec."
            )


def _shown_metrics(metrics: dict[str, Any]) -> str:
    """``NDCG@10 0.0565, HitRate@10 0.1043``."""
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if "@" in name)


def _report(info: dict[str, Any], out: Path, json_: bool) -> None:
    from palate.console import open_console
    from palate.runs.launch import is_first_worker

    if not is_first_worker():  # which prints for all
        return
    if json_:
        print_json_made(out, info)
        return
    console = open_console()
    best = info.get("best")
    if best:
        near = info.get("neighbours") or {}
        numbers = _shown_metrics(near.get("before", best))
        console.print(f"Best epoch {best['epoch']} of {info['epochs']} on validation: {numbers}")
        if near.get("strength"):
            console.print(f"With neighbours, fitted on the same users: {_shown_metrics(near['after'])}", soft_wrap=True)
    early = info.get("ended_early")
    if early:
        console.print(f"Ended early, after epoch {early['epoch']} of {early['of']}, by {early['by']}.")
    following = f"palate evaluate {out}"
    if "refit" in info:
        epochs = f" (epochs: {info['epochs']})" if "epochs" in info else ""
        console.print(f"Trained on all interactions{epochs}: nothing is held out.")
        following = f"palate gate OLD {out} --dataset LATER, or palate bundle {out}"
    console.print(f"Run: {out}  (next: {following})", soft_wrap=True)
