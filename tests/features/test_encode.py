"""Encoding: what is missing is marked and reported, equal contents are encoded once, a killed job goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_helpers import Foretold, build, foretold, picture, vector_of

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.features import chunks
from palate.features.encode import encode
from palate.features.encoders import EncoderOptions, Vectors
from palate.features.store import FeatureStore


def test_equal_texts_are_encoded_once_longest_first(tmp_path: Path) -> None:
    encoder = foretold("text")
    store = encode(build(tmp_path), tmp_path / "data", "text", encoder=encoder)
    assert encoder.seen[0] == "Alien (1979)"
    assert sorted(encoder.seen) == ["(1990)", "Alien (1979)", "Heat (1995)", "Jaws (1975)"]
    assert store.vectors[1].tolist() == store.vectors[4].tolist() == vector_of("Heat (1995)")
    assert store.info["missing"] == [{"reason": "no text", "items": 1, "examples": ["i3"]}]


def test_without_takes_the_year_out_and_what_is_then_empty_is_missing(tmp_path: Path) -> None:
    encoder = foretold("text")
    dataset = build(tmp_path)
    store = encode(dataset, tmp_path / "data", "text", encoder=encoder, without=r"\(\d{4}\)", store="text-noyear")
    assert sorted(encoder.seen) == ["Alien", "Heat", "Jaws"]
    assert store.folder == tmp_path / "data/features/text-noyear"
    assert store.info["missing"] == [{"reason": "no text", "items": 2, "examples": ["i3", "i6"]}]
    with pytest.raises(PalateError, match=r"--without '\(' is not a regular expression"):
        encode(dataset, tmp_path / "data", "text", encoder=encoder, without="(", store="other")


def test_pictures_that_cannot_be_had_are_masked_and_told(tmp_path: Path) -> None:
    encoder = foretold("image")
    store = encode(build(tmp_path), tmp_path / "data", "image", encoder=encoder)
    assert len(encoder.seen) == 2  # a and its copy are one picture
    assert store.present.tolist() == [False, True, True, False, True, False, False]
    assert np.allclose(store.vectors[1], [10, 245, 5])
    assert store.vectors[1].tolist() == store.vectors[4].tolist()
    assert not store.vectors[~store.present].any()
    reasons = {reason["reason"]: reason["examples"] for reason in store.info["missing"]}
    assert reasons == {
        "the file is a broken picture": ["i5"],
        "no picture in the catalogue": ["i3"],
        "the path leads out of the image folder": ["i6"],
    }


def test_odd_files_are_masked(tmp_path: Path) -> None:
    images = ["pics/a.png", "pics/none.png", "pics", "pics/thin.png", "pics/link.png", "pics/text.png"]
    dataset = build(tmp_path, images=images)
    root = dataset.catalogue.root
    picture(root / "pics/thin.png", 1, size=(400, 2))
    (root / "pics/text.png").write_text("<html>")
    (root / "pics/link.png").symlink_to(tmp_path / "secret.png")
    store = encode(dataset, tmp_path / "data", "image", encoder=foretold("image"))
    assert store.present.tolist() == [False, True, False, False, False, False, False]
    reasons = {reason["examples"][0]: reason["reason"] for reason in store.info["missing"]}
    assert reasons["i2"] == "the file does not exist"
    assert reasons["i3"] == "not a regular file"
    assert reasons["i4"] == "the picture is too long and thin"
    assert reasons["i5"] == "the path leads out of the image folder"
    assert reasons["i6"].startswith("the file ")


def test_nothing_to_encode_is_an_error_that_leaves_no_store(tmp_path: Path) -> None:
    dataset = build(tmp_path, images=["pics/broken.png"] * 6)
    with pytest.raises(PalateError, match=r"no item has image that could be encoded \(the file is a broken picture: 6"):
        encode(dataset, tmp_path / "data", "image", encoder=foretold("image"))
    assert list((tmp_path / "data/features").iterdir()) == []
    dataset = build(tmp_path / "b", images=[None] * 6)
    with pytest.raises(PalateError, match=r"no item of the dataset has image to encode \(no picture"):
        encode(dataset, tmp_path / "b/data", "image", encoder=foretold("image"))


def test_a_finished_store_is_not_made_twice_and_another_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, path = build(tmp_path), tmp_path / "data"
    first = encode(dataset, path, "text", encoder=foretold("text"))
    again = foretold("text")
    assert encode(dataset, path, "text", encoder=again).fingerprint == first.fingerprint
    assert again.seen == []
    assert "is up to date" in capsys.readouterr().err
    other = foretold("text", name="other")
    with pytest.raises(PalateError, match=r"exists already.*--overwrite.*--store"):
        encode(dataset, path, "text", encoder=other)
    assert other.seen == []
    replaced = encode(dataset, path, "text", encoder=other, overwrite=True)
    assert replaced.encoder == "other"
    assert replaced.fingerprint != first.fingerprint
    assert [p.name for p in (path / "features").iterdir()] == ["text"]


class Dies(Foretold):
    """Stops after so many contents, as a killed process does."""

    left = 5

    def encode(self, batch: Sequence[Any]) -> Vectors:
        self.left -= len(batch)
        if self.left < 0:
            raise KeyboardInterrupt
        return super().encode(batch)


def test_an_interrupted_job_goes_on_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    dataset, path = build(tmp_path, titles=[f"film {n:03d}" for n in range(11)], images=[None] * 11), tmp_path / "data"
    whole = encode(dataset, path, "text", encoder=foretold("text"), store="whole")
    with pytest.raises(KeyboardInterrupt):
        encode(dataset, path, "text", encoder=Dies(EncoderOptions(name="foretold", modality="text")))
    assert not (path / "features/text").exists()
    rest = foretold("text")
    store = encode(dataset, path, "text", encoder=rest)
    assert len(rest.seen) == 11 - 4  # two pieces of two were whole
    assert store.vectors.tobytes() == whole.vectors.tobytes()
    assert store.fingerprint == whole.fingerprint
    assert sorted(p.name for p in (path / "features").iterdir()) == ["text", "whole"]


def test_pieces_of_another_job_are_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    dataset, path = build(tmp_path, titles=[f"film {n:03d}" for n in range(11)], images=[None] * 11), tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        encode(dataset, path, "text", encoder=Dies(EncoderOptions(name="foretold", modality="text")))
    other = foretold("text", name="other")
    encode(dataset, path, "text", encoder=other)
    assert len(other.seen) == 11
    with pytest.raises(KeyboardInterrupt):
        encode(dataset, path, "text", encoder=Dies(EncoderOptions(name="foretold", modality="text")), overwrite=True)
    anew = foretold("text")
    encode(dataset, path, "text", encoder=anew, overwrite=True, resume=False)
    assert len(anew.seen) == 11


_KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from feature_helpers import Foretold
from palate.data.dataset import Dataset
from palate.features import chunks
from palate.features.encode import encode
from palate.features.encoders import EncoderOptions
chunks.CHUNK = 2

class Killed(Foretold):
    def encode(self, batch):
        if len(self.seen) >= 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(batch)

folder = Path({folder!r})
encode(Dataset.load(folder), folder, "text", encoder=Killed(EncoderOptions(name="foretold", modality="text")))
"""


def test_a_sigkill_loses_at_most_a_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 2)
    dataset, path = build(tmp_path, titles=[f"film {n:03d}" for n in range(9)], images=[None] * 9), tmp_path / "data"
    code = _KILLED.format(tests=str(Path(__file__).parents[1] / "helpers"), folder=str(path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with pytest.raises(PalateError, match="not a feature store"):
        FeatureStore.load(path / "features/text", dataset.catalogue)
    rest = foretold("text")
    store = encode(Dataset.load(path), path, "text", encoder=rest)
    assert len(rest.seen) == 9 - 4
    assert [row[0] for row in store.vectors[1:].tolist()] == [8.0] * 9


class Odd(Foretold):
    def encode(self, batch: Sequence[Any]) -> Vectors:
        vectors = super().encode(batch)
        vectors[[text.startswith("Alien") for text in batch]] = np.nan
        return vectors


class Wrong(Foretold):
    def encode(self, batch: Sequence[Any]) -> Vectors:
        return np.zeros((len(batch), 5), np.float32)


def test_an_encoder_is_not_trusted(tmp_path: Path) -> None:
    dataset, path = build(tmp_path), tmp_path / "data"
    store = encode(dataset, path, "text", encoder=Odd(EncoderOptions(name="odd", modality="text")))
    assert not store.present[2]
    assert {"reason": "the encoder gave no finite numbers", "items": 1, "examples": ["i2"]} in store.info["missing"]
    with pytest.raises(PalateError, match=r"returned shape \(2, 5\) where \(2, 3\) is due"):
        encode(dataset, path, "text", encoder=Wrong(EncoderOptions(name="wrong", modality="text")), store="wrong")


def test_half_precision_is_stored_as_such_and_overflow_is_masked(tmp_path: Path) -> None:
    dataset, path = build(tmp_path, titles=["short", "x" * 70_000], images=[None, None]), tmp_path / "data"
    store = encode(dataset, path, "text", encoder=foretold("text", dtype="float16"))
    assert store.vectors.dtype == np.float16
    assert store.present.tolist() == [False, True, False]


@pytest.mark.parametrize("store", ["../x", "a/b", ".hidden", "a b"])
def test_store_names_stay_in_the_folder(tmp_path: Path, store: str) -> None:
    dataset = build(tmp_path)
    with pytest.raises(PalateError, match="no name for a feature store"):
        encode(dataset, tmp_path / "data", "text", encoder=foretold("text"), store=store)


def test_options_of_text_are_refused_for_pictures(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="are about text"):
        encode(build(tmp_path), tmp_path / "data", "image", encoder=foretold("image"), fields=["title"])
    with pytest.raises(PalateError, match="no field 'titel'"):
        encode(build(tmp_path), tmp_path / "data", "text", encoder=foretold("text"), fields=["titel"])
    with pytest.raises(PalateError, match="--batch-size is 0"):
        encode(build(tmp_path), tmp_path / "data", "text", encoder=foretold("text"), batch_size=0)


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    dataset: Any = build(tmp_path)
    modality: Any = "txt"
    with pytest.raises(PalateError, match=r"no modality 'txt' to encode. Did you mean 'text'"):
        encode(dataset, tmp_path / "data", modality)
    dtype: Any = "float64"
    with pytest.raises(PalateError, match=r"'dtype': .*float32"):
        encode(dataset, tmp_path / "data", "text", dtype=dtype)
