"""``palate prepare`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from palate.cli.prepare import prepare
from palate.cli.shared.options import parse_mapping
from palate.data.dataset import Dataset
from palate.data.folder import FILES
from palate.errors import PalateError


def invoke(*arguments: object) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)  # so that `prepare` stays a command of its own
    app.command("prepare")(prepare)
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def refused(result: Result) -> str:
    assert isinstance(result.exception, PalateError), result.output
    return str(result.exception)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    rows = "".join(
        f"u{user},{(user * 3 + step) % 7},{1000 + step},{1 + (user + step) % 5}\n"
        for user in range(9)
        for step in range(5)
    )
    (tmp_path / "log.csv").write_text(f"uid,sku,ts,stars\n{rows}")
    (tmp_path / "mugs.csv").write_text("sku,name\n" + "".join(f"{i},Mug {i}\n" for i in range(6)))
    return tmp_path / "log.csv"


MAPPED = ("--reader", "table", "--columns", "user=uid,item=sku,timestamp=ts,weight=stars")


def test_prints_every_filter_and_the_split(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke(log, *MAPPED, "--out", out, "--min-rating", 2, "--k-core", 2, "--name", "mugs")
    assert result.exit_code == 0, result.output
    dataset = Dataset.load(out)
    for words in ("mugs: table from log.csv", "read", "min-rating", "duplicates", "k-core", "leave-last-out", "valid"):
        assert words in result.output
    assert f"{len(dataset)}" in result.output
    assert dataset.fingerprint in result.output
    assert dataset.name == "mugs"


def test_prints_which_fields_are_text(log: Path, tmp_path: Path) -> None:
    """A price with a decimal comma is text, and shows as such before anybody filters by it."""
    (tmp_path / "mugs.csv").write_text(
        "sku;name;price;stock\n" + "".join(f"{i};Mug {i};2,5{i};{i}\n" for i in range(7))
    )
    result = invoke(log, *MAPPED, "--catalogue", tmp_path / "mugs.csv", "--item-columns", "item_id=sku,title=name",
                    "--out", tmp_path / "out")  # fmt: skip
    assert "Fields that are text: price." in result.output
    assert "Fields that are not: stock." in result.output


def test_prints_the_manifest_as_json(log: Path, tmp_path: Path) -> None:
    catalogue = ("--catalogue", tmp_path / "mugs.csv", "--item-columns", "item_id=sku,title=name")
    result = invoke(log, *MAPPED, *catalogue, "--out", tmp_path / "out", "--json", "--missing-items", "drop")
    manifest = json.loads(result.stdout)
    assert manifest["counts"]["items"] == manifest["counts"]["items_with_title"] == 6
    assert manifest["fingerprint"] == Dataset.load(tmp_path / "out").fingerprint
    assert manifest["reader_options"]["catalogue"] == "mugs.csv"


def test_options_come_from_a_file_and_those_given_win(log: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[prepare]\nk-core = 2\nsplit = "leave-last-n"\nlast-n = 2\nseed = 5\n'
        'columns = { user = "uid", item = "sku", timestamp = "ts" }\n'
    )
    result = invoke(log, "--reader", "table", "--out", tmp_path / "out", "--config", recipe, "--last-n", 1)
    assert result.exit_code == 0, result.output
    manifest = Dataset.load(tmp_path / "out").manifest
    assert manifest["split"] == {"name": "leave-last-n", "last_n": 1}
    assert (manifest["seed"], manifest["options"]["k_core"]) == (5, 2)


def test_an_unknown_key_in_the_file_is_an_error(log: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("[prepare]\nk-kore = 2\n")
    result = invoke(log, *MAPPED, "--out", tmp_path / "out", "--config", tmp_path / "recipe.toml")
    assert "Did you mean 'k-core'" in refused(result)
    assert not (tmp_path / "out").exists()


def test_an_existing_dataset_is_replaced_only_on_request(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert invoke(log, *MAPPED, "--out", out).exit_code == 0
    before = Dataset.load(out).fingerprint
    assert "exists already" in refused(invoke(log, *MAPPED, "--out", out, "--k-core", 2))
    assert Dataset.load(out).fingerprint == before
    assert invoke(log, *MAPPED, "--out", out, "--min-rating", 3, "--overwrite").exit_code == 0
    assert Dataset.load(out).fingerprint != before


def test_overwrite_never_deletes_a_folder_that_is_no_dataset(log: Path, tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_bytes(b"photo")
    assert "is not a dataset" in refused(invoke(log, *MAPPED, "--out", tmp_path / "holiday", "--overwrite"))
    assert (tmp_path / "holiday" / "photo.jpg").exists()


def test_overwrite_carries_features_and_pictures_over_and_says_so(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invoke(log, *MAPPED, "--out", out)
    for name in ("features/text/store.json", "images/0.jpg"):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_text("hours of work")
    (out / ".users.parquet.77.0123abcd.part").write_text("of a write that was interrupted")
    result = invoke(log, *MAPPED, "--out", out, "--min-rating", 3, "--overwrite", "--json")
    assert result.exit_code == 0, result.output
    assert "Kept features/ and images/" in result.stderr
    assert json.loads(result.stdout)["fingerprint"] == Dataset.load(out).fingerprint
    assert (out / "features/text/store.json").read_text() == (out / "images/0.jpg").read_text() == "hours of work"
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "features", "images"])
    assert not list(tmp_path.glob(".*"))


def test_overwrite_spares_the_folder_of_a_web_app(log: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    (app / "manifest.json").write_text('{"name": "My app", "start_url": "."}')
    (app / "index.html").write_text("<html>")
    assert "is not a dataset" in refused(invoke(log, *MAPPED, "--out", app, "--overwrite"))
    for name in FILES[1:]:
        (app / name).write_text("")
    assert "manifest.json is not Palate's" in refused(invoke(log, *MAPPED, "--out", app, "--overwrite"))
    assert (app / "index.html").read_text() == "<html>"


def test_what_else_lies_in_a_dataset_is_never_deleted(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    invoke(log, *MAPPED, "--out", out)
    (out / "notes.txt").write_text("mine")
    assert "would delete notes.txt" in refused(invoke(log, *MAPPED, "--out", out, "--overwrite"))
    with pytest.raises(PalateError, match=r"would delete notes\.txt"):
        Dataset.load(out).save(out, replace=True)
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(invoke(log, *MAPPED, "--out", tmp_path / "file", "--overwrite"))
    assert (out / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_nothing_is_left_behind_when_it_fails(log: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    assert "k-core" in refused(invoke(log, *MAPPED, "--out", tmp_path / "out", "--k-core", 99))
    assert "no times" in refused(
        invoke(
            log,
            "--reader",
            "table",
            "--columns",
            "user=uid,item=sku",
            "--out",
            tmp_path / "out",
            "--split",
            "global-time",
        )
    )
    assert "Did you mean 'table'" in refused(invoke(log, "--reader", "tabel", "--out", tmp_path / "out"))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("text", ["user", "=uid", "user=uid,user=sku", 'user="uid', "user=uid,"])
def test_mappings_must_be_pairs(text: str) -> None:
    with pytest.raises(PalateError, match="--columns"):
        parse_mapping(text, "--columns")
