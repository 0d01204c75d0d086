"""What a bundle holds, and that it answers as its run does without anything of the run."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_helpers import make_run
from PIL import Image
from safetensors.numpy import load_file

from palate.bundle import Bundle, make_bundle
from palate.bundle.manifest import sha256
from palate.errors import PalateError
from palate.features.store import FeatureStore
from palate.rankers.recommend import Recommendations
from palate.rankers.registry import load_recommender
from palate.runs.run import Run

HISTORIES = [["space-1", "space-2", "crime-3"], ["love-1"], []]


@pytest.mark.parametrize("fixture", ["text_run", "full_run", "popular_run"])
def test_a_bundle_answers_as_its_run(fixture: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    run: Run = request.getfixturevalue(fixture)
    bundle = Bundle.load(make_bundle(run, tmp_path / "bundle").folder)
    model, index = load_recommender(run), run.catalogue.index
    for history in HISTORIES:
        items, scores = model.recommend([[index[item] for item in history]], 5)
        expected = [
            (run.catalogue.ids[item], score) for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True)
        ]
        assert bundle.recommend(history, 5) == expected
    assert bundle.items.ids == run.catalogue.ids
    assert bundle.items.titles == run.catalogue.titles


@pytest.mark.parametrize("model", ["item-knn", "gru4rec"])
def test_every_kind_of_ranker_has_a_bundle(model: str, films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", model=model, modalities="id")
    bundle = Bundle.load(make_bundle(run, tmp_path / "bundle").folder)
    assert len(bundle.recommend(["space-1"], 3)) == 3
    assert not (bundle.folder / "features").exists()


@pytest.mark.parametrize("model", ["sasrec", "ease", "item-knn"])
def test_files_that_are_written_over_do_not_change_a_loaded_bundle(model: str, films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", model=model, modalities="id")
    bundle = Bundle.load(make_bundle(run, tmp_path / "bundle").folder)
    expected = bundle.recommend(["space-1", "crime-3"], 5)
    for path in (bundle.folder / "model").glob("*.safetensors"):
        with path.open("r+b") as file:  # in place, as `cp` writes
            file.write(bytes(path.stat().st_size))
    assert bundle.recommend(["space-1", "crime-3"], 5) == expected


def test_it_loads_where_run_and_dataset_are_gone(films: Path, full_run: Run, tmp_path: Path) -> None:
    """In a process of its own, with the run and its data moved away and pickle out of order."""
    shutil.copytree(full_run.folder, tmp_path / "run")
    info = json.loads((tmp_path / "run/run.json").read_text())
    info["dataset"] |= {"path": str(tmp_path / "gone"), "image_root": str(tmp_path / "gone/pictures")}
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    made = make_bundle(tmp_path / "run", tmp_path / "bundle")
    assert any("not with its dataset any more" in note for note in made.notes)
    shutil.rmtree(tmp_path / "run")
    script = (
        "import pickle, json, torch\n"
        "from palate.bundle import Bundle\n"
        "def refuse(*a, **k): raise AssertionError('pickle')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = refuse\n"
        "torch.load = refuse\n"
        f"print(json.dumps(Bundle.load({str(tmp_path / 'bundle')!r}).recommend(['space-1', 'space-2'], 4)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model, index = load_recommender(full_run), full_run.catalogue.index
    items, _ = model.recommend([[index["space-1"], index["space-2"]]], 4)
    assert [item for item, _ in json.loads(done.stdout)] == [full_run.catalogue.ids[i] for i in items[0].tolist()]


def test_unknown_ids_are_reported_and_not_fatal(text_bundle: Path) -> None:
    bundle = Bundle.load(text_bundle)
    answer = bundle.recommend(["nobody", "space-1", "nothing"], 3)
    assert answer.unknown == ["nobody", "nothing"]
    assert answer == bundle.recommend(["space-1"], 3)
    newcomer = bundle.recommend(["nobody"], 3)
    assert newcomer == bundle.recommend([], 3)
    assert newcomer.unknown == ["nobody"]
    assert bundle.items.index_of("nobody") is None
    assert bundle.items.ids[bundle.items.index_of("space-1") or 0] == "space-1"


@pytest.mark.parametrize("k", [0, -1, True, 1.5, 5.0, "5", None])
def test_how_many_is_a_whole_number(text_bundle: Path, text_run: Run, k: Any) -> None:
    message = re.escape(f"k is {k!r}. Ask for a whole number of items, at least 1.")
    with pytest.raises(PalateError, match=message):
        Bundle.load(text_bundle).recommend(["space-1"], k)
    with pytest.raises(PalateError, match=message):
        Recommendations(text_run)([["space-1"]], k)
    assert len(Bundle.load(text_bundle).recommend(["space-1"], np.int64(2))) == 2


def test_allowed_and_seen(text_bundle: Path) -> None:
    bundle = Bundle.load(text_bundle)
    allowed = np.zeros(len(bundle.items) + 1, np.bool_)
    some = {"love-1", "love-2"}
    allowed[[bundle.items.index_of(item) for item in some]] = True
    assert {item for item, _ in bundle.recommend(["space-1"], 5, allowed=allowed)} == some
    assert {item for item, _ in bundle.recommend(["love-1"], 5, allowed=torch.from_numpy(allowed))} == {"love-2"}
    assert {item for item, _ in bundle.recommend(["love-1"], 5, exclude_seen=False, allowed=allowed)} == some
    with pytest.raises(PalateError, match="allowed is"):
        bundle.recommend([], 5, allowed=allowed[:-1])
    narrowed = bundle.recommend(["space-1"], 5, allowed=allowed, deny=["love-1", "gone"])
    assert ({item for item, _ in narrowed}, narrowed.unknown) == ({"love-2"}, ["gone"])
    assert {item for item, _ in bundle.recommend(["space-1"], 5, only=["item_id=love-1,love-2"])} == some


def test_fields_are_kept_even_where_they_have_our_names(films: Path, tmp_path: Path) -> None:
    run = make_run(films, tmp_path / "run", model="popularity", modalities="id")
    frame = run.catalogue.frame.rename({"year": "index", "tags": "picture"})
    frame.write_parquet(run.folder / "catalogue.parquet")
    bundle = Bundle.load(make_bundle(Run.open(run.folder), tmp_path / "bundle").folder)
    assert bundle.items.fields == ["picture", "index"]
    place = bundle.items.index_of("space-3") or 0
    assert bundle.items.facts(place)["index"] == 1993
    with pytest.raises(PalateError, match="no item with index 0"):
        bundle.items.facts(0)


def test_features_are_copied_as_they_were(films: Path, full_run: Run, full_bundle: Path, tmp_path: Path) -> None:
    store = FeatureStore.load(films / "features/image", full_run.catalogue)
    kept = load_file(full_bundle / "features/image.safetensors")
    assert np.array_equal(kept["vectors"], store.vectors)
    assert np.array_equal(kept["present"], store.present)
    facts = Bundle.load(full_bundle).facts["features"]
    assert facts["image"]["fingerprint"] == store.fingerprint
    assert facts["text"]["content"] == {"kind": "text", "fields": ["title", "tags"], "without": None}
    without = make_bundle(full_run, tmp_path / "bundle", with_features=False)
    assert not (without.folder / "features").exists()
    assert without.facts["features"]["text"]["encoder"]["fingerprint"]
    assert Bundle.load(without.folder).recommend(["space-1"]) == Bundle.load(full_bundle).recommend(["space-1"])


def test_features_that_are_gone_are_missed_only_when_asked_for(full_run: Run, tmp_path: Path) -> None:
    shutil.copytree(full_run.folder, tmp_path / "run")
    info = json.loads((tmp_path / "run/run.json").read_text())
    info["dataset"]["path"] = None
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    with pytest.raises(PalateError, match="features that the run was trained on are not with its dataset"):
        make_bundle(tmp_path / "run", tmp_path / "bundle", with_features=True)
    assert not (tmp_path / "bundle").exists()


def test_pictures_are_copied_small_and_found(full_bundle: Path, text_bundle: Path, films: Path) -> None:
    bundle = Bundle.load(full_bundle)
    path = bundle.picture(bundle.items.index_of("love-3") or 0)
    assert path is not None
    assert path.is_relative_to(full_bundle / "images")
    with Image.open(path) as image:
        assert max(image.size) == 512
        assert image.convert("RGB").getpixel((10, 10))[1] > 180  # type: ignore[index]
    assert bundle.picture(bundle.items.index_of("love-0") or 0) is None
    elsewhere = Bundle.load(text_bundle)
    home = elsewhere.picture(elsewhere.items.index_of("love-3") or 0)
    assert home == films.parent / "pictures/love-3.png"
    moved = Bundle.load(text_bundle, images=films)
    assert moved.picture(moved.items.index_of("love-3") or 0) is None


def test_a_picture_that_cannot_be_opened_is_told(films: Path, popular_run: Run, tmp_path: Path) -> None:
    shutil.copytree(popular_run.folder, tmp_path / "run")
    shutil.copytree(films.parent / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures/love-1.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "pictures/love-2.png").unlink()
    info = json.loads((tmp_path / "run/run.json").read_text())
    info["dataset"]["image_root"] = str(tmp_path / "pictures")
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    made = make_bundle(tmp_path / "run", tmp_path / "bundle", with_images=True)
    assert "2 pictures were left out" in made.notes[0]
    assert "love-1" in made.notes[0]
    bundle = Bundle.load(made.folder)
    assert bundle.picture(bundle.items.index_of("love-1") or 0) is None
    assert bundle.picture(bundle.items.index_of("love-4") or 0) is not None


def test_the_card_has_what_a_hub_reads(full_run: Run, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    bundle = make_bundle(full_run, tmp_path / "bundle", license="apache-2.0")
    text = (bundle.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "palate"
    assert "sasrec" in front["tags"]
    assert "model-index" not in front  # nothing was tested
    assert "ndcg@10" not in text.lower().split("## measured")[0]
    assert bundle.facts["metrics"]["validation"]["metrics"]
    for heading in ("Model", "Data", "Measured", "Intended use", "Limits", "Where it comes from"):
        assert f"\n## {heading}\n" in text


def test_hostile_names_stay_text_on_the_card(popular_run: Run, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    from palate.bundle.card import write_card

    facts = make_bundle(popular_run, tmp_path / "bundle").facts
    facts["name"] = 'x"\n- evil: <img src=x onerror=alert(1)> \x85\u2028 [a](javascript:x)'
    facts["run"]["dataset"]["name"] = "`rm`\n---\n# owned"
    facts["metrics"]["test"] = [
        {
            "metrics": {"ndcg@10": {"mean": 0.5}}, "primary": "ndcg@10", "split": "test", "cases": 3, "seeds": [0],
            "evaluation": "e", "label": "l",
        }
    ]  # fmt: skip
    write_card(tmp_path / "card.md", facts)
    text = (tmp_path / "card.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.5
    assert "<img" not in text.split("---\n", 2)[2].replace("\\<img", "")
    assert "\n# owned" not in text


def test_tables_are_those_of_this_run(
    text_run: Run, popular_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palate.cli.app import main

    monkeypatch.setattr(
        sys, "argv", ["palate", "evaluate", str(text_run.folder), "--out", str(tmp_path / "evaluation")]
    )
    with contextlib.suppress(SystemExit):
        main()
    table = json.loads((tmp_path / "evaluation/table.json").read_text())
    made = make_bundle(text_run, tmp_path / "bundle", tables=[tmp_path / "evaluation"])
    row = made.facts["metrics"]["test"][0]
    assert row["metrics"]["ndcg@10"]["mean"] == table["models"][0]["metrics"]["ndcg@10"]["mean"]
    assert f"| ndcg@10 | {row['metrics']['ndcg@10']['this_seed']:.4f} |" in (made.folder / "README.md").read_text()
    with pytest.raises(PalateError, match="has no row of"):
        make_bundle(popular_run, tmp_path / "other", tables=[tmp_path / "evaluation"])
    with pytest.raises(PalateError, match="holds no table"):
        make_bundle(popular_run, tmp_path / "other", tables=[tmp_path])


def test_the_manifest_names_every_file_with_its_hash(full_bundle: Path) -> None:
    facts = json.loads((full_bundle / "bundle.json").read_text())
    files = {p.relative_to(full_bundle).as_posix() for p in full_bundle.rglob("*") if p.is_file()}
    assert set(facts["files"]) == files - {"bundle.json"}
    for name, entry in facts["files"].items():
        assert entry == {"sha256": sha256(full_bundle / name), "bytes": (full_bundle / name).stat().st_size}


def test_nothing_of_the_machine_or_the_log_is_in_it(text_run: Run, tmp_path: Path) -> None:
    made = make_bundle(text_run, tmp_path / "bundle", public_paths=False)
    for path in made.folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(text_run.folder.parent) not in path.read_text()
            assert "/films" not in path.read_text()
    assert "command" not in made.facts["run"]["environment"]
    assert not list(made.folder.rglob("*.pt"))


def test_runs_that_make_no_bundle(text_run: Run, tmp_path: Path) -> None:
    shutil.copytree(text_run.folder, tmp_path / "run")
    info = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**info, "finished": False}))
    with pytest.raises(PalateError, match="not finished"):
        make_bundle(tmp_path / "run", tmp_path / "bundle")
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    (tmp_path / "run/model/extra.pkl").write_bytes(b"x")
    with pytest.raises(PalateError, match="of a kind that no bundle holds"):
        make_bundle(tmp_path / "run", tmp_path / "bundle")
    with pytest.raises(PalateError, match="no identifier of a license"):
        make_bundle(text_run, tmp_path / "bundle", license="mit\nevil: true")
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(PalateError, match="exists already"):
        make_bundle(text_run, tmp_path / "full")
