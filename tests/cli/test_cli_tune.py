"""``palate tune`` from the command line, with real training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import Shell

from palate.artefact import describe

RECIPE = """
[tune]
model = "sasrec"
epochs = 1
pruner = "none"
trials = 1

[tune.settings.ranker]
dim = 8
heads = 1
layers = 1

[tune.settings.trainer]
tensorboard = false

[tune.search]
ranker.dropout = {low = 0.1, high = 0.3, step = 0.1}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(RECIPE)
    return path


def test_tune_resume_and_train_the_best(palate: Shell, shop: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "study[1]?a=%20"
    first = palate("tune", shop, "--config", recipe, "--out", out)
    assert first.code == 0, first.err
    assert "The best of 1 trial on validation" in first.out
    more = palate("tune", shop, "--config", recipe, "--out", out, "--trials", 2, "--json")
    facts = json.loads(more.out)
    assert len(facts["trials"]) == 2
    assert facts["best"]["value"] == max(row["value"] for row in facts["trials"])
    assert describe(out)["kind"] == "tuning"
    best = palate("train", shop, "--config", out / "best.toml", "--out", tmp_path / "best")
    assert best.code == 0, best.err
    options = describe(tmp_path / "best")["options"]
    assert options["settings"]["ranker"]["dropout"] == pytest.approx(facts["best"]["params"]["ranker.dropout"])
    assert options["settings"]["ranker"]["dim"] == 8
    # The trial's run is the same training: same seed, same settings, same best epoch.
    assert describe(tmp_path / "best")["best"]["NDCG@10"] == facts["best"]["value"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("trials = 1\n", ""), "how many trials?"),
        (("dropout =", "dropuot ="), "Did you mean 'dropout'?"),
        (('model = "sasrec"', 'model = "sasrec"\nmodle = 1'), "unknown option 'modle'. Did you mean 'model'?"),
        (("[tune", "[tun"), "has no table [tune]"),
        (('model = "sasrec"', ""), "[tune]: 'model' is missing"),
    ],
)
def test_mistakes_in_the_recipe(
    palate: Shell, shop: Path, recipe: Path, change: tuple[str, str], expected: str
) -> None:
    recipe.write_text(RECIPE.replace(*change))
    outcome = palate("tune", shop, "--config", recipe, "--out", recipe.parent / "study")
    assert outcome.code == 2
    assert expected in outcome.err
    assert "small.toml" in outcome.err or "--trials" in outcome.err
    assert not (recipe.parent / "study").exists()


def test_the_best_recipe_keeps_the_objective_and_its_settings(
    palate: Shell, shop: Path, recipe: Path, tmp_path: Path
) -> None:
    searched = RECIPE.replace("epochs = 1", 'epochs = 1\nobjective = "sampled-softmax"').replace(
        "ranker.dropout = {low = 0.1, high = 0.3, step = 0.1}", "objective.num_negatives = {choices = [3]}"
    )
    recipe.write_text(searched)
    out = tmp_path / "study[1]?a=%20"
    done = palate("tune", shop, "--config", recipe, "--out", out)
    assert done.code == 0, done.err
    best = palate("train", shop, "--config", out / "best.toml", "--out", tmp_path / "best")
    assert best.code == 0, best.err
    options = describe(tmp_path / "best")["options"]
    assert options["objective"] == "sampled-softmax"
    assert options["settings"]["objective"]["num_negatives"] == 3
