"""``palate encode``: item texts and pictures become features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.engine import Address, CPUs, EngineName, GPUs, WorkerCount
from palate.cli.shared.from_config import Fields, Settings, from_config
from palate.cli.shared.options import ConfigFile, JsonOutput
from palate.cli.shared.output import print_json_made

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.features.lexical_store import LexicalStore
    from palate.features.store import FeatureStore

    Store = FeatureStore | LexicalStore


@from_config(Fields("palate.features.request:EncodeRequest", spelled={"resume": "--resume/--anew"}))
def encode(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, as `palate prepare` makes it.")],
    settings: Settings,
    engine: EngineName = "local",
    address: Address = None,
    workers: WorkerCount = None,
    gpus_per_worker: GPUs = None,
    cpus_per_worker: CPUs = None,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Encode item texts and pictures into feature stores.

    With none of --text, --image, --lexical and --matrix, the embedded encoders are used for all that the catalogue has,
    or, after `palate prepare --append`, the same stores are made as of the dataset before. Only contents that are new
    or have changed are encoded; the other vectors are taken over.

    For example: palate encode data/shop --text minilm
    """
    from palate.data.dataset import Dataset
    from palate.engines import make_engine
    from palate.features.request import EncodeRequest

    chosen = make_engine(
        engine, address=address, workers=workers, gpus_per_worker=gpus_per_worker, cpus_per_worker=cpus_per_worker
    )
    opened = Dataset.load(dataset)
    request = EncodeRequest.parse(settings, where="palate encode")
    with chosen:
        stores = [task() for task in request.tasks(opened, dataset, chosen)]
    if json_:
        print_json_made(dataset / "features", {"stores": [_facts(one) for one in stores]})
    else:
        _print(opened, stores)


def _facts(store: Store) -> dict[str, Any]:
    return {"store": str(store.folder), **store.describe()}


def percent(share: float) -> str:
    """One decimal, where 100% means all and 0% none.

    >>> percent(0.99999), percent(1.0), percent(0.961), percent(0.0)
    ('99.9%', '100%', '96.1%', '0%')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}"
    return f"{min(max(share, 0.001), 0.999):.1%}"


def _print(dataset: Dataset, stores: list[Store]) -> None:
    from rich.table import Table

    from palate.console import open_console
    from palate.features.store import FeatureStore

    table = Table(title=f"Features of {dataset.name}", title_justify="left")
    for heading, side in (
        ("store", "left"),
        ("encoder", "left"),
        ("vectors", "left"),
        ("items", "right"),
        ("%", "right"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    table.add_column("% of interactions", justify="right")
    for one in stores:
        items = f"{int(one.present.sum()):,} of {dataset.num_items:,}"
        share = one.coverage_of(dataset.items)
        vectors = f"{one.width} {one.vectors.dtype}" if isinstance(one, FeatureStore) else f"{one.width:,} terms"
        table.add_row(one.folder.name, one.encoder, vectors, items, percent(one.coverage), percent(share))
    console = open_console(highlight=False)
    console.print(table)
    for one in stores:
        for reason in one.info["missing"]:
            examples = ", ".join(reason["examples"])
            console.print(f"{one.folder.name}: {reason['items']:,} without ({reason['reason']}), e.g. {examples}")
