"""The stages of the demo, each of which finds what an earlier call has finished."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from palate.console import open_console
from palate.demo.llm import MADE as LANGUAGE_MADE
from palate.demo.llm import Language, run_mllm
from palate.demo.models import ARMS
from palate.demo.shop.build import ITEMS, USERS
from palate.demo.table import evaluate_arms
from palate.errors import PalateError
from palate.storage.files import write_json

if TYPE_CHECKING:
    from palate.data.dataset import Cases, Dataset
    from palate.features.store import FeatureStore
    from palate.runs.run import Run

SHOWN_USERS, SHOWN_ITEMS = 4, 8
PICTURES = {
    "demo-items.png": "what the shop sells",
    "recommendations.png": f"what each model recommends to {SHOWN_USERS} users drawn at random",
    "comparison.png": "the table as a chart",
    "learning-curves.png": "how the trained models learnt",
}
REPORT = ("report.html", "report.json")
MADE = ("dataset", "runs", "evaluation", "bundles", "demo.json", *REPORT, *PICTURES, *LANGUAGE_MADE)


@dataclass(frozen=True)
class DemoOptions:
    """What decides the demo's numbers; ``language`` None leaves the language model out."""

    seed: int = 0
    items: int = ITEMS
    users: int = USERS
    epochs: int = 40
    language: Language | None = field(default_factory=Language)


def run_demo(out: Path, options: DemoOptions, *, overwrite: bool = False) -> dict[str, float]:
    """Run every stage into ``out``.

    Returns:
        Seconds by stage; also in ``demo.json`` beside the test metrics.

    Raises:
        PalateError: ``out`` holds something else than this demo.
    """
    # A file or a pipe has no width: do not fold the table there.
    console = open_console(highlight=False, width=None if sys.stdout.isatty() else 150)
    _check_out(out, overwrite)
    seconds: dict[str, float] = {}

    def stage(number: int, title: str) -> None:
        console.print(f"\n{number}/{6 if options.language is None else 7}  {title}", style="bold")
        seconds[title] = time.perf_counter()

    started = time.perf_counter()
    stage(1, "Draw a shop and let people buy")
    data = _dataset(out / "dataset", options)
    console.print(f"{data.num_users:,} users, {data.num_items:,} items, {len(data):,} interactions: {out / 'dataset'}")
    stage(2, "Examine the data")
    _doctor(data, console)
    stage(3, "Encode texts and pictures")
    stores = _encode(data, out / "dataset", console)
    stage(4, "Train")
    runs = _train(data, out, options, stores, console)
    stage(5, "Evaluate on the test split")
    measured = evaluate_arms(data, runs, out, options.seed, console)
    stage(6, "Recommend, and draw it")
    shown = _shown(data, options.seed)
    _pictures(data, runs, out, shown, options.seed)
    files = dict(PICTURES)
    sampled: dict[str, dict[str, float]] = {}
    if options.language is not None:
        stage(7, "Let a small multimodal language model look, write and learn")
        sampled = run_mllm(data, runs, out, options.language, options.seed, shown, console)
        files |= LANGUAGE_MADE if sampled else {}
    _report(data, out, options.seed, language=bool(sampled))
    bundles = _bundles(runs, out)
    console.print()
    for name, what in files.items():
        console.print(f"{out / name}: {what}")

    marks = [*seconds.values(), time.perf_counter()]
    spent = {title: round(marks[i + 1] - marks[i], 1) for i, title in enumerate(seconds)}
    facts = {"options": asdict(options), **measured, "sampled": sampled, "seconds": spent}
    write_json(out / "demo.json", facts)
    console.print(f"\nDone in {time.perf_counter() - started:.0f} s.", f"Everything is in {out}.")
    console.print(f"Open it in a browser: {out / REPORT[0]}", soft_wrap=True, style="bold")
    served = f"palate serve {' '.join(map(str, bundles))} --users {out / 'dataset'}"
    console.print(f"Try the models on a page of their own: {served}", soft_wrap=True)
    if not stores:
        console.print(_without_encoders(), style="yellow")
    return spent


def _check_out(out: Path, overwrite: bool) -> None:
    """A folder that is not a demo's is never written into, and only what a demo makes is ever removed."""
    if not out.exists():
        return
    found = [path for path in out.iterdir() if not path.name.endswith(".part")] if out.is_dir() else [out]
    if found and not (out / "dataset" / "truth.npz").is_file():
        raise PalateError(f"{out} exists already and is no demo", "Choose another --out.")
    for path in found if overwrite else ():
        if path.name in MADE and path.is_dir():
            shutil.rmtree(path)
        elif path.name in MADE:
            path.unlink()


def _dataset(folder: Path, options: DemoOptions) -> Dataset:
    from palate.data.dataset import Dataset
    from palate.demo.shop import build_demo

    if not folder.exists():
        return build_demo(folder, seed=options.seed, items=options.items, users=options.users)
    data = Dataset.load(folder)
    made = data.manifest.get("source", {})
    asked = {"seed": options.seed, "items": options.items, "users": options.users}
    if {name: made.get(name) for name in asked} != asked:
        raise PalateError(
            f"{folder} holds a demo set of another seed or size",
            "Choose another --out, or begin anew with --overwrite.",
        )
    return data


def _doctor(data: Dataset, console: Console) -> None:
    from palate.data.doctor import Level, examine

    report = examine(data)
    worth = [finding for finding in report.findings if finding.level is not Level.OK]
    console.print(f"{len(report.findings) - len(worth)} checks found nothing. Worth knowing:")
    for finding in worth:
        console.print(f"  {finding.check}: {finding.message}")


def _without_encoders() -> str:
    """What to do about missing encoders; empty where nothing is missing."""
    from importlib.util import find_spec

    from palate.features.embedded import EMBEDDED

    gone = [weights.package for weights in EMBEDDED if not weights.optional and weights.installed() is None]
    remedies = ["`palate models install`"] if gone else []
    if find_spec("transformers") is None:
        gone.append("transformers")
        remedies.append("`pip install 'palate[encoders]'`")
    if not gone:
        return ""
    return (
        f"Texts and pictures were left out: {', '.join(gone)} not installed. "
        f"Run {' and '.join(remedies)}, then this command again: it adds what is missing."
    )


def _encode(data: Dataset, folder: Path, console: Console) -> dict[str, FeatureStore]:
    from palate.features.encode import encode
    from palate.features.lexical import encode_lexical

    missing = _without_encoders()
    if missing:
        console.print(missing, style="yellow")
        return {}
    stores = {"text": encode(data, folder, "text"), "image": encode(data, folder, "image")}
    for name, store in stores.items():
        share = f"{store.coverage:.1%} of items, {store.coverage_of(data.items):.1%} of interactions"
        console.print(f"{name}: {store.encoder}, {store.width} numbers for {share}")
    words = encode_lexical(data, folder)
    console.print(f"lexical: {words.describe()['encoder']}, for {words.coverage:.1%} of items")
    return stores


def _train(
    data: Dataset, out: Path, options: DemoOptions, stores: dict[str, FeatureStore], console: Console
) -> dict[str, Run]:
    runs = {}
    sizes: dict[str, Any] = {"epochs": options.epochs, "seed": options.seed, "dataset": out / "dataset"}
    for arm in ARMS:
        if not set(arm.content) <= set(stores):
            continue
        run = arm.train(data, out / "runs" / arm.folder, stores, **sizes)
        best = run.info.get("best")
        how = f", {run.info['epochs']} epochs, best {best['epoch']}" if best else ""
        console.print(f"{arm.label}: {run.info['seconds']:.1f} s{how}")
        runs[arm.label] = run
    return runs


def _shown(data: Dataset, seed: int) -> Cases:
    """Test cases of the users to look at."""
    cases = data.cases("test")
    # Drawn at random, not picked for success: only a history long enough to show a taste is asked for.
    able = np.flatnonzero(cases.histories.lengths >= SHOWN_ITEMS)
    able = able if len(able) >= SHOWN_USERS else np.arange(len(cases))
    return cases.take(np.sort(np.random.default_rng(seed).permutation(able)[:SHOWN_USERS]))


def _report(data: Dataset, out: Path, seed: int, language: bool) -> None:
    """One page of all that was made; of what was evaluated above, nothing is evaluated again."""
    from palate.evaluation.saved import load_table
    from palate.report.build import GalleryPlan, write_report
    from palate.report.rows import gallery_models, runs_of

    tables = [load_table(out / "evaluation"), *([load_table(out / "mllm" / "evaluation")] if language else [])]
    models, notes, groups = gallery_models(runs_of(tables), None)
    write_report(out, data, groups, tables, GalleryPlan(models, seed=seed, notes=notes), overwrite=True)


def _bundles(runs: dict[str, Run], out: Path) -> list[Path]:
    """Every model as a bundle, the last (the one that sees most) first."""
    from palate.bundle import make_bundle

    folders = []
    for run in reversed(runs.values()):
        folders.append(out / "bundles" / run.name)
        if not folders[-1].exists():
            folders[-1].parent.mkdir(exist_ok=True)
            make_bundle(run, folders[-1])
    return folders


def _pictures(data: Dataset, runs: dict[str, Run], out: Path, some: Cases, seed: int) -> None:
    from palate.demo.charts import learning_curves
    from palate.demo.sheets import item_sheet, recommendation_sheet
    from palate.rankers.registry import load_recommender

    item_sheet(data.catalogue, out / "demo-items.png", seed=seed)
    recommended = {}
    for label, run in runs.items():
        items, _ = load_recommender(run).recommend(some.histories, SHOWN_ITEMS)
        recommended[label] = items.numpy()
    recommendation_sheet(
        data.catalogue,
        out / "recommendations.png",
        users=data.user_ids.gather(some.users).to_list(),
        histories=list(some.histories),
        targets=some.targets.values.tolist(),
        recommended=recommended,
    )
    learning_curves(runs, out / "learning-curves.png")
