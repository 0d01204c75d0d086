"""Business rules of a running service: they hold for every model and way of asking, and are read again."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from serve_helpers import Live

from palate.errors import PalateError
from palate.rankers.sasrec import SASRec
from palate.serve.config import ServeConfig
from palate.serve.engine import Ask, FactoredEngine
from palate.serve.loaded_models import BundleSpec
from palate.serve.service import Service

HISTORY = ["space-1", "space-2"]
RULES = """
in_stock = "stock.txt"
without = ["tags=love"]

[[boost]]
name = "crime week"
only = ["tags=crime"]
factor = 10

[[pin]]
item = "space-6"
position = 2
history = ["tags=space"]

[[cap]]
field = "year"
most = 1
first = 4
"""


@pytest.fixture
def ruled(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Live]:
    ids = [f"{kind}-{number}" for kind in ("space", "crime", "love") for number in range(8)]
    (tmp_path / "stock.txt").write_text("\n".join(one for one in ids if one != "crime-0"))
    (tmp_path / "rules.toml").write_text(RULES)
    specs = [BundleSpec(name, folder) for name, folder in bundles.items()]
    running = Live(lambda: Service(specs, ServeConfig(rules_every=0.02), rules=tmp_path / "rules.toml"))
    yield running
    running.stop()


def _items(live: Live, **more: Any) -> list[str]:
    answer = live.post("/v1/recommend", {"history": HISTORY, "k": 6, **more})
    assert answer.status == 200, answer.body
    return [one["id"] for one in answer.json["items"]]


@pytest.mark.parametrize("model", ["sasrec", "popularity", "item-knn"])
def test_every_model_keeps_the_rules(ruled: Live, model: str) -> None:
    answer = ruled.post(
        "/v1/recommend", {"model": model, "history": HISTORY, "k": 6, "fields": True, "explain_rules": True}
    ).json
    found = [one["id"] for one in answer["items"]]
    assert found[1] == "space-6"
    assert len(found) == 6
    assert not any(one.startswith("love") or one == "crime-0" or one in HISTORY for one in found)
    years = [one["fields"]["year"] for one in answer["items"][:4]]
    assert len(set(years)) == 4
    assert found[0].startswith("crime")
    rules = answer["rules"]
    assert rules["items"]["space-6"] == ["pin 2"] or "pin 1" in rules["items"]["space-6"]
    assert rules["items"][found[0]][0] == "crime week (x10)"
    assert rules["left_out"]["without tags=love"] == 8
    assert rules["left"] == 14


def test_filters_of_a_request_come_on_top(ruled: Live) -> None:
    assert _items(ruled, only=["tags=love"]) == []
    assert _items(ruled, deny=["space-6"])[1] != "space-6"
    assert set(_items(ruled, allow=["crime-1", "crime-0", "love-1"])) == {"crime-1"}
    assert "space-6" not in _items(ruled, history=["crime-1"])[:2]
    spread = _items(ruled, diversity=0.5)
    assert (len(spread), spread[1]) == (6, "space-6")
    assert ruled.post("/v1/recommend", {"history": HISTORY}).json["rules"] is None


def test_similar_items_keep_them_too(ruled: Live) -> None:
    def similar(**more: Any) -> list[str]:
        return [one["id"] for one in ruled.post("/v1/similar", {"item": "crime-3", "k": 30, **more}).json["items"]]

    for more in ({}, {"by": "text"}, {"model": "item-knn"}):
        found = similar(**more)
        assert found
        assert not any(one.startswith("love") or one == "crime-0" for one in found)
    assert set(similar(only=["tags=crime"], deny=["crime-1"])) == {f"crime-{n}" for n in (2, 4, 5, 6, 7)}
    assert similar(allow=["crime-5", "love-1"]) == ["crime-5"]
    assert ruled.post("/v1/similar", {"item": "crime-3", "deny": ["nothing"]}).json["unknown"] == ["nothing"]
    refused = ruled.post("/v1/similar", {"item": "crime-3", "only": ["tags=crimes"]})
    assert (refused.status, refused.error["code"]) == (422, "invalid")


def _metric(live: Live, text: str) -> bool:
    return text in live.get("/metrics").body.decode()


def _write(path: Path, text: str) -> None:
    """As a careful shop would: beside, then renamed."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


def _until(live: Live, text: str) -> None:
    for _ in range(2000):
        if _metric(live, text):
            return
        asyncio.run(asyncio.sleep(0.01))
    raise AssertionError(f"{text} never came")


def test_files_are_read_again_and_broken_ones_change_nothing(ruled: Live, tmp_path: Path) -> None:
    before = _items(ruled)
    _write(tmp_path / "rules.toml", "dney = ['crime-1']")
    _until(ruled, 'palate_rules_reloads_total{outcome="failed"} 1.0')
    assert _items(ruled) == before
    assert _metric(ruled, "palate_rules_broken 1.0")
    _write(tmp_path / "rules.toml", "in_stock = 'stock.txt'")
    _until(ruled, 'palate_rules_reloads_total{outcome="changed"} 2.0')
    assert _metric(ruled, "palate_rules_broken 0.0")
    assert any(one.startswith("love") for one in _items(ruled, k=20))
    _write(tmp_path / "stock.txt", "love-1\nlove-2\n")
    _until(ruled, 'palate_rules_items_left{model="sasrec"} 2.0')
    assert set(_items(ruled)) == {"love-1", "love-2"}


def test_a_file_that_is_being_written_is_not_read(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("deny = ['crime-1']")
    service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(), rules=path)
    service.start()
    assert service.business is not None
    models = service.loaded.models
    path.write_text("deny = ['crime-1', 'crime-2']")
    assert not service.business.refresh(models)  # seen for the first time
    path.write_text("deny = ['crime-1', 'crime-2', 'crime-3']")
    assert not service.business.refresh(models)  # changed once more
    assert service.business.refresh(models)
    assert service.loaded.default.business is not None
    assert service.loaded.default.business.left == 20
    os.utime(path, (1, 1))
    service.business.refresh(models)
    assert not service.business.refresh(models)  # the same content


def test_lists_of_rules_that_were_not_taken_over_are_watched(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("deny = ['crime-1']")
    service = Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(), rules=path)
    service.start()
    assert service.business is not None
    models = service.loaded.models

    def twice() -> bool:
        return any([service.business.refresh(models), service.business.refresh(models)])  # type: ignore[union-attr]

    path.write_text("in_stock = 'tonight.txt'")
    assert not twice()  # the list is still to come
    (tmp_path / "tonight.txt").write_text("")
    assert not twice()  # nothing would be left
    (tmp_path / "tonight.txt").write_text("crime-1\n")
    assert twice()
    assert service.loaded.default.business is not None
    assert service.loaded.default.business.left == 1
    assert not twice()
    failed = 'palate_rules_reloads_total{outcome="failed"} 2.0'
    assert failed in service.telemetry.text().decode()


def test_rules_for_a_bundle_that_is_still_to_come(
    bundles: dict[str, Path], hostile_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("")
    link = tmp_path / "live"
    link.symlink_to(hostile_bundle)
    service = Service([BundleSpec("live", link)], ServeConfig(), rules=path)
    service.start()
    assert service.business is not None
    path.write_text("without = ['tags=crime']")
    service.business.refresh(service.loaded.models)
    assert not service.business.refresh(service.loaded.models)
    link.unlink()
    link.symlink_to(bundles["popularity"])
    asyncio.run(service.reload())
    assert service.business.refresh(service.loaded.models)
    assert service.loaded.default.business is not None
    assert service.loaded.default.business.left == 15


def test_broken_rules_do_not_start(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("deny = [1]")
    with pytest.raises(PalateError, match=r"rules.toml, line 1"):
        Service([BundleSpec("popularity", bundles["popularity"])], ServeConfig(), rules=path).start()


def test_a_new_bundle_comes_with_the_rules(bundles: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("allow = ['crime-1']")
    link = tmp_path / "live"
    link.symlink_to(bundles["popularity"])
    service = Service([BundleSpec("live", link)], ServeConfig(), rules=path)
    service.start()
    link.unlink()
    link.symlink_to(bundles["item-knn"])
    assert asyncio.run(service.reload()) == ["live"]
    assert service.loaded.default.business is not None
    assert service.loaded.default.business.left == 1


def test_faiss_fills_answers_under_rules() -> None:
    pytest.importorskip("faiss")
    torch.manual_seed(0)
    model = SASRec(SASRec.Config(dim=8, max_length=8, layers=1, heads=1), 6000, {})
    model.eval()
    exact, near = FactoredEngine(model), FactoredEngine(model, approximate=True)
    draw = torch.Generator().manual_seed(1)
    for share in (0.5, 0.001):
        allowed = (torch.rand(6001, generator=draw) < share).numpy()
        allowed[0] = False
        # 0.2 is more than there is: the scan finds too few, and the exact search fills the answer.
        asks = [Ask([n, n + 1], 4, allowed=allowed, share=max(share, 0.2)) for n in (1, 50, 900)]
        best, found = exact.find(asks), near.find(asks)
        assert [len(one.items) for one in found] == [min(4, int(allowed.sum()))] * 3
        assert all(bool(allowed[one.items].all()) for one in found)
        hits = sum(len({*mine.items} & {*true.items}) for mine, true in zip(found, best, strict=True))
        assert hits >= 0.8 * sum(len(one.items) for one in best)


def test_a_bundle_without_a_field_of_the_rules_is_not_taken_over(
    bundles: dict[str, Path], hostile_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text("without = ['tags=crime']")
    link = tmp_path / "live"
    link.symlink_to(bundles["popularity"])
    service = Service([BundleSpec("live", link)], ServeConfig(), rules=path)
    service.start()
    link.unlink()
    link.symlink_to(hostile_bundle)
    with pytest.raises(PalateError, match=r"rules\.toml, line 1: 'tags=crime' is not a condition"):
        asyncio.run(service.reload())
    assert len(service.loaded.default.items) == 23
