"""A drawn shop that recommends: people take what they looked at and like, and its files are read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from palate.data.dataset import Part
from palate.data.prepare import prepare
from palate.demo.shop.assortment import draw_assortment, draw_shop
from palate.demo.shop.exposure import Exposure, Showings, simulate_exposed, write_logs
from palate.demo.shop.people import PurchaseLog


def drawn(exposure: Exposure, users: int = 60) -> tuple[PurchaseLog, Showings]:
    goods = draw_assortment(120, np.random.default_rng(1))
    shop = draw_shop(goods, np.random.default_rng(2))
    return simulate_exposed(shop, users, np.random.default_rng(3), exposure=exposure)


def test_what_is_taken_was_looked_at_and_nothing_is_shown_again_that_was_taken() -> None:
    log, showings = drawn(Exposure(slate=6))
    rows = np.flatnonzero(showings.taken >= 0)
    assert 0.2 < len(rows) / len(log.items) < 0.8
    assert (showings.items[rows, showings.taken[rows]] == log.items[rows]).all()
    assert (showings.taken < showings.looked_at).all()
    assert showings.looked_at.max() == 6
    assert all(len(set(slate)) == 6 for slate in showings.items.tolist())
    for start, stop in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        assert len(set(log.items[start:stop])) == stop - start
        for step in range(start, stop):
            assert not set(log.items[start:step]) & set(showings.items[step])


def test_attention_makes_the_top_be_taken_more_often() -> None:
    _, short = drawn(Exposure(attention=0.5), users=300)
    _, whole = drawn(Exposure(attention=1.0), users=300)
    top, low = (np.isin(short.taken, places).mean() for places in ([0, 1], [5, 6]))
    assert top > 4 * low
    assert (whole.looked_at == 10).all()
    top, low = (np.isin(whole.taken, places).mean() for places in ([0, 1], [5, 6]))
    assert top < 3 * low


def test_the_same_seed_gives_the_same_shop() -> None:
    one, two = drawn(Exposure()), drawn(Exposure())
    assert (one[0].items == two[0].items).all()
    assert (one[1].items == two[1].items).all()


def test_its_files_are_read_back(tmp_path: Path) -> None:
    goods = draw_assortment(120, np.random.default_rng(1))
    shop = draw_shop(goods, np.random.default_rng(2))
    log, showings = simulate_exposed(shop, 60, np.random.default_rng(3))
    write_logs(tmp_path, goods, log, showings)
    data = prepare(tmp_path / "log.parquet", "table", feedback=tmp_path / "feedback", feedback_kinds=("purchase",))
    assert len(data) == len(log.items)
    assert data.manifest["feedback"]["joined"]["joined"] == 0
    found = data.impressions
    assert found is not None
    # Of the requests that train, all are there.
    events = pl.read_parquet(tmp_path / "feedback")
    assert found.num_requests <= (data.parts == Part.TRAIN).sum()
    assert found.num_requests > 0.95 * (data.parts == Part.TRAIN).sum()
    assert found.taken.sum() < events["event"].eq("taken").sum() + data.num_users * 10
    assert found.positions.min() == 1
