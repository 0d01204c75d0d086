"""The demo set: repeatable, a normal dataset, and one whose pictures carry signal that ids of rare items do not."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.images import open_image
from palate.demo.shop import build_demo, load_truth
from palate.demo.shop.assortment import Product, draw_assortment, draw_shop
from palate.demo.shop.build import FIELDS
from palate.demo.shop.choice import DAY
from palate.demo.shop.looks import FACTORS, PATTERNS, draw_look
from palate.demo.shop.people import END, simulate
from palate.demo.shop.products import CATEGORIES, KINDS, render
from palate.demo.shop.style import ShopStyle
from palate.demo.shop.vocabulary import BRANDS, COLOURS
from palate.errors import PalateError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    build_demo(folder, seed=0, items=240, users=1200)
    return folder


@pytest.fixture(scope="module")
def demo(folder: Path) -> Dataset:
    return Dataset.load(folder)


def ranks(scores: np.ndarray, demo: Dataset) -> np.ndarray:
    """1-based rank of each test target among the items not in the history; ties count against the model."""
    cases = demo.cases("test")
    scores = scores.astype(np.float64)
    for row, history in enumerate(cases.histories):
        scores[row, history] = -np.inf
    scores[:, 0] = -np.inf
    target = scores[np.arange(len(cases)), cases.targets.values]
    return (scores >= target[:, None]).sum(axis=1)


def ndcg(rank: np.ndarray) -> float:
    return float(np.where(rank <= 10, 1 / np.log2(rank + 1), 0).mean())


def neighbours(demo: Dataset) -> np.ndarray:
    """Scores of a plain item-item cosine over co-occurrence: what ids can tell."""
    train, histories = demo.train_sequences(), demo.cases("test").histories

    def matrix(rows: object) -> np.ndarray:
        dense = np.zeros((demo.num_users, demo.num_items + 1))
        dense[np.repeat(np.arange(demo.num_users), rows.lengths), rows.values] = 1
        return dense

    bought = matrix(train)
    together = bought.T @ bought
    norm = np.sqrt(np.diag(together)) + 1e-9
    together = together / norm[:, None] / norm
    np.fill_diagonal(together, 0)
    return matrix(histories) @ together


def histogram(path: Path) -> np.ndarray:
    """Share of the product's pixels in 4 x 4 x 4 colours (the paper around it left out), and how uneven they are."""
    pixels = np.asarray(open_image(path), np.int64).reshape(-1, 3)
    pixels = pixels[np.abs(pixels - (247, 245, 241)).sum(axis=1) > 12] // 64
    counts = np.bincount(pixels @ (16, 4, 1), minlength=64)
    return np.sqrt(counts / counts.sum())


def test_same_seed_same_bytes_and_pixels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_demo(tmp_path / name, seed=3, items=40, users=30)
    build_demo(tmp_path / "c", seed=4, items=40, users=30)
    files = {path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert len(files) > 35
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    one, other = Dataset.load(tmp_path / "a"), Dataset.load(tmp_path / "c")
    assert one.fingerprint != other.fingerprint


def test_the_shop_is_what_it_always_was(tmp_path: Path) -> None:
    """Whatever else can be drawn: published figures are of this shop."""
    assert build_demo(tmp_path / "demo", seed=3, items=40, users=30).fingerprint == "55660eb56fce4f0a"
    truth = load_truth(tmp_path / "demo")
    assert np.abs(truth.taste).sum() == pytest.approx(1323.70, abs=0.01)
    assert np.abs(truth.popularity).sum() == pytest.approx(35.2577, abs=0.001)
    pictures = [np.asarray(open_image(path)).mean() for path in sorted((tmp_path / "demo" / "images").iterdir())]
    assert np.mean(pictures) == pytest.approx(194.851, abs=0.02)


def test_a_shop_of_another_style_has_its_own_truth(tmp_path: Path) -> None:
    style = ShopStyle(strength=2.0, shortest=9, title="{colour} {kind} by {brand}", no_text=0.0)
    demo = build_demo(tmp_path / "other", items=60, users=20, style=style)
    assert np.diff(demo.offsets).min() >= 9
    row = demo.catalogue.frame.row(0, named=True)
    assert row["title"] == f"{row['colour'].capitalize()} {row['category']} by {row['brand']}"
    truth = load_truth(tmp_path / "other")
    assert truth.strength == 2.0
    usual = dataclasses.replace(truth, strength=0.8)
    assert np.allclose(truth.affinity([0])[:, 1:], 2.5 * usual.affinity([0])[:, 1:])
    assert not np.allclose(truth.utility([0], [0])[0, 1:13], usual.utility([0], [0])[0, 1:13])


def test_it_is_a_normal_dataset(demo: Dataset) -> None:
    assert demo.name == "demo"
    assert demo.manifest["split"] == {"name": "leave-last-out"}
    assert demo.timestamps is not None
    gaps = np.diff(demo.timestamps)[np.diff(demo.rows_user) == 0]
    assert (gaps > 0).all()
    assert np.diff(demo.offsets).min() >= 5
    for split, part in (("valid", Part.VALID), ("test", Part.TEST)):
        cases = demo.cases(split)
        assert len(cases) == demo.num_users == (demo.parts == part).sum()
    pairs = pl.DataFrame({"user": demo.rows_user, "item": demo.items})
    assert not pairs.is_duplicated().any()
    most = np.sort(demo.train_counts[1:])[::-1]
    assert most[: len(most) // 10].sum() > 0.25 * most.sum()  # popularity is skewed


def test_some_items_lack_picture_or_text_and_the_rest_can_be_opened(demo: Dataset) -> None:
    frame = demo.catalogue.frame
    for column, least, most in (("image", 0.01, 0.1), ("title", 0.005, 0.08), ("description", 0.05, 0.2)):
        assert least < frame[column].null_count() / len(frame) < most
    assert None in demo.catalogue.texts()
    for item in range(1, demo.num_items + 1):
        path = demo.catalogue.image_path(item)
        if path is not None:
            image = open_image(path)
            assert image.size == (112, 112)
            assert np.asarray(image).std() > 8


def test_a_dataset_with_its_pictures_may_be_moved_and_never_deletes_them(folder: Path, tmp_path: Path) -> None:
    assert json.loads((folder / "manifest.json").read_text())["image_root"] == "images"
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    there = Dataset.load(moved)
    item = there.catalogue.frame["image"].is_not_null().arg_max() + 1
    path = there.catalogue.image_path(item)
    assert path is not None
    assert path.is_file()
    assert path.is_relative_to(moved)
    with pytest.raises(PalateError, match=r"would delete truth\.npz"):
        there.save(moved, replace=True)
    (moved / "truth.npz").unlink()
    there.save(moved, replace=True)  # carries images/ over
    assert Dataset.load(moved).catalogue.image_path(item) == path
    assert path.is_file()
    (moved / "images").rename(moved / "posters")
    with pytest.raises(PalateError, match="would delete posters"):
        dataclasses.replace(there, catalogue=Catalogue(there.catalogue.frame, moved / "posters")).save(
            moved, replace=True
        )
    assert (moved / "posters" / path.name).is_file()


def test_truth_matches_the_dataset(folder: Path, demo: Dataset) -> None:
    truth = load_truth(folder)
    assert truth.look.shape == (demo.num_items + 1, len(FACTORS))
    assert truth.taste.shape == (len(demo), len(FACTORS))
    assert not truth.look[0].any()
    assert demo.timestamps is not None
    assert (truth.times == demo.timestamps).all()
    assert (demo.timestamps >= truth.released[demo.items]).all()  # nothing is bought before it is on sale
    weeks = (END - truth.released[truth.released > 0]) / (7 * DAY)
    assert 0.4 < len(weeks) / demo.num_items < 0.8
    assert (weeks == weeks.round()).all()  # new items come in weekly
    before = truth.previous
    assert (before[demo.offsets[:-1]] == 0).all()
    inside = np.flatnonzero(before)
    assert (before[inside] == demo.items[inside - 1]).all()
    assert 0.25 < len(inside) / len(demo) < 0.5
    with pytest.raises(PalateError, match="does not exist"):
        load_truth(folder / "images")


def test_taste_drifts_but_not_at_once(folder: Path, demo: Dataset) -> None:
    truth = load_truth(folder)
    long = np.flatnonzero(np.diff(demo.offsets) >= 15)
    first = truth.taste[demo.offsets[long]]

    def likeness(step: int) -> float:
        return float(np.corrcoef(first.ravel(), truth.taste[demo.offsets[long] + step].ravel())[0, 1])

    assert likeness(1) > 0.9
    assert 0.3 < likeness(14) < 0.75


def test_what_the_generator_weighs_ranks_rare_items_that_ids_cannot(folder: Path, demo: Dataset) -> None:
    truth = load_truth(folder)
    test = np.flatnonzero(demo.parts == Part.TEST)
    rare = demo.train_counts[demo.items[test]] <= 5
    assert 0.02 < rare.mean() < 0.3
    by_popularity = ranks(np.tile(demo.train_counts.astype(float), (len(test), 1)), demo)
    by_ids = ranks(neighbours(demo), demo)
    by_look = ranks(truth.affinity(test), demo)
    by_all = ranks(truth.utility(test, demo.rows_user[test]), demo)
    assert ndcg(by_popularity) < ndcg(by_ids) < ndcg(by_all)
    assert ndcg(by_look) < ndcg(by_all)  # the look is a part of what is weighed
    assert ndcg(by_ids[rare]) < ndcg(by_look[rare]) < ndcg(by_all[rare])


def test_pictures_tell_the_look_and_so_rank_rare_items(folder: Path, demo: Dataset) -> None:
    """Colour histograms predict the look of items never fitted; an average of histograms then ranks rare targets."""
    truth = load_truth(folder)
    paths = {item: demo.catalogue.image_path(item) for item in range(1, demo.num_items + 1)}
    pictured = np.array([item for item, path in paths.items() if path is not None])
    seen = {item: histogram(paths[item]) for item in pictured}
    features = np.stack([seen[item] for item in pictured])
    features = np.hstack([features - features.mean(axis=0), np.ones((len(features), 1))])
    fit, held = np.arange(len(pictured)) % 4 != 0, np.arange(len(pictured)) % 4 == 0
    ridge = features[fit].T @ features[fit] + 0.05 * np.eye(features.shape[1])
    weights = np.linalg.solve(ridge, features[fit].T @ truth.look[pictured[fit]])
    left = ((features[held] @ weights - truth.look[pictured[held]]) ** 2).sum(axis=0)
    explained = 1 - left / ((truth.look[pictured[held]] - truth.look[pictured[held]].mean(axis=0)) ** 2).sum(axis=0)
    by_name = dict(zip(FACTORS, explained, strict=True))
    assert min(by_name["red-green"], by_name["yellow-blue"], by_name["lightness"]) > 0.6, by_name

    matrix = np.zeros((demo.num_items + 1, features.shape[1] - 1))
    matrix[pictured] = features[:, :-1] / np.linalg.norm(features[:, :-1], axis=1, keepdims=True)
    taste = np.stack([matrix[history].mean(axis=0) for history in demo.cases("test").histories])
    test = demo.items[demo.parts == Part.TEST]
    rare = demo.train_counts[test] <= 5
    assert rare.sum() > 30

    def place(scores: np.ndarray) -> float:
        """Mean place of the rare targets from 0 (last) to 1 (first); 0.5 is chance."""
        return 1 - float(ranks(scores, demo)[rare].mean()) / demo.num_items

    assert place(neighbours(demo)) < 0.45
    assert place(taste @ matrix.T) > 0.58


def test_words_tell_kind_brand_and_colour_and_the_pattern_now_and_then(demo: Dataset, folder: Path) -> None:
    truth, frame = load_truth(folder), demo.catalogue.frame
    written = frame.with_row_index("item", offset=1).filter(pl.col("title").is_not_null())
    for row in written.iter_rows(named=True):
        assert row["category"] == CATEGORIES[truth.category[row["item"]]]
        assert row["brand"] == BRANDS[truth.brand[row["item"]]]
        assert row["title"].endswith(f"{row['material']} {row['category']}, {row['colour']}")
    assert set(written["colour"]) == set(COLOURS.values())
    patterned = [any(pattern in (words or "") for pattern in PATTERNS) for words in written["description"]]
    assert 0.2 < np.mean(patterned) < 0.5
    silent = frame.filter(pl.col("title").is_null())
    assert silent.select(pl.col(*FIELDS).is_null().all()).row(0) == (True,) * len(FIELDS)


def test_a_line_is_one_product_in_several_colours() -> None:
    goods = draw_assortment(300, np.random.default_rng(0))
    lines: dict[int, list[Product]] = {}
    for item in goods:
        lines.setdefault(item.line, []).append(item)
    several = [line for line in lines.values() if len(line) > 1]
    assert 0.5 < sum(map(len, several)) / len(goods) < 0.85
    for line in several:
        for values in ("brand", "category"):
            assert len({getattr(item, values) for item in line}) == 1
        assert len({(one.look.pattern, one.look.round, one.look.fine, one.look.turn) for one in line}) == 1
        assert len({item.look.scheme for item in line}) == len(line)


def test_the_regime_is_that_of_shops() -> None:
    """Half the size of the demo's shop, without pictures; docs/demo.md sets such figures beside real shops."""
    streams = [np.random.default_rng([0, task]) for task in range(3)]
    shop = draw_shop(draw_assortment(1200, streams[0]), streams[1])
    log = simulate(shop, 2000, streams[2])
    lengths, counts = np.diff(log.offsets), np.sort(np.bincount(log.items, minlength=1200))[::-1]
    assert 7 < lengths.mean() < 9
    assert np.median(lengths) == 6
    assert 9 < counts.mean() < 16
    assert np.median(counts) <= 8  # a long tail ...
    assert 0.35 < (counts <= 5).mean() < 0.65
    assert 0.4 < counts[:120].sum() / counts.sum() < 0.6  # ... behind a tenth that makes half of the sales
    users = np.repeat(np.arange(2000), lengths)
    follows = users[1:] == users[:-1]
    here, after = log.items[:-1][follows], log.items[1:][follows]
    chance = np.random.default_rng(0).permutation(after)

    def lift(of: np.ndarray) -> float:
        return float(np.mean(of[here] == of[after]) / np.mean(of[here] == of[chance]))

    assert 2 < lift(shop.category) < 4
    assert 2.5 < lift(shop.brand) < 8
    assert lift(shop.line) > 5


def test_nobody_runs_out_of_choice_in_a_tiny_shop() -> None:
    for seed in range(20):
        streams = [np.random.default_rng([seed, task]) for task in range(3)]
        shop = draw_shop(draw_assortment(24, streams[0]), streams[1])
        log = simulate(shop, 40, streams[2])
        for user in range(40):
            bought = log.items[log.offsets[user] : log.offsets[user + 1]]
            assert len(set(bought.tolist())) == len(bought) >= 5
        assert (shop.released[log.items] <= log.times).all()


def test_every_product_in_every_pattern_can_be_drawn_and_differs() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(rng)
    seen = set()
    for category in KINDS:
        for pattern in PATTERNS:
            for round_ in (True, False):
                drawn = type(look)(look.scheme, pattern, round_, 0.5, look.ground, look.turn)
                image = render(category, drawn, 48, np.random.default_rng(0))
                assert isinstance(image, Image.Image)
                seen.add(image.tobytes())
    assert len(seen) == len(KINDS) * len(PATTERNS) * 2


def test_too_small_and_existing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="too small"):
        build_demo(tmp_path / "x", items=3)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine.txt").touch()
    with pytest.raises(PalateError, match="exists already"):
        build_demo(tmp_path / "x", items=24, users=10)
    assert (tmp_path / "x" / "mine.txt").exists()
