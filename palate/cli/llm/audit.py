"""``palate mllm audit``: whether a model's answers agree with its scores, and what is wrong with written summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palate.cli.shared.evaluation_options import Device, UsersSeed
from palate.cli.shared.given import refuse_options
from palate.cli.shared.options import ConfigFile, JsonOutput, Seed
from palate.cli.shared.output import print_json
from palate.errors import PalateError, suggest

# Options of the audit of a run alone.
_OF_RUNS = (
    *("dataset", "split", "users", "users_seed", "negatives", "candidates", "max_new_tokens", "batch_size", "device"),
    "seed",
)


def audit(
    context: typer.Context,
    run: Annotated[
        Path, typer.Argument(metavar="RUN|DATASET", help="A run of a multimodal model; or a dataset with summaries.")
    ],
    summaries: Annotated[
        str | None, typer.Option(metavar="NAME", help="Audit these written preferences of the dataset instead.")
    ] = None,
    item_summaries: Annotated[
        str | None, typer.Option(metavar="NAME", help="Audit these written item summaries of the dataset instead.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="The dataset, if it is no longer where the run met it.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="{valid,test}", help="Whose targets are scored.")] = "test",
    users: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only N users, drawn by seed.")] = 100,
    users_seed: UsersSeed = None,
    negatives: Annotated[int, typer.Option(min=1, help="Sampled negatives per user.")] = 20,
    candidates: Annotated[
        str, typer.Option(help="How negatives are drawn: uniform, popularity or a plug-in's name.")
    ] = "uniform",
    max_new_tokens: Annotated[int, typer.Option(min=1, help="How long an answer may be.")] = 24,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered at a time.")] = 8,
    device: Device = "cpu",
    seed: Seed = 0,
    json_: JsonOutput = False,
    config: ConfigFile = None,
) -> None:
    """Ask a run's model in words, read its answers, and count those that cannot be used.

    An answer that names nothing, two things, or something that was not offered is a miss. With --summaries or
    --item-summaries, read the texts of a store, and count those that repeat themselves, copy their prompt or name what
    it did not show.

    For example: palate mllm audit runs/mllm --users 50
    """
    if summaries is not None or item_summaries is not None:
        refuse_options(context, _OF_RUNS, "is an option of the audit of a run, not of summaries")
        _audit_summaries(run, summaries, item_summaries, json_)
        return
    from palate.device import parse_device
    from palate.evaluation.candidates import check_kind
    from palate.evaluation.users import UserSample
    from palate.mllm.backends.local import LocalBackend
    from palate.mllm.diagnostics.audit_run import audit_run
    from palate.mllm.recommender import MLLMRecommender
    from palate.rankers.registry import load_recommender
    from palate.runs.dataset import dataset_of
    from palate.runs.run import Run

    if split not in ("valid", "test"):
        raise PalateError(f"there is no split '{split}' to audit", suggest(split, ["valid", "test"]))
    check_kind(candidates)
    device = parse_device(device)
    if (run / "manifest.json").is_file():
        raise PalateError(
            f"{run} is a dataset", "Give --summaries NAME or --item-summaries NAME as well, or a run of `palate mllm`."
        )
    opened = Run.open(run)
    if opened.info["model"] != MLLMRecommender.name:
        raise PalateError(
            f"{run} is a run of '{opened.info['model']}', which does not speak", "Give one of `palate mllm`."
        )
    data = dataset_of(opened, path=dataset)
    model = load_recommender(opened, device=device)
    if not isinstance(model, MLLMRecommender):
        raise PalateError(f"the model of {run} does not speak", "Give a run of `palate mllm`.")
    report = audit_run(
        model,
        LocalBackend(model.model, batch_size=batch_size, thinking=False),
        data,
        split="test" if split == "test" else "valid",
        users=None if users is None else UserSample(users, seed if users_seed is None else users_seed),
        negatives=negatives,
        kind=candidates,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    facts = {"run": str(opened.folder), **report.to_json()}
    if json_:
        print_json(facts)
        return
    _show(opened.name, report)


def _audit_summaries(dataset: Path, users: str | None, items: str | None, as_json: bool) -> None:
    from palate.console import plain, print_table
    from palate.data.dataset import Dataset
    from palate.mllm.diagnostics.audit_writing import audit_summaries
    from palate.mllm.summaries.store import store_folder

    if users is not None and items is not None:
        raise PalateError("--summaries and --item-summaries name two stores", "Audit one at a time.")
    kind, name = ("users", users) if users is not None else ("items", items)
    data = Dataset.load(dataset)
    report = audit_summaries(data, store_folder(dataset, kind, str(name)), kind)
    if as_json:
        print_json(report.to_json())
        return
    print_table(report.table())
    for note in report.notes():
        typer.echo(f"- {plain(note)}")


def _show(name: str, report: object) -> None:
    from palate.console import Table, plain, print_table
    from palate.mllm.diagnostics.audit_run import AuditReport

    assert isinstance(report, AuditReport)
    made = report.audit
    counts = [[str(verdict), f"{count:,}", f"{count / made.answers:.1%}"] for verdict, count in made.counts.items()]
    print_table(Table(f"{plain(name)}: {made.answers:,} answers ({made.task})", ["answer", "", "share"], counts))
    figures = [[label, f"{one.mean:.4f} [{one.low:.4f}, {one.high:.4f}]"] for label, one in report.figures.items()]
    print_table(Table(f"hit@1 over {len(made.hits):,} users", ["by", "hit@1 [95%]"], figures))
    typer.echo(f"- {made.accuracy:.1%} of the answers are right; one that cannot be used is a miss.")
    for verdict, texts in made.examples.items():
        for text in texts:
            typer.echo(f"- {verdict}: {plain(text)}")
    for error in report.facts["errors"]:
        typer.echo(f"- failed: {plain(error)}")
