"""``prepare`` as a whole: plug-in readers, the manifest, and the real data sets' counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest

from palate.data.dataset import Dataset
from palate.data.log import encode
from palate.data.prepare import prepare
from palate.data.readers import READERS
from palate.data.readers.base import ReaderOptions, Source
from palate.errors import PalateError


class Pieces:
    """A user's own reader: gives its interactions piece by piece."""

    takes: ClassVar[frozenset[str]] = frozenset()

    def read(self, source: Path, options: ReaderOptions) -> Source:
        def pieces() -> Iterator[pl.DataFrame]:
            for line in source.read_text().splitlines():
                user, *items = line.split()
                yield pl.DataFrame(
                    {"user": [user] * len(items), "item": items}, schema={"user": pl.String, "item": pl.String}
                )

        return Source(pieces(), [source])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    path.write_text("z b a c\ny\na c a d b\nz d\n")
    return path


def test_a_readers_pieces_become_one_log_in_order_of_first_use(log: Path) -> None:
    found = encode(Pieces().read(log, ReaderOptions()))
    assert found.user_ids.to_list() == ["z", "a"]
    assert found.item_ids.to_list() == ["b", "a", "c", "d"]
    assert found.users.tolist() == [0, 0, 0, 1, 1, 1, 1, 0]
    assert found.items.tolist() == [0, 1, 2, 2, 1, 3, 0, 3]


def test_a_plug_in_reader_works_by_its_entry_point(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "site"
    (installed / "my_readers-1.0.dist-info").mkdir(parents=True)
    (installed / "my_readers-1.0.dist-info" / "METADATA").write_text("Name: my-readers\nVersion: 1.0\n")
    (installed / "my_readers-1.0.dist-info" / "entry_points.txt").write_text(
        "[palate.readers]\npieces = my_readers:Reader\n"
    )
    (installed / "my_readers.py").write_text(f"from {Pieces.__module__} import Pieces as Reader\n")
    monkeypatch.syspath_prepend(str(installed))
    assert "pieces" in READERS
    dataset = prepare(log, "pieces")
    assert [dataset.catalogue.ids[i] for i in dataset.history_of("z")] == ["b", "a", "c", "d"]
    assert dataset.manifest["reader"] == "pieces"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"user": ["a", None], "item": ["x", "y"]}, "interaction 2 is not complete"),
        ({"user": ["a", ""], "item": ["x", "y"]}, "an empty user id"),
        ({"user": ["a"], "item": ["x"], "weight": [float("nan")]}, "interaction 1 is not complete"),
        ({"user": ["a"], "item": ["x"], "timestamp": [float("inf")]}, "interaction 1 is not complete"),
        ({"user": [], "item": []}, "no interaction in"),
    ],
)
def test_incomplete_interactions_of_any_reader_are_refused(frame: dict[str, list[object]], words: str) -> None:
    with pytest.raises(PalateError, match=words):
        encode(Source(iter([pl.DataFrame(frame)]), [Path("log.x")]))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "secret-place" / "films"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        (u, i, int(rng.integers(1, 6)), int(rng.integers(0, 50))) for u in range(30) for i in rng.permutation(20)[:9]
    ]
    (folder / "u.data").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in rows))
    return folder


def test_the_manifest_tells_everything_needed_to_do_it_again(films: Path) -> None:
    options = {"min_rating": 2, "k_core": 2, "ties": "seed", "split": "leave-last-n", "last_n": 2}
    dataset = prepare(films, "movielens", seed=7, **options)
    manifest = json.loads(json.dumps(dataset.manifest))
    assert manifest["name"] == "films"
    assert manifest["source"]["name"] == "films"
    assert list(manifest["source"]["files"]) == ["u.data"]
    assert "secret-place" not in json.dumps(manifest)
    assert options.items() <= manifest["options"].items()
    assert (manifest["seed"], manifest["ties"]) == (7, "seed")
    assert [record["step"] for record in manifest["filters"]] == ["min-rating", "duplicates", "k-core"]
    assert manifest["filters"][0]["before"] == manifest["read"] == {"users": 30, "items": 20, "interactions": 270}
    assert manifest["filters"][-1]["after"]["interactions"] == len(dataset) == manifest["counts"]["interactions"]
    assert manifest["split"] == {"name": "leave-last-n", "last_n": 2}
    again = prepare(films, manifest["reader"], seed=manifest["seed"], **manifest["options"])
    assert again.fingerprint == dataset.fingerprint
    assert prepare(films, "movielens", seed=8, **options).fingerprint != dataset.fingerprint


def test_what_is_saved_is_what_is_loaded(films: Path, tmp_path: Path) -> None:
    dataset = prepare(films, "movielens", min_rating=2)
    dataset.save(tmp_path / "out")
    loaded = Dataset.load(tmp_path / "out")
    assert loaded.fingerprint == dataset.fingerprint
    assert loaded.weights is not None
    assert loaded.weights.min() >= 2
    assert loaded.user_ids.to_list() == dataset.user_ids.to_list()


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "counts"),
    [("amazon-2014-beauty", (22_363, 12_101, 198_502)), ("amazon-2014-toys", (19_412, 11_924, 167_597))],
)
def test_amazon_sequences_have_the_counts_of_the_literature(
    real_data: Callable[[str], Path], name: str, counts: tuple[int, int, int]
) -> None:
    dataset = prepare(real_data(name), "sequences", k_core=5)
    assert (dataset.num_users, dataset.num_items, len(dataset)) == counts
    assert len(dataset.cases("valid")) == len(dataset.cases("test")) == counts[0]
    first = (real_data(name) / "user_sequence.txt").read_text().split("\n", 1)[0].split()
    assert [dataset.catalogue.ids[i] for i in dataset.history_of(first[0])] == first[1:]


@pytest.mark.real
def test_movielens_100k_with_posters_and_plots(real_data: Callable[[str], Path]) -> None:
    dataset = prepare(real_data("ml-100k"), "movielens", ties="seed")
    assert (dataset.num_users, dataset.num_items, len(dataset)) == (943, 1_682, 100_000)
    frame = dataset.catalogue.frame
    assert len(frame) - frame["image"].null_count() == 1_568
    film = frame.filter(pl.col("item_id") == "1").to_dicts()[0]
    assert (film["title"], film["year"], film["director"]) == ("Toy Story", 1995, "John Lasseter")
    assert film["genres"] == ["Animation", "Children's", "Comedy"]
    path = dataset.catalogue.image_path(dataset.catalogue.index["1"])
    assert path is not None
    assert path.is_file()
    liked = prepare(real_data("ml-100k"), "movielens", min_rating=4)
    assert len(liked) == 55_375


@pytest.mark.real
def test_microlens_draws_users(real_data: Callable[[str], Path]) -> None:
    dataset = prepare(real_data("microlens-50k"), "microlens", max_users=500)
    assert dataset.num_users == 500
    assert dataset.manifest["read"] == {"users": 50_000, "items": 19_220, "interactions": 359_708}
    assert dataset.catalogue.frame["title"].null_count() == 0
