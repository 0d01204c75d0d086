"""An option that takes one value is given once; those that take several may be repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import Shell


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["recommend", "RUN", "--history", "i1", "--k", "3", "-k", "4"], "--k or -k"),
        (["recommend", "RUN", "--history", "i1", "--history=i2"], "--history"),
        (["evaluate", "RUN", "--keep-seen", "--exclude-seen"], "--exclude-seen or --keep-seen"),
        (["prepare", "log.csv", "--out", "x", "--catalogue", "a.csv", "--catalogue", "b.csv"], "--catalogue"),
        (["mllm", "sft", "DATA", "--model", "a", "--model", "b", "--out", "x"], "--model"),
    ],
)
def test_an_option_that_would_go_unheard_is_refused(
    palate: Shell, shop: Path, popular: Path, words: list[str], names: str
) -> None:
    outcome = palate(*({"RUN": popular, "DATA": shop}.get(word, word) for word in words))
    assert outcome.code == 2
    assert f"{names} is given twice, and only one can count. Give it once." in outcome.err


def test_lists_switches_and_arguments_may_be_repeated(palate: Shell, popular: Path) -> None:
    conditions = ("--only", "colour=red", "--only", "tags=cheap")
    outcome = palate("recommend", popular, "--history", "i1", "-q", "-q", "--json", "--json", *conditions)
    assert outcome.code == 0, outcome.err
    assert palate("evaluate", popular, popular, "--json").err.count("given twice") == 0
