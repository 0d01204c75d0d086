"""Negatives of what was shown: of the own request first, then of the user's others, else of the fallback."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_pools import WIDTH, sets_of, situation

from palate.errors import PalateError
from palate.negatives.config import NegativesConfig, draw_rejected

SCORES = torch.arange(float(WIDTH)).repeat(4, 1)
SHOWN: dict[str, Any] = {
    "shown": sets_of([{4, 5}, set(), set(), {1}]),
    "shown_elsewhere": sets_of([set(), {7}, set(), set()]),
}
# The last row's only shown item is part of its history.
FORBIDDEN = [{1}, {2}, {3}, {1}]


def drawn_from(**settings: Any) -> tuple[list[set[int]], dict[str, float]]:
    config = NegativesConfig(strategy="shown", num_negatives=40, pool_k=WIDTH - 2, **settings)
    drawn = draw_rejected(config, situation(FORBIDDEN, SCORES, **SHOWN))
    rows = zip(drawn.classes.tolist(), drawn.valid.tolist(), strict=True)
    return [{c for c, v in zip(*row, strict=True) if v} for row in rows], drawn.facts


def test_own_request_then_other_requests_then_the_fallback() -> None:
    rows, facts = drawn_from(shown_fallback="uniform")
    assert rows[:2] == [{4, 5}, {7}]
    assert all(len(row) > 5 for row in rows[2:])
    assert 3 not in rows[2]
    assert 1 not in rows[3]
    assert facts == {"from_request": 0.25, "from_other_requests": 0.25, "from_fallback": 0.5}


def test_without_a_fallback_there_is_no_pair() -> None:
    rows, facts = drawn_from(shown_fallback="none")
    assert rows == [{4, 5}, {7}, set(), set()]
    assert facts["from_fallback"] == 0


def test_a_share_may_come_from_the_fallback() -> None:
    rows, facts = drawn_from(shown_fallback="popularity", shown_share=0.5)
    assert {4, 5} < rows[0]
    assert 0.05 < facts["from_request"] < 0.2


def test_twins_that_may_not_be_rejected_are_left_out() -> None:
    config = NegativesConfig(strategy="shown", shown_fallback="none", twins="out", twin_source="lexical")
    context = situation(FORBIDDEN, SCORES, twins=sets_of([{4}, {7}, set(), set()]), **SHOWN)
    drawn = draw_rejected(config, context)
    assert drawn.valid.flatten().tolist() == [True, False, False, False]
    assert drawn.classes[0].tolist() == [5]


def test_settings_of_shown_belong_to_shown() -> None:
    with pytest.raises(PalateError, match="does nothing without the strategy 'shown'"):
        NegativesConfig.parse({"strategy": "top-k", "shown": "above"}, "here")
    assert not {"shown", "shown_fallback"} & NegativesConfig().model_dump().keys()
    assert NegativesConfig(strategy="shown").model_dump()["shown_fallback"] == "top-k"
    with pytest.raises(PalateError, match="a pool of 20 is larger than the catalogue"):
        NegativesConfig(strategy="shown").check_catalogue(10)
    NegativesConfig(strategy="shown", shown_fallback="none").check_catalogue(10)
