"""``palate recommend`` and the Python call behind it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from cli_helpers import Shell

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.rankers.recommend import Recommendations
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.storage.files import read_json, write_json


def items_of(out: str) -> list[str]:
    return [row["item"] for row in json.loads(out)["items"]]


def test_history_is_answered_in_outside_ids(palate: Shell, popular: Path) -> None:
    told = palate("recommend", popular, "--history", "i1, i2", "--k", 3, "--json")
    answer = json.loads(told.out)
    assert answer["history"] == ["i1", "i2"]
    assert [row["rank"] for row in answer["items"]] == [1, 2, 3]
    # The same by hand: the most popular items that are not in the history.
    run = Run.open(popular)
    scores = load_recommender(run).score([[run.catalogue.index["i1"], run.catalogue.index["i2"]]])[0]
    ranked = sorted((run.catalogue.index[f"i{n}"] for n in range(13) if n not in (1, 2)), key=lambda i: (-scores[i], i))
    assert items_of(told.out) == [run.catalogue.ids[item] for item in ranked[:3]]


def test_an_unfinished_run_answers_with_a_warning(palate: Shell, popular: Path, tmp_path: Path) -> None:
    run = shutil.copytree(popular, tmp_path / "run")
    finished = palate("recommend", run, "--history", "i1", "--json")
    Run.open(run).add(finished=False)
    told = palate("recommend", run, "--history", "i1", "--json")
    assert (told.code, told.out) == (0, finished.out)
    assert "is not finished" in told.err
    assert "is not finished" not in finished.err


def test_keep_seen(palate: Shell, popular: Path) -> None:
    history = ",".join(f"i{n}" for n in range(12))
    assert items_of(palate("recommend", popular, "--history", history, "--json").out) == ["i12"]
    kept = items_of(palate("recommend", popular, "--history", history, "--keep-seen", "--k", 20, "--json").out)
    assert sorted(kept) == sorted(f"i{n}" for n in range(13))


def test_cold_items_can_be_recommended(palate: Shell, neural: Path) -> None:
    assert "i12" in items_of(palate("recommend", neural, "--history", "i1", "--k", 20, "--json").out)


def test_only_and_not(palate: Shell, neural: Path) -> None:
    red = items_of(palate("recommend", neural, "--history", "i1", "--only", "colour=RED", "--k", 20, "--json").out)
    assert sorted(red) == sorted(f"i{n}" for n in (3, 5, 7, 9, 11))
    words = ("--only", "tags=cheap", "--only", "colour=blue", "--without", "tags=new", "--k", 20, "--json")
    blue = items_of(palate("recommend", neural, "--history", "i1", *words).out)
    assert sorted(blue) == sorted(f"i{n}" for n in range(0, 12, 2))


def test_allow_and_deny(palate: Shell, neural: Path) -> None:
    told = palate("recommend", neural, "--history", "i1", "--allow", "i2,i3,i99", "--deny", "i3", "--json")
    assert items_of(told.out) == ["i2"]
    assert "Warning: no item 'i99', left out." in told.err
    red = palate("recommend", neural, "--history", "i1", "--allow", "i2,i3", "--only", "colour=red,blue", "--json")
    assert sorted(items_of(red.out)) == ["i2", "i3"]
    nobody = palate("recommend", neural, "--history", "i1", "--allow", "i2", "--deny", "i2")
    assert "no item is left by: allow, deny" in nobody.err
    from_python = Recommendations(neural, allow=["i2", "i3", "i99"], deny=["i3"])
    assert (from_python([["i1"]])["item"].to_list(), from_python.unknown) == (["i2"], ["i99"])


def test_fields_of_the_catalogue_beside_each_item(palate: Shell, neural: Path, tmp_path: Path) -> None:
    shown = palate("recommend", neural, "--history", "i1", "--fields", "colour,tags", "--json")
    first = json.loads(shown.out)["items"][0]
    catalogue = {row["item_id"]: row for row in Run.open(neural).catalogue.frame.iter_rows(named=True)}
    assert list(first) == ["rank", "item", "title", "score", "colour", "tags"]
    assert first["tags"] == catalogue[first["item"]]["tags"]
    assert "colour" in palate("recommend", neural, "--history", "i1", "--fields", "colour").out
    out = tmp_path / "recs.csv"
    assert palate("recommend", neural, "--all", "--out", out, "--fields", "colour,tags", "--k", 2).code == 0
    for row in pl.read_csv(out).iter_rows(named=True):
        assert row["colour"] == catalogue[row["item"]]["colour"]
        assert (row["tags"] or "") == ", ".join(catalogue[row["item"]]["tags"] or [])
    told = palate("recommend", neural, "--history", "i1", "--fields", "color")
    assert "the catalogue has no field 'color'. Did you mean 'colour'?" in told.err


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("colour=rad", "Did you mean 'colour=red'?"),
        ("colour=9", "The field holds, for example: blue, red."),
        ("color=red", "not a condition on this catalogue"),
        ("red", "not a condition on this catalogue"),
    ],
)
def test_conditions_nobody_meets(palate: Shell, neural: Path, condition: str, told: str) -> None:
    for option in ("--only", "--without"):  # a misspelt --without would show what it was to leave out
        outcome = palate("recommend", neural, "--history", "i1", option, condition)
        assert outcome.code == 2
        assert told in outcome.err


@pytest.mark.parametrize("device", ["foo", "cuda:99", "cuda:-1", "meta"])
def test_a_device_that_is_not_there(palate: Shell, popular: Path, device: str) -> None:
    told = palate("recommend", popular, "--history", "i1", "--device", device)
    assert told.code == 2
    assert f"'{device}'" in told.err
    with pytest.raises(PalateError, match=f"'{device}'"):
        load_recommender(Run.open(popular), device=device)
    assert palate("recommend", popular, "--history", "i1", "--device", "auto").code == 0


def test_conditions_that_exclude_each_other(palate: Shell, neural: Path) -> None:
    outcome = palate("recommend", neural, "--history", "i1", "--only", "colour=red", "--without", "colour=red")
    assert "no item is left by: only colour=red, without colour=red" in outcome.err


def test_unknown_items(palate: Shell, neural: Path) -> None:
    nobody = palate("recommend", neural, "--history", "i99")
    assert nobody.code == 2
    assert "i99" in nobody.err
    by_title = palate("recommend", neural, "--history", "thing 7")
    assert "Did you mean 'i7' (Thing 7)?" in by_title.err
    some = palate("recommend", neural, "--history", "i1,thing 7", "--json")
    assert some.code == 0
    assert json.loads(some.out)["history"] == ["i1"]
    assert "Warning: no item 'thing 7'" in some.err


def test_a_newcomer_and_ids_with_commas(palate: Shell, popular: Path) -> None:
    assert len(items_of(palate("recommend", popular, "--history", "", "--k", 5, "--json").out)) == 5
    assert "'a,b'" in palate("recommend", popular, "--history", '"a,b"').err


def test_user_and_everyone_agree(palate: Shell, neural: Path, shop: Path, tmp_path: Path) -> None:
    told = palate("recommend", neural, "--all", "--out", tmp_path / "recs.parquet", "--k", 4, "--json")
    facts = json.loads(told.out)
    table = pl.read_parquet(tmp_path / "recs.parquet")
    assert (facts["users"], facts["rows"]) == (40, len(table))
    kinds = {"user": pl.String, "rank": pl.Int32, "item": pl.String, "score": pl.Float32, "title": pl.String}
    assert table.schema == kinds
    data = Dataset.load(shop)
    assert table["user"].unique(maintain_order=True).to_list() == data.user_ids.to_list()
    for user in data.user_ids.to_list()[::7]:
        one = palate("recommend", neural, "--user", user, "--k", 4, "--json").out
        rows = table.filter(pl.col("user") == user)
        assert rows["item"].to_list() == items_of(one)
        assert not set(items_of(one)) & set(json.loads(one)["history"])
        assert rows["rank"].to_list() == list(range(1, len(rows) + 1))


def test_unknown_user(palate: Shell, neural: Path) -> None:
    told = palate("recommend", neural, "--user", "nobody")
    assert told.code == 2
    assert "'nobody'" in told.err


def test_batches_do_not_change_the_table(
    neural: Path, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, data = Recommendations(neural), Dataset.load(shop)
    ready.for_everyone(data, tmp_path / "one.parquet", 3)
    monkeypatch.setattr("palate.rankers.recommend._BATCH_SCORES", 14 * 7)
    monkeypatch.setattr("palate.rankers.recommend.HISTORIES_IN_BLOCKS", 7)  # users at a time
    monkeypatch.setattr("palate.recommender._SCORES", 5 * 7)  # items at a time, of these users
    ready.for_everyone(data, tmp_path / "many.parquet", 3)
    one, many = pl.read_parquet(tmp_path / "one.parquet"), pl.read_parquet(tmp_path / "many.parquet")
    assert one.drop("score").equals(many.drop("score"))
    assert (one["score"] - many["score"]).abs().max() < 1e-5


def test_nothing_is_left_of_a_table_that_fails(neural: Path, shop: Path, tmp_path: Path) -> None:
    ready, data = Recommendations(neural), Dataset.load(shop)
    ready.recommender.recommend = lambda *given: (_ for _ in ()).throw(RuntimeError("out of memory"))  # type: ignore
    with pytest.raises(RuntimeError):
        ready.for_everyone(data, tmp_path / "recs.parquet", 3)
    assert list(tmp_path.iterdir()) == []


def test_new_logs_with_items_the_run_does_not_know(palate: Shell, neural: Path, shop: Path, tmp_path: Path) -> None:
    """A dataset prepared later: other item order, an item more; ids decide, not positions."""
    from palate.data.frames import from_frames

    log = pl.DataFrame({"user": ["v"] * 5, "item": ["brand-new", "i4", "i2", "i11", "i9"]})
    from_frames(log, name="later").save(tmp_path / "later")
    told = palate("recommend", neural, "--user", "v", "--dataset", tmp_path / "later", "--json")
    assert json.loads(told.out)["history"] == ["i4", "i2", "i11", "i9"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nobody to recommend to"),
        (["--history", "i1", "--user", "u1"], "--history and --user together"),
        (["--all"], "--all prints nothing"),
        (["--history", "i1", "--out", "x.parquet"], "--out belongs to --all"),
        (["--all", "--out", "."], "is a folder"),
    ],
)
def test_exactly_one_way_to_ask(palate: Shell, popular: Path, words: list[str], told: str) -> None:
    outcome = palate("recommend", popular, *words)
    assert outcome.code == 2
    assert told in outcome.err


def test_the_table_shows_titles_without_steering_the_terminal(palate: Shell, popular: Path) -> None:
    told = palate("recommend", popular, "--history", "i1", "--k", 13)
    assert "Bold [red]?[31m thing" in told.out
    assert "\x1b[31m thing" not in told.out


def test_a_run_whose_dataset_moved(palate: Shell, popular: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(popular, moved)
    info = read_json(moved / "run.json")
    info["dataset"]["path"] = str(tmp_path / "gone")
    write_json(moved / "run.json", info)
    told = palate("recommend", moved, "--user", "u1")
    assert told.code == 2
    assert "--dataset" in told.err
    assert palate("recommend", moved, "--history", "i1").code == 0  # a history needs no dataset


def test_from_python(popular: Path) -> None:
    best = Recommendations(popular)([["i1"], [], [f"i{n}" for n in range(12)]], k=2)
    assert best.columns == ["history", "rank", "item", "title", "score"]
    assert best["history"].to_list() == [0, 0, 1, 1, 2]  # one item is left for the last
    with pytest.raises(PalateError, match="knows no item 'i77'"):
        Recommendations(popular)([["i77"]])


def test_a_model_that_does_not_fit_its_catalogue(popular: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(popular, broken)
    pl.read_parquet(broken / "catalogue.parquet").head(5).write_parquet(broken / "catalogue.parquet")
    with pytest.raises(PalateError, match="scores 13 items, its catalogue has 5"):
        Recommendations(broken)


@pytest.mark.parametrize(("name", "separator"), [("recs.csv", ","), ("RECS.TSV", "\t")])
def test_everyone_is_written_in_the_format_of_the_ending(
    palate: Shell, popular: Path, tmp_path: Path, name: str, separator: str
) -> None:
    assert palate("recommend", popular, "--all", "--out", tmp_path / name, "--k", 2).code == 0
    assert palate("recommend", popular, "--all", "--out", tmp_path / "recs.parquet", "--k", 2).code == 0
    text = pl.read_csv(tmp_path / name, separator=separator, schema_overrides={"rank": pl.Int32, "score": pl.Float32})
    assert text.equals(pl.read_parquet(tmp_path / "recs.parquet"))
    assert text["title"].str.starts_with("Thing ").sum() > len(text) / 2


@pytest.mark.parametrize("name", ["recs.xls", "recs", "recs.csv.gz"])
def test_an_ending_that_is_not_written_is_refused_before_any_work(palate: Shell, tmp_path: Path, name: str) -> None:
    told = palate("recommend", tmp_path / "no-run", "--all", "--out", tmp_path / name)
    assert told.code == 2
    assert f"{name} cannot be written as a table. Give a name that ends in .parquet, .csv, .tsv, " in told.err
    assert not (tmp_path / name).exists()
