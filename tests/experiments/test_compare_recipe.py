"""What a comparison recipe may say, and what is told of one that makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from palate.errors import PalateError
from palate.experiments.plan import Selection
from palate.experiments.read_recipe import read_recipe
from palate.experiments.recipe import Recipe, merged, override

RECIPE = """
[compare]
dataset = "data/shop"
seeds = [3, 1]
trials = 4
[train]
model = "sasrec"
batch_size = 7
[train.ranker]
dim = 8
[align]
objective = "dpo"
pool_k = 20
[align.negatives]
mix = 0.5
[arm.base]
[arm.dpo]
from = "base"
objective = { name = "ipo" }
[arm.dpo.search]
preference.beta = [0.1, 0.3]
pool_k = { low = 1, high = 9 }
[arm.uniform]
like = "dpo"
negatives = { name = "uniform", power = 2 }
[arm.popular]
shared = false
model = "popularity"
[blend]
users = 100
[arm.both]
blend = ["base", "popular"]
[arm.seeds]
blend = ["base", "base"]
[curve.k]
arm = "dpo"
setting = "pool-k"
values = [1, 2, "all"]
scale = "log"
"""


def reading(tmp_path: Path, text: str = RECIPE) -> Recipe:
    path = tmp_path / "r.toml"
    path.write_text(text)
    return read_recipe(path, also=["prepare"])


def test_options_of_an_arm_are_shared_then_its_own_then_chosen(tmp_path: Path) -> None:
    recipe = reading(tmp_path)
    assert recipe.base == "base"
    assert recipe.family == ["dpo", "uniform", "popular", "both", "seeds"]
    assert recipe.options("base", {}) == {"model": "sasrec", "batch-size": 7, "ranker": {"dim": 8}}
    assert recipe.options("popular", {}) == {"model": "popularity"}
    chosen = {"dpo": {"preference.beta": 0.3, "pool-k": 5}}
    dpo = recipe.options("dpo", chosen)
    assert dpo == {
        "objective": {"name": "ipo"},
        "pool-k": 5,
        "negatives": {"mix": 0.5},
        "preference": {"beta": 0.3},
    }
    # What is like another has its chosen settings, its start and its command, but no trials of its own.
    assert recipe.options("uniform", chosen) == {**dpo, "negatives": {"mix": 0.5, "name": "uniform", "power": 2}}
    assert recipe.arms["uniform"].start == "base"
    assert recipe.arms["uniform"].command == "align"
    assert recipe.choices_of("uniform") == ["dpo"]
    assert recipe.arms["dpo"].search.keys() == {"preference.beta", "pool-k"}


def test_the_runs_that_are_needed(tmp_path: Path) -> None:
    recipe = reading(tmp_path)
    everything = Selection(["base", "uniform"], [1], 4, [])
    # Trials of dpo are made with the recipe's first seed, 3, though only seed 1 is asked for.
    assert everything.finals(recipe) == [("base", 1), ("base", 3), ("uniform", 1)]
    assert everything.searched(recipe) == ["dpo"]
    assert Selection(["base", "dpo"], [1], 4, ["k"], until="trials").finals(recipe) == [("base", 3)]
    curve = Selection(["base"], [1], 4, ["k"])
    assert curve.finals(recipe) == [("base", 1), ("base", 3), ("dpo", 3)]


def test_a_blend_takes_the_runs_of_its_arms(tmp_path: Path) -> None:
    recipe = reading(tmp_path)
    assert (recipe.arms["both"].command, recipe.options("both", {})) == ("blend", {"users": 100})
    assert recipe.parents_of("both", 1) == [("base", 1), ("popular", 1)]
    # The same arm again is its run of the next seed, the first one after the last; beyond them, one more.
    assert recipe.parents_of("seeds", 3) == [("base", 3), ("base", 1)]
    assert recipe.parents_of("seeds", 1) == [("base", 1), ("base", 3)]
    assert recipe.parents_of("seeds", 7) == [("base", 7), ("base", 8)]
    assert recipe.parents_of("base", 3) == []
    assert Selection(["seeds"], [3], 4, []).finals(recipe) == [("base", 3), ("base", 1), ("seeds", 3)]
    searched = reading(tmp_path, RECIPE.replace('["base", "popular"]', '["dpo", "popular"]'))
    assert Selection(["both"], [1], 4, []).searched(searched) == ["dpo"]


def test_shared_settings_of_no_choice_hold_for_every_choice(tmp_path: Path) -> None:
    recipe = reading(
        tmp_path,
        """
[train]
model = "sasrec"
[train.neighbours]
keep = 30
[arm.text]
neighbours = "text"
[arm.text.search]
neighbours = ["text", "image"]
[arm.more]
like = "text"
neighbours = { name = "image", lags = 2 }
[arm.other]
like = "more"
neighbours = "lexical"
[arm.plain]
neighbours = "none"
""",
    )
    found = {name: recipe.options(name, {})["neighbours"] for name in recipe.arms}
    assert found == {
        "text": {"name": "text", "keep": 30},
        "more": {"name": "image", "keep": 30, "lags": 2},
        "other": {"name": "lexical", "keep": 30},
        "plain": "none",
    }
    chosen = recipe.options("text", {"text": {"neighbours": "image"}})
    assert chosen["neighbours"] == {"name": "image", "keep": 30}


def test_merging() -> None:
    assert merged({"a": {"x": 1, "y": 2}, "b": 1}, {"a": {"y": 3}, "c": 4}) == {"a": {"x": 1, "y": 3}, "b": 1, "c": 4}
    assert merged({"a": {"x": 1}}, {"a": "other"}) == {"a": "other"}  # another choice leaves the first one's settings
    below = {"a": {"x": [1]}}
    merged(below, {})["a"]["x"].append(2)
    assert below == {"a": {"x": [1]}}
    assert override({"a": {"x": 1}}, {"a.x": 2, "pool_k": "all"}) == {"a": {"x": 2}, "pool-k": "all"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("[compare]", "[compar]", "unknown table [compar]. Did you mean 'compare'?"),
        ("trials = 4", "trails = 4", "[compare]: unknown option 'trails'. Did you mean 'trials'?"),
        ("seeds = [3, 1]", "seeds = [1, 1]", "different whole numbers"),
        ("seeds = [3, 1]", "seeds = []", "'seeds'"),
        ("trials = 4", 'base = "bse"', "'base' names no arm: 'bse'. Did you mean 'base'?"),
        ("trials = 4", 'family = ["dpo", "unform"]', "'family' names no arm: 'unform'. Did you mean 'uniform'?"),
        ("trials = 4", 'family = ["base"]', "the base 'base' is in the family"),
        ("trials = 4", 'split = "train"', "'split'"),
        ("[compare]", "[evaluate]\nretriever = 'runs/a'\n[compare]", "[evaluate]: a comparison has no cascades"),
        ("[compare]", "[evaluate]\nengine = 'ray'\n[compare]", "[evaluate]: a comparison is evaluated in one process"),
        ('from = "base"', 'from = "bse"', "[arm.dpo]: 'from' names no arm: 'bse'. Did you mean 'base'?"),
        ('from = "base"', 'from = "dpo"', "[arm.dpo] leads back to itself: dpo -> dpo"),
        ("[arm.base]", '[arm.base]\nfrom = "uniform"', "leads back to itself"),
        ('like = "dpo"', 'like = "dop"', "'like' names no arm: 'dop'. Did you mean 'dpo'?"),
        ('like = "dpo"', "like = 3", "'like' is 3"),
        ('like = "dpo"', 'like = "popular"\nfrom = "base"', "is aligned, and 'popular', which it is like"),
        ("shared = false", 'shared = "no"', "'shared' is 'no'"),
        ("shared = false", 'shared = false\nlike = "base"', "'shared' and 'like' exclude each other"),
        ("preference.beta = [0.1, 0.3]", "preference.beta = 0.1", "search 'preference.beta' is 0.1"),
        ("low = 1, high = 9", "low = 9, high = 1", "low is above high"),
        ("low = 1, high = 9", "low = 1, hihg = 9", "Did you mean 'high'?"),
        ("[arm.popular]", '[arm."../popular"]', "names become folders"),
        ('arm = "dpo"', 'arm = "dop"', "[curve.k]: 'arm' names no arm: 'dop'. Did you mean 'dpo'?"),
        ('setting = "pool-k"', 'seting = "pool-k"', "[curve.k]: unknown option 'seting'. Did you mean 'setting'?"),
        ("values = [1, 2,", "values = [0, 2,", "no place for 0 or less"),
        ("values = [1, 2,", "values = [2, 2,", "a value occurs twice"),
        ('values = [1, 2, "all"]', "values = []", "'values'"),
        ('["base", "popular"]', '["base"]', "[arm.both]: 'blend' is ['base']"),
        ('["base", "popular"]', '["base", "popluar"]', "'blend' names no arm: 'popluar'. Did you mean 'popular'?"),
        ('["base", "popular"]', '["base", "seeds"]', "'blend' names 'seeds', a blend itself"),
        ('["base", "base"]', '["base", "base", "base"]', "'blend' names 'base' 3 times, with 2 seeds"),
        ('["base", "popular"]', '["base", "popular"]\nlike = "base"', "a blend is made of its arms alone"),
        ('from = "base"', 'from = "both"', "[arm.dpo]: nothing goes on from 'both'"),
        ("[arm.popular]\nshared = false", '[arm.popular]\ncommand = "mllm sft"', "'popular', a language model"),
        (RECIPE[RECIPE.index("[arm.base]") :], "", "has no arms"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in RECIPE
    with pytest.raises(PalateError) as refusal:
        reading(tmp_path, RECIPE.replace(old, new, 1))
    assert expected in str(refusal.value)
    assert "r.toml" in str(refusal.value)


def test_tables_of_other_commands_are_left_alone(tmp_path: Path) -> None:
    assert reading(tmp_path, RECIPE + "\n[prepare]\nsource = 1\n").arms
