"""``palate compare`` from the command line: real training and alignment, one real interruption, and its refusals."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Shell
from PIL import Image

from palate.alignment import report as align_report
from palate.artefact import describe
from palate.evaluation.settings import EvaluationSettings
from palate.experiments import runner
from palate.runs.run import Run
from palate.storage.files import read_json
from palate.training import loop

TRAIN = """
[train]
model = "sasrec"
threads = 1
[train.ranker]
dim = 8
heads = 1
layers = 1
[train.trainer]
epochs = 1
learning_rate = 1e-2
metric = "NDCG@5"
tensorboard = false
"""
RECIPE = f"""
[compare]
seeds = [0, 1]
trials = 2
family = ["dpo"]
{TRAIN}
[align]
objective = "dpo"
pool-k = 3
epochs = 1
[arm.base]
[arm.dpo]
from = "base"
[arm.dpo.search]
preference.beta = [0.1, 1.0]
[arm.on]
from = "base"
shared = false
objective = "none"
epochs = 1
[arm.popular]
shared = false
model = "popularity"
[evaluate]
primary = "ndcg@5"
keep-seen = true
ks = [5]
[curve.k]
arm = "dpo"
setting = "pool-k"
values = [1, 3, "all"]
seeds = [0, 1]
scale = "log"
"""


class Here:
    """Runs the commands in this process, one after the other: quicker than a process for each."""

    calls: list[list[str]]

    def __init__(self, *_: Any) -> None:
        pass

    async def __call__(self, words: Sequence[str], log: Path) -> int:
        from palate.cli.commands import build
        from palate.errors import PalateError

        self.calls.append(list(words))
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            build()(list(words), standalone_mode=False)
        except PalateError as error:
            log.write_text(f"Error: {error}\n")
            return 2
        return 0


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    Here.calls = []
    monkeypatch.setattr(runner, "Processes", Here)
    # The pictures of each run have tests of their own, and take longer than these trainings.
    monkeypatch.setattr(loop, "plot_learning_curve", lambda *_: None)
    monkeypatch.setattr(align_report, "plot_alignment", lambda *_: None)
    return Here.calls


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def test_a_whole_comparison(
    palate: Shell, shop: Path, recipe: Path, tmp_path: Path, here: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    evaluate = EvaluationSettings.evaluate
    monkeypatch.setattr(
        EvaluationSettings,
        "evaluate",
        lambda self, groups, data, split, known: asked.append(split) or evaluate(self, groups, data, split, known),
    )
    out = tmp_path / "out"
    words = ("compare", recipe, "--dataset", shop, "--out", out)
    chosen = palate(*words, "--until", "trials")
    assert chosen.code == 0, chosen.err
    assert asked == []  # nothing was evaluated: the choice is made by what training itself validates
    assert [call[0] for call in here] == ["train", "align", "align"]
    choice = read_json(out / "chosen.json")["dpo"]
    figures = [read_json(out / f"trials/dpo/000{number}.json")["value"] for number in (0, 1)]
    assert choice["value"] == max(figures)
    assert choice["settings"] == {"preference.beta": [0.1, 1.0][figures.index(max(figures))]}
    assert choice["metric"] == "NDCG@5"
    assert not (out / "test").exists()

    here.clear()
    done = palate(*words)
    assert done.code == 0, done.err
    assert asked == ["test", "valid"]
    # The base with seed 0 and the chosen trial are there already, and so is the curve's point at 3.
    outs = [Path(call[call.index("--out") + 1]).relative_to(out).as_posix() for call in here]
    assert sorted(outs) == sorted(
        ["runs/base-1", "runs/dpo-1", "runs/on-0", "runs/on-1", "runs/popular-0", "runs/popular-1"]
        + [f"curves/k/{value}-{seed}" for value in (1, "all") for seed in (0, 1)]
    )
    assert "minus base" in done.out
    assert "Cost" in done.out
    table = read_json(out / "test" / "table.json")
    assert table["base"] == "base"
    assert table["family"] == ["dpo"]
    assert table["name"] == "peer (history kept)"
    rows = {row["label"]: row for row in table["models"]}
    assert list(rows) == ["base", "dpo", "on", "popular"]
    assert rows["dpo"]["seeds"] == [0, 1]
    # A family of one is adjusted by nothing; the others have no p-value that one could quote.
    assert rows["dpo"]["differences"]["ndcg@5"]["p_holm"] == rows["dpo"]["differences"]["ndcg@5"]["p"]
    assert rows["on"]["differences"]["ndcg@5"]["p_holm"] is None
    runs = [Run.open(out / f"runs/dpo-{seed}") for seed in (0, 1)]
    assert table["training"]["dpo"]["seconds"] == pytest.approx(sum(run.info["seconds"] for run in runs), abs=2e-3)
    assert table["training"]["dpo"]["trials"] == 2
    assert table["training"]["dpo"]["from"] == "base"
    assert {run.info["options"]["alignment"]["preference"]["beta"] for run in runs} == {
        choice["settings"]["preference.beta"]
    }
    markdown = (out / "test" / "table.md").read_text()
    assert "Cost:" in markdown
    assert "family (dpo)" in markdown
    assert describe(out / "test")["kind"] == "evaluation"

    curve = read_json(out / "curves" / "k.json")
    assert [point["value"] for point in curve["points"]] == [1, 3, "all"]
    assert (curve["metric"], curve["split"], curve["seeds"]) == ("ndcg@5", "valid", [0, 1])
    assert curve["base"]["arm"] == "base"
    for point in [curve["base"], *curve["points"]]:
        assert point["mean"] == pytest.approx(sum(point["by_seed"]) / 2)
        assert point["error"] == pytest.approx(abs(point["by_seed"][0] - point["by_seed"][1]) / 2)
    for point in curve["points"]:
        least = [ours - base for ours, base in zip(point["by_seed"], curve["base"]["by_seed"], strict=True)]
        assert point["minus_base"]["by_seed"] == pytest.approx(least)
    with (out / "curves" / "k.csv").open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["pool-k", "seed", "ndcg@5"]
    assert [float(line[2]) for line in lines if line[0] == "all"] == curve["points"][2]["by_seed"]
    with Image.open(out / "curves" / "k.png") as picture:
        assert len(picture.convert("L").getcolors() or []) > 20

    here.clear()
    asked.clear()
    again = palate(*words, "--json", "--publish", tmp_path / "figures.json")
    assert again.code == 0, again.err
    published = read_json(tmp_path / "figures.json")
    assert published["command"] == f"palate compare {recipe} --dataset {shop} --out {out}"  # which made the table
    assert published["recipe"] == table["recipe"]
    assert [row["label"] for row in published["models"]] == list(rows)
    assert (here, asked) == ([], [])  # everything stands: nothing is trained and nothing evaluated again
    facts = json.loads(again.out)
    assert facts["table"]["models"] == table["models"]
    assert facts["curves"]["k"]["points"] == curve["points"]
    plan = read_json(out / "plan.json")
    assert plan["recipe"]["digest"] == table["recipe"]
    assert (out / "recipe.toml").read_text() == RECIPE

    # What was made with other options is refused, in the words of the command that refuses it.
    recipe.write_text(RECIPE.replace("learning_rate = 1e-2", "learning_rate = 2e-2"))
    refused = palate(*words, "--only", "base")
    assert refused.code == 2
    assert "base-0 failed" in refused.err
    assert "was started with other options (settings.trainer.learning_rate: 0.01, now 0.02)" in refused.err


def test_a_part_of_it(palate: Shell, shop: Path, recipe: Path, tmp_path: Path, here: list[list[str]]) -> None:
    out = tmp_path / "out"
    words = ("compare", recipe, "--dataset", shop, "--out", out)
    done = palate(*words, "--only", "popular", "--seeds", "1", "--skip-curves")
    assert done.code == 0, done.err
    assert [call[0] for call in here] == ["train", "train"]  # the row and the base
    assert read_json(out / "test-base+popular" / "table.json")["models"][1]["seeds"] == [1]
    assert not (out / "test").exists()


def test_a_model_without_epochs_is_searched_on_validation(
    palate: Shell, shop: Path, tmp_path: Path, here: list[list[str]]
) -> None:
    path, out = tmp_path / "knn.toml", tmp_path / "out"
    path.write_text(
        """
        compare.seeds = [0]
        compare.trials = 2
        arm.popular.model = "popularity"
        arm.knn.model = "item-knn"
        arm.knn.search.ranker.neighbours = [1, 12]
        """
    )
    done = palate("compare", path, "--dataset", shop, "--out", out)
    assert done.code == 0, done.err
    trials = [read_json(out / f"trials/knn/000{number}.json") for number in (0, 1)]
    assert trials[0]["value"] != trials[1]["value"]
    best = max(trials, key=lambda trial: trial["value"])
    assert read_json(out / "chosen.json")["knn"]["settings"] == best["params"]
    assert best["metric"] == "NDCG@10"


def test_a_dry_run_makes_nothing(palate: Shell, shop: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = palate("compare", recipe, "--dataset", shop, "--out", out, "--dry-run")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert f"palate align {out}/runs/base-1 --objective dpo --pool-k 3 --epochs 1 --seed 1" in done.out
    assert "with what is chosen for dpo" in done.out
    assert lines[-1] == "16 runs in all."
    assert len(lines) == 17
    assert not out.exists()
    rows = json.loads(palate("compare", recipe, "--dataset", shop, "--out", out, "--dry-run", "--json").out)["runs"]
    assert rows[0]["name"] == "trial-dpo-0000"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dim = 8", "dmi = 8", "[arm.base]: settings [ranker] of sasrec: unknown option 'dmi'. Did you mean 'dim'?"),
        ('model = "sasrec"\nthreads', "threads", "[arm.base]: 'model' is missing"),
        ("threads = 1", "thraeds = 1", "[train]: unknown option 'thraeds'. Did you mean 'threads'?"),
        ("threads = 1", "seed = 1", "[train]: 'seed' is given by `palate compare` itself"),
        ("threads = 1", 'threads = "many"', "[train]: 'threads'"),
        ("pool-k = 3", "pool-k = 300", "[arm.dpo]: a pool of 300 is larger than the catalogue allows"),
        (
            "pool-k = 3",
            'negatives = "top-q"',
            "[arm.dpo]: settings [negatives]: 'strategy': there is no negative strategy",
        ),
        ("pool-k = 3", 'negatives = "disliked"', "[arm.dpo]: the dataset keeps no dislikes"),
        ('objective = "dpo"', 'objective = "dop"', "Did you mean"),
        ("preference.beta = [0.1, 1.0]", "preference.bate = [0.1]", "search: with preference.bate = 0.1"),
        ("preference.beta = [0.1, 1.0]", "preference.beta = [0.1, -1.0]", "search: with preference.beta = -1.0"),
        ("epochs = 1\n[arm.base]", "beta = 0.2\n[arm.base]", "search: 'preference.beta' changes nothing"),
        ('values = [1, 3, "all"]', "values = [1, 3000]", "[curve.k]: with pool-k = 3000: a pool of 3000"),
        ('setting = "pool-k"', 'setting = "pool"', "[curve.k]: with pool = 1: unknown option 'pool'"),
        (
            '[arm.on]\nfrom = "base"',
            '[arm.on]\nfrom = "popular"',
            "'popular' is a popularity, which is not trained by gradient",
        ),
        (
            '[arm.on]\nfrom = "base"',
            '[arm.both]\nshared = false\nmodel = "bert4rec"\n[arm.on]\nfrom = "both"',
            "'both' is a bert4rec, which is trained on masked items",
        ),
        (
            '[arm.on]\nfrom = "base"\nshared = false\nobjective = "none"\nepochs = 1',
            '[arm.on]\nfrom = "popular"\ncommand = "attach"\nneighbours = "co-occurrence"',
            "'popular' is a popularity: neighbours are a part of rankers that compare vectors",
        ),
        ('primary = "ndcg@5"', 'primary = "ndgc@5"', "[evaluate]"),
        ("keep-seen = true", "keep-sene = true", "[evaluate]: unknown option 'keep-sene'. Did you mean 'keep-seen'?"),
        ("keep-seen = true", 'protocol = "fll"', "[evaluate]: there is no protocol 'fll'"),
        ("keep-seen = true", 'split = "valid"', "[evaluate]: 'split' is given by `palate compare` itself"),
    ],
)
def test_mistakes_are_told_before_any_work(
    palate: Shell, shop: Path, recipe: Path, tmp_path: Path, old: str, new: str, expected: str
) -> None:
    assert old in RECIPE
    recipe.write_text(RECIPE.replace(old, new, 1))
    outcome = palate("compare", recipe, "--dataset", shop, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert expected in outcome.err
    assert "small.toml" in outcome.err
    assert not (tmp_path / "out").exists()


def test_what_other_arms_lack_is_no_matter(palate: Shell, shop: Path, recipe: Path, tmp_path: Path) -> None:
    more = '[arm.pictured]\nmodalities = "id,nowhere"\n[arm.later]\nfrom = "pictured"\n[evaluate]'
    recipe.write_text(RECIPE.replace("[evaluate]", more, 1))
    words = ("compare", recipe, "--dataset", shop, "--out", tmp_path / "out", "--dry-run")
    assert palate(*words, "--only", "dpo,popular").code == 0
    for refused in ((), ("--only", "pictured"), ("--only", "later")):
        outcome = palate(*words, *refused)
        assert outcome.code == 2
        assert "[arm.pictured]" in outcome.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--only", "dop"], "there is no arm 'dop'. Did you mean 'dpo'?"),
        (["--seeds", "0,x"], "--seeds 0,x"),
        (["--until", "tests"], "there is no stage 'tests'. Did you mean 'test'?"),
        (["--dataset", "nowhere"], "nowhere"),
        (["--until", "train", "--publish", "x.json"], "--publish x.json is of a table, and --until train makes none"),
        (["--caption", "Beauty"], "--caption is of a LaTeX table"),
    ],
)
def test_mistakes_on_the_command_line(
    palate: Shell, shop: Path, recipe: Path, tmp_path: Path, words: list[str], expected: str
) -> None:
    dataset = () if "--dataset" in words else ("--dataset", shop)
    outcome = palate("compare", recipe, *dataset, "--out", tmp_path / "out", *words)
    assert outcome.code == 2
    assert expected in outcome.err
    assert "which dataset?" in palate("compare", recipe, "--out", tmp_path / "out").err


def test_interrupted_for_real_it_ends_its_runs_and_goes_on(shop: Path, tmp_path: Path) -> None:
    """Ctrl-C during a training of a thousand epochs; then two of them, as the recipe says now, elsewhere."""
    path, out = tmp_path / "long.toml", tmp_path / "out"
    path.write_text(
        f"[compare]\nseeds = [0]\n{TRAIN.replace('epochs = 1', 'epochs = 100000' + chr(10) + 'patience = 0')}[arm.a]\n"
    )
    words = [sys.executable, "-m", "palate", "compare", str(path), "--dataset", str(shop), "--out", str(out)]
    going = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True
    )
    metrics = out / "runs/a-0/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.is_file() and going.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert metrics.is_file(), going.communicate()
    second = subprocess.run(words, capture_output=True, text=True, check=False)
    assert second.returncode == 2
    assert "another comparison" in second.stderr
    going.send_signal(signal.SIGINT)
    _, errors = going.communicate(timeout=120)
    assert going.returncode == 130, errors
    assert "a-0: started" in errors
    assert "the same command goes on" in errors
    log = (out / "logs/a-0.log").read_text()
    assert "Interrupted" in log, log  # the training was asked to end, and did
    rows = len(metrics.read_text().splitlines())
    time.sleep(0.5)
    assert len(metrics.read_text().splitlines()) == rows  # nobody trains there any more
    assert not Run.open(out / "runs/a-0").finished
