"""The best items of a catalogue that is divided: those of the whole, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from exact_ranker import Exact, compare_recommendations, sasrec, with_newcomers
from safetensors.torch import load_file, save_file
from worlds import random_logs, ring

from palate.engines.local import LOCAL
from palate.errors import PalateError
from palate.rankers.ease import EASE
from palate.rankers.recommend import Recommendations
from palate.rankers.registry import load_recommender
from palate.rankers.stored_shard import StoredItems, load_shard
from palate.recommender import Recommender, Shard
from palate.topk import best_items, merged
from palate.training.blend import blend
from palate.training.fit import train

Palate = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_the_best_of_parts_are_the_best_of_the_whole(count: int, k: int) -> None:
    scores = torch.randint(0, 4, (50, 20), generator=torch.Generator().manual_seed(count)).float()
    scores[scores == 3] = -torch.inf
    scores[0] = -torch.inf
    expected = best_items(scores, k)
    for parts in (torch.arange(20).chunk(count), [torch.arange(20)[start::count] for start in range(count)]):
        found = []
        for part in reversed(parts):
            columns, values = best_items(scores[:, part], k)
            found.append((part[columns], values))
        for mine, theirs in zip(merged(found, k), expected, strict=True):
            assert torch.equal(mine, theirs)


def test_every_part_of_the_items_once() -> None:
    for num_items in (1, 2, 30, 31):
        for count in (1, 2, 3, 40):
            parts = [Shard(index, count).items(num_items) for index in range(count)]
            assert [item for part in parts for item in part] == list(range(1, num_items + 1))


@pytest.mark.parametrize("count", [1, 3, 50])
def test_shards_of_a_stored_model_recommend_what_the_whole_would(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = random_logs(repeats=True)
    whole = sasrec(dataset)
    whole.save(tmp_path)
    histories = with_newcomers(dataset.cases("test")).histories
    read: list[int] = []
    rows = StoredItems.rows
    monkeypatch.setattr(StoredItems, "rows", lambda self, index: read.append(len(index)) or rows(self, index))
    shards = [load_shard(Exact, tmp_path, Shard(index, count), "cpu") for index in range(count)]
    for shard in shards:
        own = 0 if shard._table is None else len(shard._table)
        assert own <= -(-dataset.num_items // count)
        kept = [*shard.parameters(), *shard.buffers()]
        assert sum(one.numel() for one in kept if one.data_ptr() != 0) == sum(
            one.numel() for name, one in whole.named_parameters() if not name.startswith("items.")
        )
    compare_recommendations(whole, shards, histories)
    # Vectors are read for the items of histories, and for nothing else.
    assert set(read) == {len(np.unique(np.append(histories.last(8).values, 0)))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = ring()
    data.save(folder / "data")
    settings = {"ranker": {"dim": 8}, "trainer": {"epochs": 1, "tensorboard": False}}
    train(data, model="sasrec", out=folder / "run", settings=settings, dataset_path=folder / "data")
    return folder


@pytest.mark.parametrize("shards", [2, 5])
def test_everyone_is_recommended_the_same_by_shards(shards: int, trained: Path, tmp_path: Path) -> None:
    data, tables = ring(), []
    options: dict[str, Any] = {"deny": ["i3", "i4"], "exclude_seen": True}
    for number, some in enumerate((None, shards)):
        ready = Recommendations(trained / "run", **options)
        out = tmp_path / f"{number}.parquet"

        def load(shard: Shard) -> Recommendations:
            return Recommendations(trained / "run", **options, shard=shard)

        rows = ready.for_everyone(data, out, 7, engine=LOCAL, load=None if some is None else load, shards=some)
        tables.append(pl.read_parquet(out))
        assert rows == len(tables[-1]) == 7 * data.num_users
    assert tables[0].drop("score").equals(tables[1].drop("score"))
    assert np.allclose(tables[0]["score"], tables[1]["score"], atol=1e-5)


def test_what_cannot_be_divided_is_refused(
    trained: Path, tmp_path: Path, palate: Palate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of a ranker that does not know how, such as tiger or a plug-in.
    monkeypatch.setattr(EASE, "load_shard", classmethod(Recommender.load_shard.__func__))
    run = train(ring(), model="ease", out=tmp_path / "ease")
    with pytest.raises(PalateError, match=r"the ranker 'ease' cannot be divided by items\. Leave out --shards"):
        load_recommender(run, shard=Shard(0, 2))
    mixed = blend([trained / "run", run], out=tmp_path / "blend", dataset=trained / "data")
    with pytest.raises(PalateError, match="the ranker 'ease' cannot be divided"):
        load_recommender(mixed, shard=Shard(0, 2))
    code, _, errors = palate("recommend", trained / "run", "--all", "--out", tmp_path / "all.csv", "--shards", "2")
    assert code == 2
    assert "--shards belongs to --engine ray" in errors
    with pytest.raises(PalateError, match="a model in memory has all items"):
        Recommendations(trained / "run").for_everyone(ring(), tmp_path / "all.csv", shards=2)


def test_a_part_that_is_damaged_is_refused(tmp_path: Path) -> None:
    whole = sasrec(random_logs())
    whole.save(tmp_path)
    stored = load_file(tmp_path / "items.safetensors")
    damaged = {name: one.clone() for name, one in stored.items()}
    damaged["items"][-1] = torch.nan
    save_file(damaged, tmp_path / "items.safetensors")
    load_shard(Exact, tmp_path, Shard(0, 2), "cpu")
    with pytest.raises(PalateError, match="the tensor 'items' holds NaN"):
        load_shard(Exact, tmp_path, Shard(1, 2), "cpu")
    save_file({name: one[:-1].clone() for name, one in stored.items()}, tmp_path / "items.safetensors")
    with pytest.raises(PalateError, match=r"is damaged .*'items' is"):
        load_shard(Exact, tmp_path, Shard(0, 2), "cpu")
    (tmp_path / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(PalateError, match="is damaged"):
        load_shard(Exact, tmp_path, Shard(0, 2), "cpu")
