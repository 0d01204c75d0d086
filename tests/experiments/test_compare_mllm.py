"""Comparisons that fine-tune and align language models beside rankers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from worlds import two_tastes

from palate.cli.commands import build
from palate.errors import PalateError
from palate.experiments.read_recipe import read_recipe
from palate.runs.run import Run

pytest.importorskip("trl")

RECIPE = """
[compare]
dataset = "{dataset}"
seeds = [0, 1]
base = "sft"
[train]
model = "item-knn"
[mllm.sft]
model = "{model}"
loss = "options"
users = 6
cutoffs = 1
history-items = 3
learning-rate = 1e-2
[mllm.align]
batch-size = 4
accumulation = 1
learning-rate = 1e-2
[evaluate]
protocol = "sampled"
negatives = 5
users = 6
primary = "auc"
[arm.knn]
[arm.sft]
command = "mllm sft"
[arm.dpo]
from = "sft"
[arm.top-k]
like = "dpo"
negatives = "top-k"
pool-k = 5
retriever = "knn"
[arm.hanorec]
from = "sft"
objective = "hanorec"
hardness = "one"
[arm.hanorec.search]
noise = ["none", "lora"]
[arm.again]
from = "dpo"
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny: Callable[[str], Path]) -> Path:
    two_tastes(tmp_path)
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(dataset=tmp_path / "dataset", model=tiny("llama")))
    return path


def test_each_arm_has_its_command(recipe: Path) -> None:
    arms = read_recipe(recipe).arms
    commands = {name: arm.command for name, arm in arms.items()}
    assert commands == {
        "knn": "train",
        "sft": "mllm sft",
        "dpo": "mllm align",
        "top-k": "mllm align",
        "hanorec": "mllm align",
        "again": "mllm align",
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('command = "mllm sft"', 'command = "mllm sfd"', "mllm sft"),
        ('from = "dpo"', 'from = "dpo"\ncommand = "train"', "decided by 'from'"),
        ('from = "dpo"', 'from = "dpo"\nlike = "knn"', "trained from scratch"),
        ('retriever = "knn"', 'retriever = "sft"', "language model"),
        ('retriever = "knn"', 'retriever = "knm"', "neither an arm nor a run"),
        ('retriever = "knn"', "", "needs a retriever"),
        ('hardness = "one"', 'hardness = "two"', "hardness"),
        ("[mllm.align]", "[mllm.aligned]", "mllm.align"),
        ("users = 6\ncutoffs", "yusers = 6\ncutoffs", "yusers"),
        ("history-items = 3", "history-items = 3\nblind = true", "--blind shows nothing of the user"),
        ("history-items = 3", 'summary = "direct"', "no store is named"),
        ("history-items = 3", 'summary = "direct"\nsummaries = "none-yet"', "none-yet"),
    ],
)
def test_mistakes_are_told_before_any_run(recipe: Path, old: str, new: str, words: str) -> None:
    recipe.write_text(recipe.read_text().replace(old, new))
    done = CliRunner().invoke(build(), ["compare", str(recipe), "--out", str(recipe.parent / "out"), "--dry-run"])
    assert isinstance(done.exception, PalateError)
    assert words in str(done.exception)
    assert not (recipe.parent / "out").exists()


def test_a_plan_says_every_command(recipe: Path) -> None:
    out = recipe.parent / "out"
    done = CliRunner().invoke(build(), ["compare", str(recipe), "--out", str(out), "--dry-run", "--json"])
    rows: list[dict[str, Any]] = json.loads(done.stdout)["runs"]
    said = {row["name"]: row["command"] for row in rows}
    assert said["sft-1"][:3] == ["palate", "mllm", "sft"]
    assert said["sft-1"][said["sft-1"].index("--history-items") + 1] == "3"
    assert said["top-k-0"][:4] == ["palate", "mllm", "align", str(out / "runs" / "sft-0")]
    assert said["top-k-1"][said["top-k-1"].index("--retriever") + 1] == str(out / "runs" / "knn-1")
    only = CliRunner().invoke(
        build(), ["compare", str(recipe), "--out", str(out), "--dry-run", "--json", "--only", "top-k"]
    )
    assert {"knn-0", "knn-1"} <= {
        row["name"] for row in json.loads(only.stdout)["runs"]
    }  # what proposes is made as well
    assert said["trial-hanorec-0001"][said["trial-hanorec-0001"].index("--noise") + 1] == "lora"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_whole_table(recipe: Path) -> None:
    out = recipe.parent / "out"
    words = [sys.executable, "-m", "palate", "compare", str(recipe), "--out", str(out), "--threads", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1400, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads((out / "test" / "table.json").read_text())
    assert [row["label"] for row in table["models"]] == ["knn", "sft", "dpo", "top-k", "hanorec", "again"]
    kept = sorted(path.name for path in (out / "measured" / "test" / "runs").iterdir())
    assert kept == [f"{arm}-{seed}" for arm in ("again", "dpo", "hanorec", "sft", "top-k") for seed in (0, 1)]
    assert "prompts" in table["costs"]["sft"]
    assert table["environment"]["command"][:3] == ["__main__.py", "compare", str(recipe)]
    top = Run.open(out / "runs" / "top-k-1")
    assert top.info["options"]["alignment"]["retriever"] == str((out / "runs" / "knn-1").resolve())
    chosen = json.loads((out / "chosen.json").read_text())
    assert chosen["hanorec"]["metric"] == "AUC"
    again = Run.open(out / "runs" / "again-0")
    assert len(again.info["aligned_from"]["adapters"]) == 2
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0
    assert "started" not in done.stderr
