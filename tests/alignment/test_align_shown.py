"""Alignment on what was shown: the pairs are those of the requests, and what is recorded says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.alignment.align import align
from palate.alignment.pairs import sample_pairs
from palate.alignment.plan import plan_alignment
from palate.data.dataset import Dataset
from palate.data.impressions import Impressions
from palate.errors import PalateError
from palate.training.fit import train

Ring = Callable[..., Dataset]
SMALL: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 8, "max_length": 6},
    "trainer": {"epochs": 1, "batch_size": 16, "device": "cpu"},
}


def with_impressions(data: Dataset) -> tuple[Dataset, dict[tuple[int, int], list[int]]]:
    """Each second training target of half of the users was shown between two others that the user never takes."""
    rows, beside = [], {}
    for user, taken in enumerate(data.train_sequences().to_lists()):
        never = sorted(set(range(1, data.num_items + 1)) - set(data.items[data.rows_user == user].tolist()))
        for place, item in enumerate(taken):
            if user % 2 or place % 2 == 0:
                continue
            request = len(beside)
            beside[user, item] = [never[place % len(never)], never[(place + 1) % len(never)]]
            above, below = beside[user, item]
            shown = [(above, False, 1), (item, True, 2), (below, False, 3)]
            rows += [(user, one, 1000 * place, took, request, position) for one, took, position in shown]
    kinds = ("u4", "i4", "i8", "?", "u4", "i4")
    columns = [np.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
    return replace(data, impressions=Impressions(*columns)), beside


@pytest.mark.parametrize("shown", ["all", "above"])
def test_pairs_are_those_of_the_request(shown: str, ring: Ring, tmp_path: Path) -> None:
    data, beside = with_impressions(ring(longest=12))
    base = train(data, model="sasrec", out=tmp_path / "base", settings=SMALL)
    settings = {"negatives": {"shown": shown, "shown_fallback": "none", "num_negatives": 4}, "trainer": {"epochs": 1}}
    plan = plan_alignment(base, dataset=data, objective="s-dpo", negatives="shown", settings=settings)
    prepared = plan.prepare()
    pairs = plan.make_step(prepared, torch.device("cpu")).pairs
    own, others, seen = set(), set(), 0
    for drawn in sample_pairs(pairs, prepared.model, prepared.data, torch.from_numpy(data.train_counts).float()):
        users = pairs.prefixes.owners(drawn.row_places)
        for user, items, valid in zip(users.tolist(), drawn.items.tolist(), drawn.rejected.valid.tolist(), strict=True):
            assert all(valid) if user % 2 == 0 else not any(valid)
            if user % 2:
                continue
            seen += 1
            candidates = beside.get((user, items[0]))
            if candidates is not None:
                allowed = set(candidates[:1] if shown == "above" else candidates)
                own.add(len(allowed & set(items[1:])))
                assert set(items[1:]) <= allowed
            else:
                everything = {one for (who, _), row in beside.items() if who == user for one in row}
                others.add(len(set(items[1:]) & everything))
                assert set(items[1:]) <= everything
    assert seen
    assert own == ({1} if shown == "above" else {1, 2})
    assert others
    run = align(base, out=tmp_path / "run", dataset=data, objective="s-dpo", negatives="shown", settings=settings)
    shares = run.info["alignment"]["shown"]
    assert sum(shares.values()) == pytest.approx(1)
    assert 0.1 < shares["from_request"] < 0.5
    assert run.info["options"]["alignment"]["negatives"]["shown"] == shown


def test_without_impressions_it_is_refused(ring: Ring, tmp_path: Path) -> None:
    data = ring(longest=8)
    base = train(data, model="sasrec", out=tmp_path / "base", settings=SMALL)
    with pytest.raises(PalateError, match="keeps no impressions"):
        align(base, out=tmp_path / "run", dataset=data, negatives="shown")
    seen, _ = with_impressions(data)
    assert seen.impressions is not None
    blind = replace(seen, impressions=replace(seen.impressions, positions=np.zeros(len(seen.impressions), np.int32)))
    first = train(blind, model="sasrec", out=tmp_path / "blind", settings=SMALL)
    settings = {"negatives": {"shown": "above"}}
    with pytest.raises(PalateError, match="nothing that was skipped above"):
        plan_alignment(first, dataset=blind, objective="dpo", negatives="shown", settings=settings)
