"""``palate encode``: item texts and pictures to features, with what is missing told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palate.cli.shared.options import ConfigFile, JsonOutput, Seed
from palate.names import field_names

if TYPE_CHECKING:
    from palate.data.dataset import Dataset
    from palate.features.lexical_store import LexicalStore
    from palate.features.store import FeatureStore

    Store = FeatureStore | LexicalStore


def encode(
    dataset: Annotated[Path, typer.Argument(help="Dataset folder, as `palate prepare` makes it.")],
    text: Annotated[
        str | None, typer.Option(help="Text encoder: a name of `palate models`, a hub model, a folder.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Image encoder: likewise.")] = None,
    lexical: Annotated[
        bool, typer.Option("--lexical", help="The items' words and pairs of words, weighed by TF-IDF.")
    ] = False,
    analyzer: Annotated[
        str | None, typer.Option(help="Of --lexical: word, or char for three to five characters.")
    ] = None,
    fields: Annotated[str | None, typer.Option(help="Catalogue fields that make the text, e.g. title,genres.")] = None,
    without: Annotated[
        str | None, typer.Option(help=r"Regular expression taken out of texts, e.g. '\(\d{4}\)'.")
    ] = None,
    matrix: Annotated[Path | None, typer.Option(help="Vectors made elsewhere: .npy, .safetensors or .parquet.")] = None,
    ids: Annotated[Path | None, typer.Option(help="Item ids of a .npy matrix: .txt (one a line) or .json.")] = None,
    modality: Annotated[str | None, typer.Option(help="What --matrix holds: text or image.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of what made the --matrix, for reports.")] = None,
    of: Annotated[str | None, typer.Option(help="Store that the controls 'random' and 'permuted' are made of.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of 'random'; by default that of the store.")] = None,
    store: Annotated[str | None, typer.Option(help="Folder name in DATASET/features; by default the modality.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    batch_size: Annotated[int | None, typer.Option(help="Contents at once; by default what suits the encoder.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of a hub model.")] = False,
    resume: Annotated[bool, typer.Option("--resume/--anew", help="Go on after an interrupted run.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store that is there.")] = False,
    seed: Seed = 0,
    config: ConfigFile = None,
    json_: JsonOutput = False,
) -> None:
    """Encode item texts and pictures into feature stores.

    With none of --text, --image, --lexical and --matrix, the embedded encoders are used for all that the catalogue has.
    """
    from palate.data.dataset import Dataset
    from palate.features.request import EncodeRequest

    opened = Dataset.load(dataset)
    request = EncodeRequest.parse(
        {
            "text": text,
            "image": image,
            "lexical": lexical,
            "analyzer": analyzer,
            "fields": field_names(fields, "--fields") if fields is not None else None,
            "without": without,
            "matrix": matrix,
            "ids": ids,
            "modality": modality,
            "name": name,
            "of": of,
            "width": width,
            "store": store,
            "device": device,
            "dtype": dtype,
            "batch_size": batch_size,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "resume": resume,
            "overwrite": overwrite,
            "seed": seed,
        },
        where="palate encode",
    )
    stores = [task() for task in request.tasks(opened, dataset)]
    if json_:
        print(json.dumps([_facts(one) for one in stores], indent=2))
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
