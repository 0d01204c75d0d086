"""Chains: what a step's key knows, what is shared, and what one more interaction costs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from summary_helpers import Echo, steps_for
from worlds import walking_shop

from palate.mllm.prompts.items import Items
from palate.mllm.prompts.templates import BUILT_IN, Templates
from palate.mllm.summaries.steps import UserOptions
from palate.mllm.summaries.work import missing_steps, write_steps

DATA = walking_shop()


def keys(history: list[int], backend: Echo | None = None, **options: object) -> list[str]:
    return [step.key for step in steps_for(DATA, backend or Echo(), **options).of(history)]


def new_requests(before: list[int], after: list[int], **options: object) -> int:
    """How many requests the second history needs once the first one is written."""
    backend, texts = Echo(), {}
    summary_steps = steps_for(DATA, backend, **options)

    def keep(step, text, reply):  # type: ignore[no-untyped-def]
        texts[step.key] = text

    for history in (before, after):
        backend.requested.clear()
        write_steps(
            missing_steps([summary_steps.of(history)], texts), texts, summary_steps.ask, keep, backend, max_new_tokens=9
        )
    return len(backend.requested)


def test_a_history_is_cut_into_blocks_from_its_start() -> None:
    steps = steps_for(DATA, Echo()).of([5, 6, 7, 8, 9, 10, 11])
    assert [step.items for step in steps] == [(5, 6, 7), (8, 9, 10), (11,)]
    assert [step.previous for step in steps] == [None, steps[0].key, steps[1].key]
    assert steps_for(DATA, Echo()).of([]) == []


def test_the_window_moves_by_whole_blocks() -> None:
    summary_steps = steps_for(DATA, Echo(), block=3, max_items=6)
    assert [step.items for step in summary_steps.of([1, 2, 3, 4, 5, 6])] == [(1, 2, 3), (4, 5, 6)]
    assert [step.items for step in summary_steps.of([1, 2, 3, 4, 5, 6, 7])] == [(4, 5, 6), (7,)]
    direct = steps_for(DATA, Echo(), strategy="direct", block=3, max_items=6)
    assert [step.items for step in direct.of([1, 2, 3, 4, 5, 6, 7])] == [(4, 5, 6, 7)]
    for block, most in ((3, 2), (5, 3), (1, 1), (7, 18)):
        options = UserOptions(block=block, max_items=most)
        for items in range(1, 60):
            start = options.window(items)
            assert 0 <= start < items, "something is always read"
            assert items - start <= max(most, 1)


def test_prefixes_are_shared_between_cut_offs_and_between_users() -> None:
    assert keys([1, 2, 3, 4, 5, 6, 7])[:2] == keys([1, 2, 3, 4, 5, 6])
    assert keys([1, 2, 3, 9])[0] == keys([1, 2, 3, 4])[0]
    assert keys([1, 2, 3, 9])[1] != keys([1, 2, 3, 4])[1]
    assert len(set(keys([1, 2, 3, 1, 2, 3, 1, 2, 3]))) == 3, "the same block later is another step"


@pytest.mark.parametrize("items", [0, 1, 2, 3, 4, 5, 6, 11])
def test_one_more_interaction_is_one_more_request(items: int) -> None:
    history = list(range(1, items + 1))
    assert new_requests(history, [*history, 20]) == 1
    assert new_requests(history, history) == 0
    assert new_requests(history, [*history, 20], strategy="direct") == 1


def test_a_history_longer_than_the_window_is_read_again_once_a_block() -> None:
    histories = [list(range(1, n + 1)) for n in range(6, 14)]
    costs = [new_requests(one, two, block=3, max_items=6) for one, two in pairwise(histories)]
    assert costs == [2, 1, 1, 2, 1, 1, 2]


def test_the_key_knows_order_model_block_length_and_strategy() -> None:
    one = keys([1, 2, 3, 4])
    assert one == keys([1, 2, 3, 4])
    for other in (
        keys([2, 1, 3, 4]),
        keys([1, 2, 3, 4], Echo("other")),
        keys([1, 2, 3, 4], block=4),
        keys([1, 2, 3, 4], max_new_tokens=7),
        keys([1, 2, 3, 4], strategy="direct"),
    ):
        assert not set(one) & set(other)


def test_the_key_knows_titles_texts_and_summaries() -> None:
    one = keys([1, 2, 3, 4])
    renamed = DATA.catalogue.frame.with_columns(
        title=pl.when(pl.col("item_id") == "i3").then(pl.lit("Renamed")).otherwise(pl.col("title"))
    )
    place = DATA.catalogue.index["i3"]
    assert place > 3
    from dataclasses import replace

    other = replace(DATA, catalogue=type(DATA.catalogue)(renamed))
    history = [1, 2, place - 1, place, 2]
    was = [step.key for step in steps_for(DATA, Echo(), block=2).of(history)]
    now = [step.key for step in steps_for(other, Echo(), block=2).of(history)]
    assert [a == b for a, b in zip(was, now, strict=True)] == [True, False, False], "only from the changed block on"
    described = Items.of(DATA.catalogue, {"i0": "A very red thing."})
    first = DATA.catalogue.index["i0"]
    assert [s.key for s in steps_for(DATA, Echo(), items=described).of([first])] != keys([first])
    assert [s.key for s in steps_for(DATA, Echo(), items=described).of([1 if first != 1 else 2])] == keys(
        [1 if first != 1 else 2]
    )
    assert one == keys([1, 2, 3, 4])


def test_the_key_knows_the_prompt_but_not_its_comments(tmp_path: Path) -> None:
    text = (BUILT_IN / "user-next.txt").read_text()
    (tmp_path / "user-next.txt").write_text(f"# another comment\n{text}")
    same = steps_for(DATA, Echo(), Templates.load(tmp_path)).of([1, 2, 3, 4])
    assert [step.key for step in same] == keys([1, 2, 3, 4])
    (tmp_path / "user-next.txt").write_text(text + "\nBe brief.")
    other = steps_for(DATA, Echo(), Templates.load(tmp_path)).of([1, 2, 3, 4])
    assert not {step.key for step in other} & set(keys([1, 2, 3, 4]))


def test_numpy_histories_are_like_lists() -> None:
    summary_steps = steps_for(DATA, Echo())
    assert summary_steps.of(np.array([1, 2, 3, 4], np.int32)) == summary_steps.of([1, 2, 3, 4])  # type: ignore[arg-type]


def test_a_later_step_is_told_the_text_of_the_one_before() -> None:
    backend, texts = Echo(), {}
    summary_steps = steps_for(DATA, backend)

    def keep(step, text, reply):  # type: ignore[no-untyped-def]
        texts[step.key] = text

    steps = missing_steps([summary_steps.of([1, 2, 3, 4, 5])], texts)
    outcome = write_steps(steps, texts, summary_steps.ask, keep, backend, max_new_tokens=9)
    assert outcome.written == 2
    assert "Preference number 1: likes things." in backend.prompts[1]
    titles = Items.of(DATA.catalogue)
    assert all((titles.title(item) in backend.prompts[0]) == (item <= 3) for item in range(1, 6))
    assert titles.title(4) in backend.prompts[1]
    assert titles.title(1) not in backend.prompts[1]
