"""Histories in the order of item ids: found where they are, and only there; `palate prepare` says so too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from palate.data.doctor import Finding, Level, examine
from palate.data.doctor.order import id_order, most_monotone
from palate.data.frames import from_frames
from palate.data.prepare import prepare

START = 1_600_000_000


def histories(order: str, users: int = 40, length: int = 6, ids: str = "{}", share: float = 1.0) -> list[list[str]]:
    """Different items per user; the first ``share`` of the users have them sorted as asked."""
    rng = np.random.default_rng(3)
    rows: list[list[str]] = []
    for user in range(users):
        numbers = rng.choice(np.arange(1, 200), length, replace=False).tolist()
        if user < share * users and order != "random":
            text = order.startswith("text")
            numbers.sort(key=lambda n: ids.format(n) if text else n, reverse=order.endswith("descending"))
        rows.append([ids.format(n) for n in numbers])
    return rows


def finding(rows: list[list[str]], times: Callable[[int, int], int] | None = None, **options: Any) -> Finding:
    log = [
        {"user": f"u{user}", "item": item} | ({"timestamp": times(user, step)} if times else {})
        for user, row in enumerate(rows)
        for step, item in enumerate(row)
    ]
    options |= {"timestamp": "timestamp"} if times else {}
    found = examine(from_frames(pl.DataFrame(log), duplicates="none", **options), look_at_pictures=False)
    return found["id-order"]


@pytest.mark.parametrize(
    ("order", "ids", "words"),
    [
        ("number ascending", "{}", r"ascending order of the item ids \(as numbers\).*largest id"),
        ("number descending", "{}", r"descending order of the item ids \(as numbers\).*smallest id"),
        ("number ascending", "item_{}", r"ascending order of the item ids \(as numbers\)"),
        ("text ascending", "{}", r"ascending order of the item ids \(as text\)"),
        ("text descending", "B{}X", r"descending order of the item ids \(as text\)"),
    ],
)
def test_sorted_histories_without_times_are_an_error(order: str, ids: str, words: str) -> None:
    found = finding(histories(order, ids=ids))
    assert found.level is Level.ERROR
    assert (found.count, found.share) == (40, 1.0)
    assert re.search(words, found.message)
    assert "chance would make it 0.1%" in found.message  # 1 / 6!
    assert found.examples[0].startswith("user u0: ")


def test_a_random_order_is_fine() -> None:
    found = finding(histories("random"))
    assert found.level is Level.OK
    assert found.share is not None
    assert found.share < 0.1


@pytest.mark.parametrize(
    ("share", "level"), [(0.2, Level.OK), (0.6, Level.WARNING), (0.85, Level.WARNING), (0.95, Level.ERROR)]
)
def test_the_level_goes_by_the_share_beyond_chance(share: float, level: Level) -> None:
    assert finding(histories("number ascending", users=200, share=share)).level is level


def test_few_and_short_histories_prove_nothing() -> None:
    assert finding(histories("number ascending", users=4, length=3)).level is Level.OK  # one in 6^4
    assert finding(histories("number ascending", users=30, length=3)).level is Level.ERROR
    assert finding(histories("random", users=30, length=3)).level is Level.OK


def test_items_that_repeat_count_as_equal() -> None:
    runs = np.repeat(np.arange(3), [4, 3, 3])
    items = np.array([1, 1, 2, 3, 5, 5, 5, 2, 1, 2], np.int32)
    found = most_monotone(runs, items, pl.Series([str(n) for n in range(1, 6)]))
    assert found is not None
    assert found.order == "ascending"
    assert found.runs.tolist() == [0, 2]  # a user with one item only shows no order
    assert found.hits.tolist() == [True, False]
    assert found.expected.tolist() == pytest.approx([2 / 24, 2 / 6])
    assert most_monotone(runs[4:7] - 1, items[4:7], pl.Series(["1", "2", "3", "4", "5"])) is None


def test_times_prove_the_order_unless_they_cannot_be_true() -> None:
    rows = histories("number ascending")
    found = finding(rows, lambda user, step: START + 1000 * step + user)
    assert found.level is Level.NOTE
    assert "times prove the order" in found.message
    found = finding(rows, lambda user, step: step + 1)  # positions, not times
    assert found.level is Level.ERROR
    assert "prove nothing" in found.message
    assert finding(histories("random"), lambda user, step: START + step).level is Level.OK


def test_the_order_within_a_day_may_be_that_of_the_ids() -> None:
    def day(user: int, step: int) -> int:
        return START + 86_400 * (step // 3)

    rows = [[*sorted(row[:3]), *sorted(row[3:])] for row in histories("random")]
    found = finding(rows, day)
    assert found.level is Level.ERROR
    assert "80% of all steps tie" in found.message
    assert "--ties seed" in found.message
    assert finding(rows, day, ties="seed").level is Level.OK
    assert finding(histories("random"), day).level is Level.OK


def test_ties_that_are_few_are_no_error() -> None:
    def pairs(user: int, step: int) -> int:
        return START + 60 * max(step, 1)

    rows = [[*sorted(row[:2]), *row[2:]] for row in histories("random", users=60)]
    assert finding(rows, pairs).level is Level.WARNING  # one step of five
    rows = [[*sorted(row[:2]), *row[2:]] for row in histories("random", users=60, length=40)]
    assert finding(rows, pairs).level is Level.NOTE


def test_of_very_many_users_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.data.doctor.order._USERS", 15)
    found = finding(histories("number ascending"))
    assert (found.level, found.count) == (Level.ERROR, 14)  # users 0, 3, 6 ... 39
    assert [example.split(":")[0] for example in found.examples] == ["user u0", "user u3"]


def test_prepare_warns(tmp_path: Path, palate: Callable[..., tuple[int, str, str]]) -> None:
    for order in ("number ascending", "random"):
        lines = [" ".join([f"u{user}", *row]) for user, row in enumerate(histories(order))]
        (tmp_path / "user_sequence.txt").write_text("\n".join(lines) + "\n")
        code, _, errors = palate("prepare", tmp_path, "--reader", "sequences", "--out", tmp_path / order)
        assert code == 0
        assert ("Warning: 100% of 40 histories are in ascending order" in errors) == (order != "random")
    assert palate("doctor", tmp_path / "number ascending")[0] == 1
    assert palate("doctor", tmp_path / "random")[0] == 0


@pytest.mark.real
@pytest.mark.parametrize(("name", "share"), [("amazon-2014-beauty", 0.131), ("amazon-2014-toys", 0.182)])
def test_amazon_in_true_order_and_sorted(
    real_data: Callable[[str], Path], tmp_path: Path, name: str, share: float
) -> None:
    source = real_data(name)
    (found,) = id_order(prepare(source, "sequences"))
    assert found.level is Level.OK
    assert found.share == pytest.approx(share, abs=0.0005)
    shutil.copy(source / "item_text.tsv", tmp_path)
    lines = [line.split() for line in (source / "user_sequence.txt").read_text().splitlines()]
    (tmp_path / "user_sequence.txt").write_text(
        "".join(f"{' '.join([user, *sorted(items)])}\n" for user, *items in lines)
    )
    (found,) = id_order(prepare(tmp_path, "sequences"))
    assert found.level is Level.ERROR
    assert found.share == 1.0


@pytest.mark.real
def test_hm_sorted_by_article_within_the_day(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = real_data("hm-week")
    assert id_order(prepare(source, "hm", k_core=5))[0].level is Level.OK
    header, *lines = (source / "transactions.csv").read_text().splitlines()
    by_article = sorted(lines, key=lambda line: line.split(",")[2])
    (tmp_path / "transactions.csv").write_text("\n".join([header, *by_article]) + "\n")
    (found,) = id_order(prepare(tmp_path, "hm", k_core=5))
    assert found.level is Level.ERROR
    assert "--ties seed" in found.message
    assert id_order(prepare(tmp_path, "hm", k_core=5, ties="seed"))[0].level is Level.OK


@pytest.mark.real
def test_other_real_data_are_not_flagged(real_data: Callable[[str], Path]) -> None:
    assert id_order(prepare(real_data("ml-100k"), "movielens"))[0].level is Level.OK
    assert id_order(prepare(real_data("ml-1m"), "interactions"))[0].level is Level.OK
    assert id_order(prepare(real_data("microlens-50k"), "microlens"))[0].level is Level.OK
