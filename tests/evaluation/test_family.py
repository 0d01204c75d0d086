"""P-values are adjusted over the family that was named, and over nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from evaluation_helpers import Fixed
from worlds import random_logs

from palate.errors import PalateError
from palate.evaluation.compare import Group, compare
from palate.evaluation.evaluate import evaluate
from palate.evaluation.statistics import holm
from palate.evaluation.tables import footnotes, main_table


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    """Four models of chance."""
    dataset = random_logs()
    tables = [torch.rand(9, dataset.num_items + 1, generator=torch.Generator().manual_seed(n)) for n in range(4)]
    return [
        Group(name, (evaluate(Fixed(table), dataset, ks=[5]),), (0,))
        for name, table in zip("abcd", tables, strict=True)
    ]


def test_adjusted_over_the_family_only(groups: list[Group]) -> None:
    whole = compare(groups)
    named = compare(groups, family=["b", "d"])
    p = {row.label: row.differences["ndcg@5"].estimate.p_value for row in whole.rows[1:]}
    assert [whole.row(name).differences["ndcg@5"].holm for name in "bcd"] == pytest.approx(holm(list(p.values())))
    assert [named.row(name).differences["ndcg@5"].holm for name in "bd"] == pytest.approx(holm([p["b"], p["d"]]))
    assert np.isnan(named.row("c").differences["ndcg@5"].holm)
    assert main_table(named).rows[2][4] == "-"
    assert any("family (b, d)" in note for note in footnotes(named))
    assert not any("family" in note for note in footnotes(whole))
    assert named.facts["family"] == ["b", "d"]


@pytest.mark.parametrize("wrong", [["a"], ["e"]])
def test_a_family_of_no_rows(groups: list[Group], wrong: list[str]) -> None:
    with pytest.raises(PalateError, match="of the family"):
        compare(groups, family=wrong)
