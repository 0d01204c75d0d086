"""Every command that writes is killed, again and again: the same command then ends as if nothing had happened.

Slow: ``make test-slow``. ``PALATE_KILLS=200`` tries more moments of each command than the default.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import Ended, Killer, hidden
from PIL import Image

MOST = int(os.environ.get("PALATE_KILLS", "24"))
MODULES = [
    *("torch", "polars", "accelerate", "scipy.sparse", "pyarrow.parquet", "matplotlib.figure", "safetensors.torch"),
    *(
        "palate.cli.app",
        "palate.data.prepare",
        "palate.features.lexical",
        "palate.alignment.align",
        "palate.bundle.make",
    ),
    *("palate.report.build", "palate.evaluation.outputs"),
]
SMALL = "--set ranker.dim=8 --set ranker.layers=1 --set ranker.heads=1 --threads 1"
PREPARE = "prepare log.csv --reader table --catalogue items.csv --images pictures"
# What differs between two undisturbed calls, and with it files that are made of it.
TIMES = {
    *("seconds", "train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb", "environment", "command"),
    *("ms_per_user", "cost", "made", "created", "threads"),
    "key",  # of a table: a hash of what its runs say, seconds included
}
DERIVED = (".png", ".html", ".log", ".db", ".pt", ".md")


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        words: the command.
        results: what it writes.
        again: added when it is repeated.
        refused: whether the command, repeated after it had done its work, says that the result is there.
        most: moments to kill it at.
    """

    words: str
    results: tuple[str, ...]
    again: str = ""
    refused: bool = False
    two_steps: bool = False
    most: int = MOST


CASES = {
    "prepare": Case(f"{PREPARE} --out new", ("new",), refused=True),
    "prepare --overwrite": Case(f"{PREPARE} --out data --overwrite", ("data",), most=4 * MOST),
    "prepare --overwrite in two steps": Case(
        f"{PREPARE} --out data --overwrite", ("data",), two_steps=True, most=4 * MOST
    ),
    "encode --lexical --overwrite": Case("encode data --lexical --overwrite", ("data/features",)),
    "encode --matrix": Case(
        "encode data --matrix vectors.npy --ids ids.txt --modality text --overwrite", ("data/features",)
    ),
    "encode --text --overwrite": Case(
        "encode data --text minilm --overwrite", ("data/features",), most=max(3, MOST // 3)
    ),
    "train": Case(
        f"train data --model sasrec --modalities id --neighbours lexical --out run --epochs 3 {SMALL}",
        ("run", "data/neighbours"),
        again="--resume",
    ),
    "align": Case("align runs/neural --out run --epochs 2 --pool-k 3 --threads 1", ("run",), again="--resume"),
    "blend": Case("blend runs/neural runs/popular --out run", ("run",), again="--resume"),
    "attach": Case("attach runs/neural --neighbours co-occurrence --out run", ("run",), again="--resume"),
    "evaluate": Case("evaluate runs/neural runs/popular --out table", ("table",), refused=True),
    "recommend": Case("recommend runs/popular --all --out best.parquet", ("best.parquet",)),
    "report": Case("report runs/neural runs/popular --out page", ("page",), refused=True),
    "bundle": Case("bundle runs/neural --out served --license MIT", ("served",), refused=True),
    "tune": Case("tune data --config search.toml --out search --threads 1", ("search",)),
    "compare": Case("compare table.toml --dataset data --out table", ("table",), most=max(3, MOST // 6)),
}

SEARCH = """
[tune]
model = "sasrec"
epochs = 2
trials = 3
startup_trials = 2
[tune.settings.ranker]
dim = 8
layers = 1
heads = 1
[tune.search]
"ranker.dropout" = { low = 0.1, high = 0.5 }
"""
TABLE = """
[compare]
seeds = [0]
[train]
model = "item-knn"
[arm.knn]
"""


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    made = Killer(tmp_path_factory.mktemp("killer"), MODULES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def world(killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log, a catalogue with pictures, a dataset with features, two runs."""
    root = tmp_path_factory.mktemp("world")
    log = [f"u{u},i{(u * 3 + s) % 12},{s}" for u in range(30) for s in range(5 + u % 3)]
    (root / "log.csv").write_text("\n".join(["user,item,timestamp", *log, ""]))
    items = [f"i{n},{'red' if n % 2 else 'blue'} thing {n % 5}" for n in range(12)]
    (root / "items.csv").write_text("\n".join(["item,title", *items, ""]))
    (root / "pictures").mkdir()
    for n in range(12):
        Image.new("RGB", (8, 8), (20 * n, 0, 0)).save(root / f"pictures/i{n}.png")
    np.save(root / "vectors.npy", np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
    (root / "ids.txt").write_text("".join(f"i{n}\n" for n in range(12)))
    (root / "search.toml").write_text(SEARCH)
    (root / "table.toml").write_text(TABLE)
    for words in (
        f"{PREPARE} --out data",
        "encode data --lexical",
        "encode data --matrix vectors.npy --ids ids.txt --modality text",
        f"train data --model sasrec --modalities id --neighbours none --out runs/neural --epochs 2 {SMALL}",
        "train data --model popularity --out runs/popular",
    ):
        done = killer.run(words.split(), cwd=root)
        assert done.code == 0, done.output
    (root / "data/summaries/users").mkdir(parents=True)
    (root / "data/summaries/users/summaries.jsonl").write_text("{}\n")
    shutil.rmtree(root / "data/neighbours", ignore_errors=True)
    return root


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_the_same_command_ends_as_if_undisturbed(
    name: str, killer: Killer, world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case, here = CASES[name], tmp_path / "here"
    whole = _fresh(killer, case, world, here)
    if "is not installed" in whole.output or "pip install" in whole.output:
        pytest.skip(whole.output.strip().splitlines()[-1])
    assert whole.code == 0, whole.output
    expected = content(here, case.results)
    assert expected
    assert hidden(here) == []
    draw = random.Random(0)
    changes = list(range(1, whole.changes + 1))
    if len(changes) > case.most:
        changes = sorted(draw.sample(changes, case.most))
    moments = [draw.uniform(0.0, whole.seconds) for _ in range(max(2, case.most // 4))]
    left = late = 0
    for kill in [*({"at": at} for at in changes), *({"after": seconds} for seconds in moments)]:
        killed = _fresh(killer, case, world, here, **kill)
        if "after" in kill and killed.code == 0:  # it was faster this time
            late += 1
            continue
        assert killed.code == -9, (kill, killed.output)
        left += bool(hidden(here))
        again = _again(killer, case, here)
        done = case.refused and again.code == 2 and "exists already" in again.output
        assert again.code == 0 or done, (kill, again.output)
        assert content(here, case.results) == expected, kill
        assert hidden(here) == [], kill
    with capsys.disabled():
        print(
            f"\n{name}: killed at {len(changes)} of {whole.changes} changes of a name and at {len(moments) - late} "
            f"random moments, something hidden was left {left} times; all ended as if undisturbed"
        )


def _fresh(killer: Killer, case: Case, world: Path, here: Path, **kill: Any) -> Ended:
    if here.exists():
        shutil.rmtree(here)
    shutil.copytree(world, here)
    _point_at(here, world)
    return killer.run(case.words.split(), two_steps=case.two_steps, cwd=here, **kill)


def _point_at(here: Path, world: Path) -> None:
    """Runs and datasets know the folder that they were made in."""
    for path in [*here.rglob("run.json"), *here.rglob("manifest.json")]:
        path.write_text(path.read_text().replace(str(world), str(here)))


def _again(killer: Killer, case: Case, here: Path) -> Ended:
    words = [*case.words.split(), *case.again.split()]
    deadline = time.monotonic() + 120
    while True:
        again = killer.run(words, two_steps=case.two_steps, cwd=here)
        # Runs that a killed comparison started end by themselves.
        if "is at work in" not in again.output or time.monotonic() > deadline:
            return again
        time.sleep(0.5)


def content(here: Path, results: tuple[str, ...]) -> dict[str, str]:
    """What the results hold, without what no two calls have in common."""
    found: dict[str, str] = {}
    for name in results:
        paths = sorted((here / name).rglob("*")) if (here / name).is_dir() else [here / name]
        for path in paths:
            if path.is_file() and path.name != ".lock" and "tensorboard" not in path.parts:
                found[str(path.relative_to(here))] = _digest(path, here)
    return found


def _digest(path: Path, here: Path) -> str:
    if path.name.endswith(DERIVED):
        return "there"
    if path.suffix in (".json", ".jsonl"):
        rows = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        return json.dumps([_without_times(json.loads(row)) for row in rows]).replace(str(here), "HERE")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(one) for key, one in value.items() if key not in TIMES}
    return [_without_times(one) for one in value] if isinstance(value, list) else value
