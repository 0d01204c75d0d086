"""The stages of the demo, each a list of commands that a reader could type, and what no command does."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from palate.console import open_console
from palate.data.dataset import Dataset
from palate.demo.extras import missing_encoders
from palate.demo.llm import MADE as LANGUAGE_MADE
from palate.demo.llm import Language, language_stages
from palate.demo.models import IDS, MODELS, model_commands
from palate.demo.oracle import METRICS, K, add_oracle
from palate.demo.pictures import PICTURES, draw_pictures
from palate.demo.runner import COMMANDS, FACTS, Demo, DemoCommand, Function, Note, Stage, row_of
from palate.demo.shop.build import ITEMS, USERS, build_demo
from palate.errors import PalateError

REPORT = ("report.html", "report.json")
MADE = ("dataset", "runs", "evaluation", "bundles", COMMANDS, FACTS, *REPORT, *PICTURES, *LANGUAGE_MADE)


@dataclass(frozen=True)
class DemoOptions:
    """What decides the demo's numbers; ``language`` None leaves the language model out."""

    seed: int = 0
    items: int = ITEMS
    users: int = USERS
    epochs: int = 40
    language: Language | None = field(default_factory=Language)


def stages_of(options: DemoOptions) -> list[Stage]:
    """All stages; what is not installed is left out, with a note in its place."""
    seed, missing = options.seed, missing_encoders()
    models = [model for model in MODELS if not (missing and model.encoded)]
    commands = model_commands(models, options.epochs, seed)
    rows = [row_of(model.label, f"runs/{model.folder}") for model in models]
    language = (
        [] if options.language is None else language_stages(options.language, seed, models, tuple(commands.values()))
    )
    tables = ["evaluation", *(["mllm/evaluation"] if len(language) > 1 else [])]
    return [
        Stage(
            "Draw a shop and let people buy",
            [Function("(Python) draw products, pictures and purchases", partial(draw_shop, options=options))],
        ),
        Stage("Examine the data", [DemoCommand("palate doctor $DEMO/dataset")]),
        Stage(
            "Encode texts and pictures",
            [Note(missing)]
            if missing
            else [DemoCommand("palate encode $DEMO/dataset"), DemoCommand("palate encode $DEMO/dataset --lexical")],
        ),
        Stage("Train, and align", list(commands.values())),
        Stage(
            "Evaluate on the test split",
            [
                DemoCommand(
                    f"palate evaluate {' '.join(rows)} --base '{IDS}' --metrics {','.join(METRICS)} --ks {K} "
                    f"--seed {seed} --out $DEMO/evaluation",
                    makes="evaluation",
                    after=tuple(commands.values()),
                ),
                Function("(Python) add the oracle's row to the table", add_oracle),
            ],
        ),
        Stage("Recommend, and draw it", [Function("(Python) draw the sheets of pictures", draw_pictures)]),
        *language,
        Stage(
            "Bundle the models, and write the report",
            [
                *(
                    DemoCommand(
                        f"palate bundle $DEMO/runs/{model.folder} --out $DEMO/bundles/{model.folder}",
                        makes=f"bundles/{model.folder}",
                        after=(commands[model.folder],),
                    )
                    for model in models
                    if not model.aligned
                ),
                DemoCommand(
                    f"palate report {' '.join(f'--table $DEMO/{table}' for table in tables)} --seed {seed} "
                    "--out $DEMO --overwrite"
                ),
            ],
        ),
    ]


def run_demo(
    out: Path, options: DemoOptions, run_command: Callable[[Sequence[str]], None], *, overwrite: bool = False
) -> None:
    """Run every stage into ``out``; seconds by stage and test metrics are in ``demo.json`` afterwards.

    Args:
        run_command: runs the words of a command line after ``palate`` in this process.

    Raises:
        PalateError: ``out`` holds something else than this demo.
    """
    _check_out(out, overwrite)
    # A file or a pipe has no width: do not fold lines there.
    console = open_console(highlight=False, width=None if sys.stdout.isatty() else 150)
    demo = Demo(out, options.seed, console, run_command, facts={"sampled": {}})
    stages = stages_of(options)
    started = time.perf_counter()
    seconds = {}
    for number, stage in enumerate(stages, 1):
        console.print(f"\n{number}/{len(stages)}  {stage.title}", style="bold")
        begun = time.perf_counter()
        for step in stage.steps:
            demo.run(step)
        seconds[stage.title] = round(time.perf_counter() - begun, 1)
        if number == 1:  # the folder is the demo's from here on
            demo.write_commands(stages)
    demo.facts |= {"options": asdict(options), "seconds": seconds}
    demo.save()
    _finish(demo, time.perf_counter() - started)


def _finish(demo: Demo, seconds: float) -> None:
    """Say what was made, and what to do with it."""
    out, print_ = demo.out, demo.console.print
    print_()
    for name, what in {**PICTURES, **(LANGUAGE_MADE if demo.facts["sampled"] else {})}.items():
        print_(f"{out / name}: {what}")
    print_(f"{out / COMMANDS}: the command lines above, to repeat any of them")
    print_(f"\nDone in {seconds:.0f} s. Everything is in {out}.")
    print_(f"Open it in a browser: {out / REPORT[0]}", soft_wrap=True, style="bold")
    # The model that reads most comes first.
    bundles = [out / "bundles" / model.folder for model in reversed(MODELS)]
    served = " ".join(str(bundle) for bundle in bundles if bundle.is_dir())
    print_(f"Try the models on a page of their own: palate serve {served} --users {demo.dataset}", soft_wrap=True)
    if missing := missing_encoders():
        print_(missing, style="yellow")


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


def draw_shop(demo: Demo, options: DemoOptions) -> None:
    """Make the dataset, or check that the one that is there is of this seed and size."""
    sizes = {"seed": options.seed, "items": options.items, "users": options.users}
    if not demo.dataset.exists():
        build_demo(demo.dataset, seed=options.seed, items=options.items, users=options.users)
    data = Dataset.load(demo.dataset)
    made = data.manifest.get("source", {})
    if {name: made.get(name) for name in sizes} != sizes:
        raise PalateError(
            f"{demo.dataset} holds a demo set of another seed or size",
            "Choose another --out, or begin anew with --overwrite.",
        )
    demo.console.print(
        f"{data.num_users:,} users, {data.num_items:,} items, {len(data):,} interactions: {demo.dataset}"
    )
