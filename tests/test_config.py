"""How options are read: lists as words between commas, and what is said of a value that is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

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
    auto: Literal["auto"] | tuple[str, ...] = "auto"
    marked: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    several: frozenset[str] = frozenset()


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
        ("auto", "auto", "auto"),
        ("marked", "a,b", ("a", "b")),
        ("several", "a,b", {"a", "b"}),
        ("counts", 3, [3]),
        ("names", 2024, ["2024"]),
    ],
)
def test_lists_are_read_between_commas(key: str, text: str | int, expected: Any) -> None:
    assert getattr(Lists.parse({key: text}, where="settings"), key) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"days": "monday,sunday"}, r"'days\.1': Input should be 'monday' or 'friday' \(got 'sunday'\)"),
        ({"pair": True}, r"'pair': not a list \(got True\)\. Write its values between commas\."),
        ({"auto": 3}, r"'auto.*': "),
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
