"""Split traffic: shares are right, users stay where they are, and a change of a share moves no others."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from palate.errors import PalateError
from palate.serve.traffic import Traffic, parse_traffic

USERS = [f"user-{number}" for number in range(20_000)]


def _chosen(shares: dict[str, float], experiment: str = "traffic") -> list[str]:
    traffic = Traffic(shares, experiment)
    return [traffic.model_of(user) for user in USERS]


def test_shares_are_kept() -> None:
    chosen = _chosen({"best": 0.9, "new": 0.1})
    assert chosen.count("new") / len(USERS) == pytest.approx(0.1, abs=0.007)  # 3.3 standard errors
    three = _chosen({"a": 5, "b": 3, "c": 2})
    assert [three.count(name) / len(USERS) for name in "abc"] == pytest.approx([0.5, 0.3, 0.2], abs=0.012)


def test_a_share_that_grows_takes_users_and_moves_no_others() -> None:
    before, after = _chosen({"a": 0.5, "b": 0.3, "c": 0.2}), _chosen({"a": 0.5, "b": 0.3, "c": 0.4})
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {new for _, new in moved} == {"c"}
    assert len(moved) / len(USERS) == pytest.approx(1 / 3 - 0.2, abs=0.01)
    added = _chosen({"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.1})
    assert {new for old, new in zip(before, added, strict=True) if old != new} == {"d"}


def test_experiments_are_independent() -> None:
    first, second = _chosen({"a": 1, "b": 1}, "spring"), _chosen({"a": 1, "b": 1}, "autumn")
    both = sum(one == other == "a" for one, other in zip(first, second, strict=True))
    assert both / len(USERS) == pytest.approx(0.25, abs=0.012)


def test_another_process_chooses_alike() -> None:
    users = ["anna", "ben", "Zo\u00eb", ""]
    program = (
        "from palate.serve.traffic import Traffic\n"
        f"print(*map(Traffic({{'best': 0.5, 'new': 0.5}}, 'x').model_of, {users!a}))"
    )
    traffic = Traffic({"best": 0.5, "new": 0.5}, "x")
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.split() == [traffic.model_of(user) for user in users]
    # Written down, as a new version of Palate must not send users elsewhere.
    to_new = [user for user in USERS[:40] if Traffic({"best": 0.9, "new": 0.1}).model_of(user) == "new"]
    assert to_new == ["user-3", "user-24", "user-31"]


def test_the_command_line_form() -> None:
    assert parse_traffic("best=90, new=10", ["best", "new", "old"]).shares == {"best": 90.0, "new": 10.0}
    assert parse_traffic("best=1,new=0", ["best", "new"]).shares == {"best": 1.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best=0.9,nwe=0.1", r"there is no model 'nwe'. Did you mean 'new'\?"),
        ("best", "there is no model 'best'"),
        ("best=much", "'much' is not a number"),
        ("best=-1,new=2", "a share of -1 makes no sense"),
        ("best=nan", "a share of nan makes no sense"),
        ("best=0,new=0", "all shares are 0"),
        ("best=1,best=2", "'best' is named twice"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(PalateError, match=message):
        parse_traffic(text, ["best" if "=" in text else "other", "new"])
