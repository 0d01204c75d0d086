"""Bundles that somebody meddled with are refused before anything of them is used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palate.bundle import Bundle, add_items
from palate.bundle.language import check_prompt_pictures
from palate.bundle.manifest import sha256, verify
from palate.errors import PalateError


@pytest.fixture
def copy(text_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(text_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    facts = json.loads((folder / "bundle.json").read_text())
    change(facts)
    (folder / "bundle.json").write_text(json.dumps(facts))


def named(folder: Path, name: str, path: Path) -> None:
    """Let the manifest name a file."""
    entry = {"sha256": sha256(path), "bytes": path.stat().st_size}
    edit(folder, lambda facts: facts["files"].update({name: entry}))


def test_an_untouched_copy_is_fine(copy: Path) -> None:
    assert Bundle.load(copy).facts["model"] == "sasrec"


@pytest.mark.parametrize(
    "name", ["model/config.json", "model/weights.safetensors", "items.parquet", "features/text.safetensors"]
)
def test_one_changed_byte_is_noticed(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(PalateError, match="sha256 differs"):
        Bundle.load(copy)


def test_the_card_may_be_edited_but_nothing_else_added(copy: Path) -> None:
    (copy / "README.md").write_text("# ours")
    (copy / ".gitattributes").write_text("*.safetensors filter=lfs")
    (copy / ".cache/huggingface").mkdir(parents=True)
    (copy / ".cache/huggingface/x.lock").touch()
    Bundle.load(copy)
    (copy / "model/extra.safetensors").write_bytes(b"")
    with pytest.raises(PalateError, match=r"does not name: 'model/extra\.safetensors'"):
        Bundle.load(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "features/text.safetensors").unlink()
    with pytest.raises(PalateError, match=r"lacks the file 'features/text\.safetensors'"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "/etc/hostname.txt",
        "model/../../secret.txt",
        "model\\..\\secret.txt",
        "C:secret.txt",
        "a\x00.txt",
    ],
)
def test_names_that_lead_out_are_refused(copy: Path, name: str) -> None:
    secret = copy.parent / "secret.txt"
    secret.write_text("secret")
    named(copy, name, secret)
    with pytest.raises(PalateError, match="is outside of the bundle"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "name", ["model/weights.pt", "model/x.pkl", "model/code.py", "x.so", "model/pytorch_model.bin"]
)
def test_kinds_that_can_run_code_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"x")
    named(copy, name, copy / name)
    with pytest.raises(PalateError, match="of a kind that no bundle holds"):
        Bundle.load(copy)


def test_links_are_not_followed_out(copy: Path) -> None:
    outside = copy.parent / "weights.safetensors"
    shutil.move(copy / "model/weights.safetensors", outside)
    (copy / "model/weights.safetensors").symlink_to(outside)
    with pytest.raises(PalateError, match="a link that leads out"):
        Bundle.load(copy)


def test_linked_folders_and_manifests_are_refused(copy: Path) -> None:
    shutil.move(copy / "features", copy.parent / "features")
    (copy / "features").symlink_to(copy.parent / "features")
    with pytest.raises(PalateError, match="a link to a folder"):
        Bundle.load(copy)
    shutil.move(copy / "bundle.json", copy.parent / "bundle.json")
    (copy / "bundle.json").symlink_to(copy.parent / "bundle.json")
    with pytest.raises(PalateError, match="a link that leads out"):
        verify(copy)


def test_other_formats_are_refused(copy: Path) -> None:
    edit(copy, lambda facts: facts.update(format=99))
    with pytest.raises(PalateError, match="bundle format 99, this Palate reads 1"):
        Bundle.load(copy)
    edit(copy, lambda facts: facts.update(kind="something"))
    with pytest.raises(PalateError, match="is not a bundle's"):
        Bundle.load(copy)
    (copy / "bundle.json").write_text("[")
    with pytest.raises(PalateError, match="not valid JSON"):
        Bundle.load(copy)
    with pytest.raises(PalateError, match="is not a bundle"):
        Bundle.load(copy.parent)


@pytest.mark.parametrize("key", ["files", "items", "run", "features", "model"])
def test_a_manifest_with_gaps_is_refused(copy: Path, key: str) -> None:
    edit(copy, lambda facts: facts.pop(key))
    with pytest.raises(PalateError, match=f"lacks '{key}'"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"file": "../features.safetensors"},
        {"file": 3},
        {"encoder": None},
        {"content": {"kind": "text"}},
        {"width": "x"},
    ],
)
def test_features_that_lead_elsewhere_are_refused(copy: Path, changes: dict[str, Any]) -> None:
    shutil.copyfile(copy / "features/text.safetensors", copy.parent / "features.safetensors")
    edit(copy, lambda facts: facts["features"]["text"].update(changes))
    with pytest.raises(PalateError, match="what it says of the text features is not whole"):
        Bundle.load(copy)


def test_a_damaged_card_is_one_sentence(copy: Path) -> None:
    edit(copy, lambda facts: facts["metrics"].update(test=[{"split": 1}]))
    (copy.parent / "new.csv").write_text("item_id,title,tags\nnew,space story,space\n")
    with pytest.raises(PalateError, match=r"bundle\.json is damaged"):
        add_items(copy, copy.parent / "new.csv", copy.parent / "out")
    assert not (copy.parent / "out").exists()


def test_an_unknown_model_is_refused(copy: Path) -> None:
    edit(copy, lambda facts: facts.update(model="sasrek"))
    with pytest.raises(PalateError, match="no ranker named 'sasrek'"):
        Bundle.load(copy)


def test_a_picture_outside_is_not_handed_out(copy: Path, films: Path) -> None:
    import polars as pl

    secret = films.parent / "secret.png"
    shutil.copyfile(films.parent / "pictures/love-1.png", secret)
    frame = pl.read_parquet(copy / "items.parquet")
    frame = frame.with_columns(pl.lit("../secret.png").alias("image"))
    frame.write_parquet(copy / "items.parquet")
    named(copy, "items.parquet", copy / "items.parquet")
    bundle = Bundle.load(copy)
    assert bundle.picture(1) is None
    frame.with_columns(pl.lit("../secret.png").alias("picture")).write_parquet(copy / "items.parquet")
    named(copy, "items.parquet", copy / "items.parquet")
    with pytest.raises(PalateError, match="lacks the picture"):
        Bundle.load(copy)


def test_a_model_and_an_id_map_of_different_sizes_are_refused(copy: Path) -> None:
    import polars as pl

    pl.read_parquet(copy / "items.parquet").head(3).write_parquet(copy / "items.parquet")
    named(copy, "items.parquet", copy / "items.parquet")
    with pytest.raises(PalateError, match="the id map has 3"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("images", "elsewhere", "refused"),
    [
        ("../images", True, False),
        ("/somebody/pictures", False, False),
        ("/somebody/pictures", True, True),
        ("../../pictures", True, True),
        ("https://intern/pictures", False, True),
    ],
)
def test_where_the_pictures_of_prompts_may_be(tmp_path: Path, images: str, elsewhere: bool, refused: bool) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "items.json").write_text(json.dumps({"images": images}))
    for shown in ("none", "candidate"):
        (model / "config.json").write_text(json.dumps({"config": {"prompt": {"images": shown}}}))
        if refused and shown != "none":
            with pytest.raises(PalateError, match=r"pictures of its prompts outside of it .* --with-images"):
                check_prompt_pictures(tmp_path, elsewhere=elsewhere)
        else:
            check_prompt_pictures(tmp_path, elsewhere=elsewhere)


def test_a_url_that_a_bundle_names_for_its_pictures_is_not_read(copy: Path) -> None:
    edit(copy, lambda facts: facts["items"].update(image_root="https://intern/pictures"))
    root = Bundle.load(copy).items.catalogue.root
    assert root == copy / "images"
