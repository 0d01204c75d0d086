"""``palate evaluate`` on real run folders of small models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner
from worlds import random_logs

from palate.cli.evaluate import evaluate
from palate.console import Table, _fit
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation import budget
from palate.evaluation.candidates import Candidates
from palate.evaluation.compare import compare
from palate.evaluation.groups import group_runs
from palate.evaluation.outputs import load_groups
from palate.evaluation.tables import to_json
from palate.rankers.item_knn import ItemKNN, ItemKNNConfig
from palate.rankers.popularity import Popularity, PopularityConfig
from palate.recommender import Recommender
from palate.runs.run import Run

app = typer.Typer()
app.command("evaluate")(evaluate)
app.command("other")(lambda: None)


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0
    return result.output


def save_run(folder: Path, model: Recommender, dataset: Dataset, path: Path | None, seed: int = 0) -> Path:
    options = model.config.model_dump(mode="json")
    run = Run.start(folder, model=model.name, options=options, seed=seed, dataset=dataset, dataset_path=path)
    run.model_folder.mkdir()
    model.save(run.model_folder)
    run.add(finished=True)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A dataset and five runs: popularity, item-knn with three seeds, and item-knn with other options."""
    place = tmp_path_factory.mktemp("evaluate")
    dataset = random_logs(users=70, items=50, cold=3)
    dataset.save(place / "data")
    dataset = Dataset.load(place / "data")
    save_run(place / "popularity", Popularity.fit(dataset), dataset, place / "data")
    config = ItemKNNConfig(neighbours=20)
    for seed in (0, 1, 2):
        # The seeds of something that knows no chance, so let the data differ: as much as another draw would.
        other = random_logs(users=70, items=50, cold=3, seed=100 + seed)
        knn = ItemKNN(ItemKNN.fit(other, config).similarity, config)
        save_run(place / f"knn-seed{seed}", knn, dataset, place / "data", seed)
    save_run(place / "knn-few", ItemKNN.fit(dataset, ItemKNNConfig(neighbours=2)), dataset, place / "data")
    return place


def all_runs(place: Path) -> list[Path]:
    return [place / name for name in ("popularity", "knn-seed2", "knn-few", "knn-seed0", "knn-seed1")]


def test_one_table_for_several_runs(place, tmp_path):
    out = tmp_path / "out"
    text = call(*all_runs(place), "--out", out)
    assert "product (history excluded)" in text
    assert {path.name for path in out.iterdir()} == {
        "table.md",
        "table.json",
        "chart.png",
        "per-user.parquet",
        "trade-off.png",
    }
    table = json.loads((out / "table.json").read_text())
    assert [(row["label"], row["seeds"]) for row in table["models"]] == [
        ("popularity", [0]),
        ("knn", [0, 1, 2]),
        ("knn-few", [0]),
    ]
    assert [Path(run["folder"]).name for run in table["runs"]["knn"]] == ["knn-seed0", "knn-seed1", "knn-seed2"]
    frame = pl.read_parquet(out / "per-user.parquet").filter(pl.col("slice") == "all")
    assert len(frame) == 5 * 70
    by_seed = frame.filter(pl.col("model") == "knn").group_by("seed").agg(pl.col("ndcg@10").mean()).sort("seed")
    np.testing.assert_allclose(by_seed["ndcg@10"], table["models"][1]["metrics"]["ndcg@10"]["by_seed"])
    assert f"{by_seed['ndcg@10'].mean():.4f} [" in (out / "table.md").read_text()
    with Image.open(out / "chart.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 500
    # Read back, the rows make the same table again, beside others.
    again = to_json(compare(load_groups(out)))
    assert [again[part] for part in ("models", "slices")] == [table[part] for part in ("models", "slices")]


def test_json_for_machines(place):
    facts = json.loads(call(*all_runs(place), "--json", "--keep-seen", "--ks", "3", "--base", place / "knn-few"))
    assert facts["name"] == "peer (history kept)"
    assert facts["base"] == "knn-few"
    assert facts["primary"] == "ndcg@3"
    assert set(facts["models"][0]["differences"]) == {
        f"{m}@3" for m in ("ndcg", "recall", "hitrate", "mrr", "map", "novelty")
    }


def test_sampled_candidates_are_kept_and_can_be_given_again(place, tmp_path):
    words = (place / "popularity", place / "knn-few", "--protocol", "sampled", "--split", "valid", "--json")
    first = json.loads(
        call(*words, "--negatives", "9", "--candidates", "popularity", "--seed", "5", "--out", tmp_path / "a")
    )
    made = Candidates.load(tmp_path / "a" / "candidates.npz")
    assert made.fingerprint == first["candidates"]["fingerprint"]
    assert made.facts["kind"] == "popularity"
    assert made.facts["seed"] == 5
    again = json.loads(call(*words, "--candidates", tmp_path / "a" / "candidates.npz", "--seed", "5"))
    assert again["models"] == first["models"]
    with pytest.raises(PalateError, match="other targets"):
        call(place / "popularity", "--protocol", "sampled", "--candidates", tmp_path / "a" / "candidates.npz")


def test_rows_can_be_named(place):
    runs = f"nearest={place / 'knn-seed0'},{place / 'knn-seed1'}"
    facts = json.loads(call(f"bar={place / 'popularity'}", runs, "--json", "--base", "nearest"))
    assert [row["label"] for row in facts["models"]] == ["bar", "nearest"]


def test_options_from_a_file(place, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[evaluate]\nks = [4]\nmetrics = ["recall", "ndcg"]\nprimary = "recall@4"\nexclude-seen = false\n'
    )
    facts = json.loads(call(place / "popularity", "--config", recipe, "--json"))
    assert facts["primary"] == "recall@4"
    assert facts["name"] == "peer (history kept)"


def test_other_data_is_refused(place, tmp_path):
    other = random_logs(users=70, items=50, cold=3, seed=1)
    other.save(tmp_path / "other")
    with pytest.raises(PalateError, match="popularity was trained on other data than"):
        call(place / "popularity", "--dataset", tmp_path / "other")
    save_run(tmp_path / "run", Popularity.fit(other), other, tmp_path / "other")
    with pytest.raises(PalateError, match="run was trained on other data"):
        call(place / "popularity", tmp_path / "run")


def test_an_unfinished_run_is_refused_before_any_work(place, tmp_path, monkeypatch):
    dataset = Dataset.load(place / "data")
    broken = save_run(tmp_path / "broken", Popularity.fit(dataset), dataset, place / "data", seed=1)
    Run.open(broken).add(finished=False)
    monkeypatch.setattr("palate.evaluation.settings.evaluate", None)
    for words in ([place / "popularity", broken], [f"both={place / 'popularity'},{broken}"]):
        with pytest.raises(PalateError, match=r"broken is not finished.*that began it and --resume"):
            call(*words)


def test_a_dataset_that_moved_is_asked_for(tmp_path):
    dataset = random_logs()
    save_run(tmp_path / "lost", Popularity.fit(dataset), dataset, tmp_path / "gone")
    with pytest.raises(PalateError, match=r"the dataset .*gone is not there. Give --dataset"):
        call(tmp_path / "lost")
    save_run(tmp_path / "memory", Popularity.fit(dataset), dataset, None)
    with pytest.raises(PalateError, match="does not say where its dataset is"):
        call(tmp_path / "memory")
    dataset.save(tmp_path / "here")
    assert "popularity" not in call(tmp_path / "memory", "--dataset", tmp_path / "here")


@pytest.mark.parametrize(
    ("words", "wording"),
    [
        (["--protocol", "ful"], "no protocol 'ful'.*Did you mean 'full'"),
        (["--split", "train"], "no split 'train'"),
        (["--ks", "5,x"], "--ks 5,x"),
        (["--candidates", "uniformly", "--protocol", "sampled"], "--candidates uniformly"),
        (["--candidates", "popularity"], "--candidates popularity is about sampled .* Add --protocol sampled"),
        (["--negatives", "50"], "--negatives 50 is about sampled candidates"),
        (["--depth", "20"], "--depth is an option of --retriever"),
        (["--metrics", "ndgc"], "no metric named 'ndgc'"),
        (["--primary", "ndcg@7"], "'ndcg@7' is not measured"),
        (["--base", "sasrec"], "--base sasrec is none of the runs"),
        (["--device", "foo"], "'foo' is no device. Choose auto, cpu, cuda"),
    ],
)
def test_mistakes_are_told_before_any_work(place, words, wording, tmp_path, monkeypatch):
    monkeypatch.setattr("palate.evaluation.settings.evaluate", None)
    with pytest.raises(PalateError, match=wording):
        call(place / "popularity", *words, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_not_overwritten(place, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(PalateError, match="exists already"):
        call(place / "popularity", "--out", tmp_path)
    with pytest.raises(PalateError, match="not a run"):
        call(tmp_path)


def test_who_cannot_afford_the_catalogue_is_named_before_others_are_evaluated(place, monkeypatch):
    def refuse(self, histories, candidates=None):
        raise PalateError("scoring 50 items would take 3 hours", "Use --protocol sampled.")

    monkeypatch.setattr(Popularity, "score", refuse)
    monkeypatch.setattr(Popularity, "whole_catalogue", False)
    monkeypatch.setattr("palate.evaluation.settings.evaluate", None)
    with pytest.raises(PalateError, match=r"popularity: scoring 50 items would take 3 hours. Use --protocol sampled"):
        call(place / "knn-few", place / "popularity")


def test_grouping(place, tmp_path):
    dataset = Dataset.load(place / "data")
    model = Popularity.fit(dataset)
    for name, seed in (("v2-0", 0), ("v2-1", 1)):
        save_run(tmp_path / name, model, dataset, None, seed)
    assert [group.label for group in group_runs([str(tmp_path / "v2-1"), str(tmp_path / "v2-0")])] == ["v2"]
    for seed in (0, 1):
        save_run(tmp_path / "pop" / str(seed), model, dataset, None, seed)
    assert group_runs([str(tmp_path / "pop" / "0"), str(tmp_path / "pop" / "1")])[0].label == "popularity"
    twice = [str(tmp_path / "v2-0"), str(tmp_path / "pop" / "0")]
    with pytest.raises(PalateError, match="same options and the same seed 0"):
        group_runs(twice)
    assert [group.label for group in group_runs([f"a={twice[0]}", f"b={twice[1]}"])] == ["a", "b"]
    with pytest.raises(PalateError, match="differ in more than the seed"):
        group_runs([f"a={twice[0]},{place / 'knn-seed1'}"])
    with pytest.raises(PalateError, match="no name of its own"):
        group_runs([f"a={twice[0]}", f"a={twice[1]}"])
    recent = Popularity(model.counts, PopularityConfig(half_life_days=3))
    save_run(tmp_path / "sub" / "v2-0", recent, dataset, None)
    labels = [group.label for group in group_runs([twice[0], str(tmp_path / "sub" / "v2-0")])]
    assert labels == [f"v2-0 ({tmp_path.name})", "v2-0 (sub)"]


def test_tables_fold_on_a_narrow_terminal():
    wide = Table("t", ["model", "NDCG [95%]", "minus base [95%]"], [["a", "0.1 [0.0, 0.2]", "+0.1 [+0.0, +0.2]"]])
    assert _fit(wide, 200) == [wide]
    (folded,) = _fit(wide, 40)
    assert folded.rows == [["a", "0.1\n[0.0, 0.2]", "+0.1\n[+0.0, +0.2]"]]
    parts = _fit(wide, 25)
    assert [part.headers for part in parts] == [["model", "NDCG\n[95%]"], ["model", "minus\nbase\n[95%]"]]
    assert [row[0] for part in parts for row in part.rows] == ["a", "a"]


def test_the_memory_budget_reaches_the_ranking_and_changes_nothing(place, monkeypatch):
    words = [place / "popularity", place / "knn-few", "--json"]
    whole = json.loads(call(*words))
    budgets = []
    make = budget.plan
    monkeypatch.setattr(budget, "_MATRICES", 2**18 // 60)  # 60 scores in a MiB
    monkeypatch.setattr(budget, "_LEAST_ITEMS", 8)
    monkeypatch.setattr(
        "palate.evaluation.ranking.plan", lambda model, size, mb: budgets.append(mb) or make(model, size, mb)
    )
    small = json.loads(call(*words, "--memory-mb", 1))
    assert set(budgets) == {1}
    assert small["models"] == whole["models"]
    assert small["slices"] == whole["slices"]


def test_tables_for_papers_and_spreadsheets(place, tmp_path) -> None:
    words = (place / "popularity", place / "knn-few")
    text = call(*words, "--format", "latex", "--out", tmp_path / "out")
    assert text.startswith("% In the preamble: \\usepackage{booktabs}.")
    assert (tmp_path / "out" / "table.tex").read_text() == text
    rows = call(*words, "--format", "csv").splitlines()
    assert (len(rows), rows[0].split(",")[:3]) == (3, ["model", "seeds", "ndcg@5"])
    assert call(*words, "--format", "markdown") == (tmp_path / "out" / "table.md").read_text()
