"""Encoding again after a night: only new or changed contents are encoded, and the store is the one made of nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from feature_helpers import IMAGES, TITLES, Foretold, build, foretold, picture

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features import chunks
from palate.features.content import Modality
from palate.features.encode import encode
from palate.features.encoders import Vectors
from palate.features.lexical import encode_lexical
from palate.features.matrix import import_matrix
from palate.features.request import EncodeRequest
from palate.features.store import FeatureStore

NEW_TITLES = [*TITLES[:4], "Jaws 2 (1978)", "(1990)", "Ran (1985)", None]
NEW_IMAGES = [*IMAGES, "pics/new.png", "pics/a.png"]


def tonight(tmp_path: Path, parent: Path | None) -> Dataset:
    """Two items more, one title and one picture changed; saved to ``tmp_path/tonight/data``."""
    dataset = build(tmp_path / "tonight", NEW_TITLES, NEW_IMAGES)
    picture(tmp_path / "tonight/root/pics/new.png", 77)
    picture(tmp_path / "tonight/root/pics/b.png", 201)
    if parent is not None:
        manifest = tmp_path / "tonight/data/manifest.json"
        facts = json.loads(manifest.read_text()) | {"parent": {"path": str(parent)}}
        manifest.write_text(json.dumps(facts))
    return dataset


def contents_of(store: FeatureStore) -> dict[str, bytes]:
    """All that a store says of items; ``store.json`` without what was reused."""
    info = json.loads((store.folder / "store.json").read_text())
    info.pop("reused", None)
    files = {name: (store.folder / name).read_bytes() for name in ("vectors.npy", "present.npy", "items.parquet")}
    return files | {"store.json": json.dumps(info).encode()}


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("named", [False, True])
def test_the_store_equals_the_one_made_of_nothing(tmp_path: Path, modality: Modality, named: bool) -> None:
    yesterday = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), yesterday, modality, encoder=foretold(modality))
    dataset, path = tonight(tmp_path, None if named else yesterday), tmp_path / "tonight/data"
    whole = encode(dataset, path, modality, encoder=foretold(modality), resume=False)
    expected = contents_of(whole)
    assert "reused" not in whole.info
    shutil.rmtree(path / "features")
    encoder = foretold(modality)
    store = encode(dataset, path, modality, encoder=encoder, reuse=yesterday if named else None)
    assert contents_of(store) == expected
    # i5 and i7 are new texts, i2 and i7 new pictures; the broken picture is tried again and stays broken.
    assert len(encoder.seen) == 2
    assert store.info["reused"] == {
        "items": {"text": 4, "image": 3}[modality],
        "fingerprint": FeatureStore.load(
            yesterday / "features" / modality, Dataset.load(yesterday).catalogue
        ).fingerprint,
    }


def test_a_store_that_no_longer_fits_is_brought_up_to_date_unasked(tmp_path: Path) -> None:
    path = tmp_path / "data"
    encode(build(tmp_path), path, "text", encoder=foretold("text"))
    dataset, encoder = build(tmp_path, NEW_TITLES, NEW_IMAGES), foretold("text")
    store = encode(dataset, path, "text", encoder=encoder)
    assert encoder.seen == ["Jaws 2 (1978)", "Ran (1985)"]
    assert store.info["reused"]["items"] == 4
    assert FeatureStore.load(path / "features/text", dataset.catalogue).coverage == 6 / 8


def test_a_store_of_other_options_is_still_refused(tmp_path: Path) -> None:
    path = tmp_path / "data"
    encode(build(tmp_path), path, "text", encoder=foretold("text"))
    dataset = build(tmp_path, NEW_TITLES, NEW_IMAGES)
    for options in ({"encoder": foretold("text", name="other")}, {"encoder": foretold("text"), "without": "x"}):
        with pytest.raises(PalateError, match="exists already"):
            encode(dataset, path, "text", **options)  # type: ignore[arg-type]
    store = encode(dataset, path, "text", encoder=foretold("text", name="other"), overwrite=True)
    assert "reused" not in store.info  # another encoder's vectors are of no use
    narrower = encode(dataset, path, "text", encoder=foretold("text", name="other"), without="x", overwrite=True)
    assert narrower.info["reused"]["items"] == 6  # the texts that come out are the same


def test_the_nearest_night_that_was_encoded_is_found(tmp_path: Path) -> None:
    first = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), first, "text", encoder=foretold("text"))
    between = tmp_path / "between"
    between.mkdir()
    (between / "manifest.json").write_text(json.dumps({"parent": {"path": str(first)}}))
    dataset, encoder = tonight(tmp_path, between), foretold("text")
    encode(dataset, tmp_path / "tonight/data", "text", encoder=encoder)
    assert len(encoder.seen) == 2


def test_a_damaged_store_before_is_not_used_and_a_named_one_is_an_error(tmp_path: Path) -> None:
    yesterday = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), yesterday, "text", encoder=foretold("text"))
    (yesterday / "features/text/present.npy").write_bytes(b"")
    dataset, path = tonight(tmp_path, yesterday), tmp_path / "tonight/data"
    with pytest.raises(PalateError, match=r"--reuse .* is damaged"):
        encode(dataset, path, "text", encoder=foretold("text"), reuse=yesterday)
    with pytest.raises(PalateError, match=r"--reuse .*/text-x is not a feature store"):
        encode(dataset, path, "text", encoder=foretold("text"), store="text-x", reuse=yesterday)
    with pytest.raises(PalateError, match="--anew encodes everything"):
        encode(dataset, path, "text", encoder=foretold("text"), reuse=yesterday, resume=False)
    encoder = foretold("text")
    encode(dataset, path, "text", encoder=encoder)
    assert len(encoder.seen) == 5


def test_a_named_store_of_another_encoder_is_refused(tmp_path: Path) -> None:
    yesterday = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), yesterday, "text", encoder=foretold("text"))
    dataset, path = tonight(tmp_path, None), tmp_path / "tonight/data"
    with pytest.raises(PalateError, match="was made by another encoder"):
        encode(dataset, path, "text", encoder=foretold("text", name="other"), reuse=yesterday)


class Killed(Foretold):
    """Ends after some contents, as a killed process does."""

    left = 2

    def encode(self, batch: list[str]) -> Vectors:  # type: ignore[override]
        if self.left <= 0:
            raise KeyboardInterrupt
        self.left -= len(batch)
        return super().encode(batch)


def test_a_killed_call_goes_on_with_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    yesterday = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), yesterday, "text", encoder=foretold("text"))
    titles = [*TITLES, "one", "twoo", "three", "fourrr"]
    dataset, path = build(tmp_path / "tonight", titles, [None] * 10), tmp_path / "tonight/data"
    options = foretold("text").options
    with pytest.raises(KeyboardInterrupt):
        encode(dataset, path, "text", encoder=Killed(options), reuse=yesterday)
    encoder = foretold("text")
    store = encode(dataset, path, "text", encoder=encoder, reuse=yesterday)
    assert encoder.seen == ["twoo", "one"]
    assert store.info["reused"]["items"] == 5
    assert store.coverage == 9 / 10


def test_an_appended_dataset_gets_the_stores_of_the_one_before(tmp_path: Path) -> None:
    yesterday = tmp_path / "yesterday/data"
    before = build(tmp_path / "yesterday")
    encode_lexical(before, yesterday, fields=["title"], store="words")
    vectors = np.eye(6, dtype=np.float32)
    np.save(tmp_path / "own.npy", vectors)
    (tmp_path / "own.ids.txt").write_text("\n".join(before.catalogue.ids[1:]))
    import_matrix(before, yesterday, "image", tmp_path / "own.npy", store="own")
    tonight(tmp_path, yesterday)
    data = tmp_path / "tonight/data"
    dataset = Dataset.load(data)
    assert len(EncodeRequest().tasks(dataset, data)) == 1
    with pytest.raises(PalateError, match=r"--without changes how the stores .* Name the encoder as well"):
        EncodeRequest(without="x").tasks(dataset, data)
    EncodeRequest().tasks(dataset, data)[0]()
    assert [path.name for path in (data / "features").iterdir()] == ["words"]
    # Once more, in place: the words' store is remade when the catalogue has changed, and not otherwise.
    changed = build(tmp_path / "tonight", ["Heat"] * 8, NEW_IMAGES)
    encode_lexical(changed, data, fields=["title"], store="words")
    with pytest.raises(PalateError, match="exists already"):
        encode_lexical(changed, data, fields=["title"], without="x", store="words")


def test_code_of_a_hub_model_is_not_run_because_a_store_says_so(tmp_path: Path) -> None:
    yesterday = tmp_path / "yesterday/data"
    encode(build(tmp_path / "yesterday"), yesterday, "text", encoder=foretold("text"))
    path = yesterday / "features/text/store.json"
    path.write_text(path.read_text().replace("--store text", "--store text --trust-remote-code"))
    tonight(tmp_path, yesterday)
    data = tmp_path / "tonight/data"
    with pytest.raises(PalateError, match="encoded by code of a hub model"):
        EncodeRequest().tasks(Dataset.load(data), data)
