"""How options are read: lists as words between commas, and what is said of a value that is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from palate.config import Config
from palate.errors import PalateError
from palate.rankers.hstu import HSTUConfig
from palate.serve.business.rules_file import RulesFile


class Lists(Config):
    """Every kind of field that takes several values, and two that do not."""

    days: tuple[Literal["monday", "friday"], ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    counts: list[int] | None = None
    names: Sequence[str] | None = None
    word: str = ""
    either: str | tuple[str, ...] = ""


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("days", "monday,friday", ("monday", "friday")),
        ("days", "monday", ("monday",)),
        ("days", "", ()),
        ("days", "[monday, friday]", ("monday", "friday")),  # ["monday", "friday"] after the shell took the quotes
        ("pair", "0.5, 2", (0.5, 2.0)),
        ("counts", "3,4", [3, 4]),
        ("names", 'title, "Customer, ID"', ["title", "Customer, ID"]),
        ("word", "a,b", "a,b"),
        ("either", "a,b", "a,b"),
    ],
)
def test_lists_are_read_between_commas(key: str, text: str, expected: Any) -> None:
    assert getattr(Lists.parse({key: text}, where="settings"), key) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"days": "monday,sunday"}, r"'days\.1': Input should be 'monday' or 'friday' \(got 'sunday'\)"),
        ({"pair": 0.5}, r"'pair': not a list \(got 0\.5\)\. Write its values between commas\."),
        ({"counts": 3}, r"'counts': not a list \(got 3\)"),
        ({"names": 'a"b'}, "'names' a\"b: a double quote is not closed"),
    ],
)
def test_what_is_no_list_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PalateError, match=f"^settings: {message}"):
        Lists.parse(values, where="settings")


def test_settings_of_rankers_take_them_from_the_command_line() -> None:
    from palate.cli.shared.options import parse_assignments

    settings = parse_assignments(["ranker.calendar=hour,weekday", "ranker.time=query"])
    assert HSTUConfig.parse(settings["ranker"], where="settings").calendar == ("hour", "weekday")
    settings = parse_assignments(['ranker.calendar=["hour", "weekday"]'])
    assert HSTUConfig.parse(settings["ranker"], where="settings").calendar == ("hour", "weekday")


def test_ids_and_conditions_of_business_rules_may_hold_commas() -> None:
    assert RulesFile.parse({"deny": ["a,b"]}, where="rules").deny == ("a,b",)
    with pytest.raises(PalateError, match=r"'deny': not a list .* Write it as \["):
        RulesFile.parse({"deny": "a,b"}, where="rules")
