"""Options of the commands that evaluate runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProtocolName = Annotated[
    str,
    typer.Option(metavar="{full,sampled}", help="Rank the whole catalogue, or targets among sampled negatives."),
]
ExcludeSeen = Annotated[
    bool,
    typer.Option("--exclude-seen/--keep-seen", help="Leave the history out of the ranking (product) or not (peer)."),
]
SplitName = Annotated[str, typer.Option(metavar="{valid,test}", help="Which held-out interactions.")]
NegativeCount = Annotated[int, typer.Option(min=1, help="Sampled negatives per user.")]
CandidateSource = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="How negatives are drawn: uniform, popularity or a plug-in's name; or a candidates.npz.",
    ),
]
CutOffs = Annotated[str, typer.Option(metavar="5,10,20", help="Cut-offs.")]
MetricNames = Annotated[
    str | None, typer.Option(metavar="ndcg,recall,...", help="Metrics (default: all that fit the protocol).")
]
PrimaryMetric = Annotated[
    str | None, typer.Option(metavar="ndcg@10", help="The metric that decides (default: ndcg@10 if measured).")
]
BaseRow = Annotated[
    str | None,
    typer.Option(metavar="RUN", help="Run or row that the others are compared with (default: the first)."),
]
UserCount = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Only N users, drawn by seed: the same in every split.")
]
UsersSeed = Annotated[
    int | None, typer.Option(min=0, metavar="SEED", help="Seed of the users drawn (default: --seed).")
]
RetrieverRun = Annotated[
    str | None,
    typer.Option(metavar="RUN0", help="Runs too slow for the whole catalogue re-rank what this one proposes."),
]
ProposalDepth = Annotated[int, typer.Option(min=1, metavar="N", help="How many items the retriever proposes.")]
DatasetFolder = Annotated[
    Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the runs met it.")
]
Device = Annotated[str, typer.Option(help="Where models answer: auto, cpu, cuda, cuda:1, mps.")]
