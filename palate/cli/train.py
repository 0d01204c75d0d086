"""``palate train``: a dataset becomes a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput, NewRun, Seed, Threads, set_threads
from palate.cli.shared.output import print_json_made
from palate.console import print_note
from palate.errors import PalateError


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
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Folder made by `palate prepare`.")],
    *,
    model: Annotated[
        str, typer.Option(help="popularity, item-knn, ease, ials, content-knn, gru4rec, sasrec, or a plug-in's name.")
    ],
    out: NewRun,
    modalities: Annotated[
        str,
        typer.Option(
            metavar="id,text,image,fields",
            help="What an item's vector is made of; auto: ids, and the texts and pictures that are encoded.",
        ),
    ] = "auto",
    missing: Annotated[
        str, typer.Option(metavar="{learned,mean,zeros}", help="What replaces an absent text or picture.")
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
    settings: Settings,
    threads: Threads = None,
    warm_start: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Take the weights of this run: go on with new logs.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")] = False,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    seed: Seed = 0,
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

    check_layers(model, settings)
    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    if chosen.restarts and not resume:  # workers that are started again resume
        check_new(out)
    call = partial(
        fit_from_folder,
        dataset,
        modalities=modalities,
        neighbours=neighbours,
        stores=store or [],
        threads=threads,
        model=model,
        out=out,
        seed=seed,
        missing=missing,
        objective=objective,
        settings=settings,
        warm_start=warm_start,
        resume=resume or chosen.restarts,
    )
    with chosen:
        chosen.together(call, out.parent / f".{out.name}.workers", [dataset])
    _report(Run.open(out).info, out, json_)


def fit_from_folder(
    dataset: Path,
    *,
    modalities: str,
    neighbours: str,
    stores: list[str],
    threads: int | None,
    model: str,
    settings: Settings,
    warm_start: Path | None,
    **options: Any,
) -> None:
    """Open a dataset and its features, and train: the whole of the command but its report, in each worker.

    Args:
        options: of :func:`palate.training.fit.train`, as all that is not named in the command's own terms.
    """
    from palate.cli.shared.content import AUTO, NONE, choose_content
    from palate.data.dataset import Dataset
    from palate.data.streamed import StreamedDataset
    from palate.features.folders import open_features
    from palate.training.config import TrainerConfig
    from palate.training.fit import train as fit

    set_threads(threads)
    streamed = bool(TrainerConfig.parse(settings.get("trainer", {}), where="settings [trainer]").stream)
    data = StreamedDataset.open(dataset) if streamed else Dataset.load(dataset)
    if streamed and neighbours == AUTO:
        neighbours = NONE
    content = choose_content(model, dataset, len(data.catalogue), modalities, neighbours, warm_start)
    if content.whiten is not None:
        settings["ranker"] = {"whiten": content.whiten, **settings.get("ranker", {})}
    features = open_features(dataset, data.catalogue, content.modalities, stores)
    if AUTO in (modalities, neighbours) and len(content.modalities + content.neighbours) > 1:
        near = ",".join(content.neighbours) or NONE
        print_note(f"Content: --modalities {','.join(content.modalities)} --neighbours {near}")
    fit(
        data,
        model=model,
        modalities=content.modalities,
        neighbours=content.neighbours,
        settings=settings,
        features=features,
        dataset_path=dataset,
        warm_start=warm_start,
        **options,
    )


def check_layers(model: str, settings: Settings) -> None:
    """Refuse to choose feed-forward layers of a model that has none to choose."""
    from palate.rankers.registry import RANKERS

    known = getattr(getattr(RANKERS[model], "Config", None), "model_fields", {})
    for name in ("ffn", "experts", "active"):
        if name in settings.get("ranker", {}) and "ffn" not in known:
            option = "--encoder-ffn" if name == "ffn" else f"--{name}"
            raise PalateError(
                f"{option}: {model} has no feed-forward layers to choose", "Leave it out, or train sasrec."
            )


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
        numbers = ", ".join(f"{k} {v:.4f}" for k, v in best.items() if "@" in k)
        console.print(f"Best epoch {best['epoch']} of {info['epochs']} on validation: {numbers}")
    console.print(f"Run: {out}  (next: palate evaluate {out})", soft_wrap=True)
