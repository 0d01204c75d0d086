"""The doctor on datasets damaged on purpose: each illness is found, named with its figures, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from palate.data.catalogue import Catalogue
from palate.data.dataset import Dataset, Part
from palate.data.doctor import DoctorReport, Level, examine
from palate.data.doctor.population import gini
from palate.data.frames import from_frames
from palate.data.sequences import offsets_of

DAY = 86_400_000
START = 1_600_000_000_000
USERS, ITEMS, LENGTH = 40, 20, 8


def paint(folder: Path, seed: int) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{seed}.png")
    return f"{seed}.png"


@pytest.fixture
def healthy(tmp_path: Path) -> Dataset:
    """Users who take 8 different items on 8 different days, all items pictured and described."""
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.permutation(ITEMS)[:LENGTH] + 1 for _ in range(USERS)]).astype(np.int32)
    times = np.concatenate([START + DAY * (np.arange(LENGTH) + rng.integers(100)) for _ in range(USERS)])
    names = [paint(tmp_path, item) for item in range(1, ITEMS + 1)]
    frame = pl.DataFrame(
        {
            "item_id": [f"i{n}" for n in range(1, ITEMS + 1)],
            "title": [f"Title {n}" for n in range(1, ITEMS + 1)],
            "image": names,
        }
    )
    return Dataset(
        catalogue=Catalogue(frame, tmp_path),
        user_ids=pl.Series("user_id", [f"u{n}" for n in range(USERS)]),
        offsets=offsets_of(np.full(USERS, LENGTH)),
        items=items,
        parts=np.tile([0] * (LENGTH - 2) + [1, 2], USERS).astype(np.uint8),
        timestamps=times,
        weights=None,
        manifest={"name": "made", "split": {"name": "leave-last-out"}, "filters": [], "ties": "file"},
    )


def items_with(data: Dataset, **columns: Any) -> Dataset:
    frame = data.catalogue.frame.with_columns(**columns)
    return replace(data, catalogue=Catalogue(frame, data.catalogue.root))


def grave(report: DoctorReport) -> set[str]:
    return {finding.check for finding in report.findings if finding.level in (Level.WARNING, Level.ERROR)}


def test_a_healthy_dataset_has_no_warning(healthy: Dataset) -> None:
    report = examine(healthy)
    assert grave(report) == set()
    assert report.passed(strict=True)
    assert report["time-ties"].level is Level.OK
    # 40 users cannot show much, and leave-last-out leaks over time: the doctor says so, but it is no fault.
    assert report["test-size"].level is Level.NOTE
    leak = report["time-leakage"]
    assert leak.level is Level.NOTE
    test, train = healthy.parts == Part.TEST, healthy.parts == Part.TRAIN
    assert healthy.timestamps is not None
    touched = (healthy.timestamps[test] < healthy.timestamps[train].max()).mean()
    assert leak.share == pytest.approx(touched)


def test_interactions_outside_the_catalogue_stop_everything(healthy: Dataset) -> None:
    items = healthy.items.copy()
    items[[0, 9]] = [0, ITEMS + 7]
    report = examine(replace(healthy, items=items))
    assert [finding.check for finding in report.findings] == ["unknown-items"]
    found = report["unknown-items"]
    assert (found.level, found.count) == (Level.ERROR, 2)
    assert found.examples == ["user u0: item index 0", f"user u1: item index {ITEMS + 7}"]
    assert not report.passed()


def test_ids_that_match_no_catalogue_row(healthy: Dataset) -> None:
    lost = pl.col("item_id").is_in(["i3", "i4"])
    data = items_with(healthy, title=pl.when(~lost).then("title"), image=pl.when(~lost).then("image"))
    report = examine(data, look_at_pictures=False)
    found = report["undescribed-items"]
    assert report["unknown-items"].message == "Every interaction points to an item of the dataset."
    assert (found.level, found.count, found.examples) == (Level.WARNING, 2, ["i3", "i4"])
    bare = items_with(healthy, title=pl.lit(None, pl.String), image=pl.lit(None, pl.String))
    assert examine(bare)["undescribed-items"].level is Level.NOTE


def test_what_reading_left_out(healthy: Dataset) -> None:
    sizes = {"users": 1, "items": 1, "interactions": 200}
    step = {"step": "missing-items", "before": sizes, "after": {**sizes, "interactions": 150}}
    manifest = {**healthy.manifest, "filters": [step], "reader_report": {"malformed_lines": 3, "none": 0, "name": "x"}}
    found = [f for f in examine(replace(healthy, manifest=manifest)).findings if f.check == "left-out"]
    assert [(f.level, f.count) for f in found] == [(Level.WARNING, 50), (Level.NOTE, 3)]
    assert "malformed lines: 3" in found[1].message


def test_order_of_time(healthy: Dataset) -> None:
    assert healthy.timestamps is not None
    times = healthy.timestamps.copy()
    times[3], times[4] = times[4], times[3]
    found = examine(replace(healthy, timestamps=times))["time-order"]
    assert (found.level, found.count, found.examples) == (Level.ERROR, 1, ["user u0"])


def test_ties_in_time(healthy: Dataset) -> None:
    assert healthy.timestamps is not None
    times = healthy.timestamps.copy()
    last = healthy.offsets[1:] - 1
    times[last[:10]] = times[last[:10] - 1]
    found = examine(replace(healthy, timestamps=times))["time-ties"]
    assert (found.count, found.share) == (10, 10 / (USERS * (LENGTH - 1)))
    assert found.level is Level.NOTE
    assert "25% of test targets" in found.message
    everything = examine(replace(healthy, timestamps=np.full(len(healthy), START)))["time-ties"]
    assert (everything.level, everything.share) == (Level.WARNING, 1.0)


def test_times_of_the_wrong_unit_and_no_times(healthy: Dataset) -> None:
    assert healthy.timestamps is not None
    seconds = examine(replace(healthy, timestamps=healthy.timestamps // 1000))
    assert seconds["times"].level is Level.WARNING
    none = examine(replace(healthy, timestamps=None))
    assert none["times"].level is Level.NOTE
    assert not {"time-order", "time-ties", "time-leakage"} & {finding.check for finding in none.findings}


def test_histories_entered_in_one_sitting(healthy: Dataset) -> None:
    minutes = START + np.tile(np.arange(LENGTH), USERS) * 60_000
    found = examine(replace(healthy, timestamps=minutes))["times"]
    assert (found.level, found.share) == (Level.NOTE, 1.0)


def test_a_shop_where_most_bought_once_has_an_order() -> None:
    log = [(f"once{n}", "a", START + n * DAY) for n in range(60)]
    log += [(f"often{n}", f"i{step}", START + 10 * step * DAY) for n in range(40) for step in range(6)]
    frame = pl.DataFrame(log, schema=["user", "item", "timestamp"], orient="row")
    data = from_frames(frame, timestamp="timestamp", time_unit="ms")
    assert examine(data)["times"].level is Level.OK
    once = frame.filter(pl.col("user").str.starts_with("once"))
    alone = from_frames(once, timestamp="timestamp", time_unit="ms", split="none")
    assert "nobody has two interactions" in examine(alone)["times"].message


def test_global_time_must_not_leak(healthy: Dataset) -> None:
    assert healthy.timestamps is not None
    manifest = {**healthy.manifest, "split": {"name": "global-time"}}
    cut = np.quantile(healthy.timestamps, [0.8, 0.9])
    parts = np.searchsorted(cut, healthy.timestamps, side="right").astype(np.uint8)
    clean = examine(replace(healthy, parts=parts, manifest=manifest))
    assert (clean["time-leakage"].level, clean["split"].level) == (Level.OK, Level.OK)
    leaky = examine(replace(healthy, manifest=manifest))["time-leakage"]
    assert leaky.level is Level.ERROR


def test_a_broken_split(healthy: Dataset) -> None:
    parts = healthy.parts.copy()
    parts[[0, LENGTH - 1]] = [Part.TEST, Part.TRAIN]
    found = examine(replace(healthy, parts=parts))["split"]
    assert (found.level, found.count, found.examples) == (Level.ERROR, 1, ["user u0"])
    held = healthy.parts.copy()
    held[1] = Part.CONTEXT
    assert examine(replace(healthy, parts=held))["split"].level is Level.ERROR
    untested = np.where(healthy.parts == Part.TEST, Part.TRAIN, Part.TRAIN).astype(np.uint8)
    assert "no validation and no test" in examine(replace(healthy, parts=untested))["split"].message


def test_duplicates_and_repeated_targets(healthy: Dataset) -> None:
    assert healthy.timestamps is not None
    items = healthy.items.copy()
    items[LENGTH - 1] = items[0]
    report = examine(replace(healthy, items=items))
    assert (report["duplicate-interactions"].level, report["duplicate-interactions"].count) == (Level.NOTE, 1)
    assert report["duplicate-interactions"].examples == [f"user u0, item i{items[0]}"]
    assert (report["repeated-targets"].level, report["repeated-targets"].count) == (Level.WARNING, 1)
    assert report["repeated-targets"].share == 1 / USERS
    times = healthy.timestamps.copy()
    items, times[1] = healthy.items.copy(), times[0]
    items[1] = items[0]
    again = examine(replace(healthy, items=items, timestamps=times))["duplicate-interactions"]
    assert again.level is Level.WARNING
    assert "1 of them at the same moment" in again.message


def test_duplicate_titles(healthy: Dataset) -> None:
    data = items_with(
        healthy, title=pl.when(pl.col("item_id").is_in(["i1", "i2"])).then(pl.lit(" SAME ")).otherwise("title")
    )
    found = examine(data)["duplicate-titles"]
    assert (found.level, found.count, found.examples) == (Level.WARNING, 2, ["same (2 items)"])


def test_missing_text_and_pictures_in_items_and_interactions(healthy: Dataset) -> None:
    popular = int(np.bincount(healthy.items).argmax())
    gone = pl.col("item_id") == f"i{popular}"
    data = items_with(healthy, image=pl.when(~gone).then("image"))
    found = examine(data)["missing-picture"]
    assert (found.count, found.share, found.examples) == (1, 1 / ITEMS, [f"i{popular}"])
    assert f"{100 * (healthy.items == popular).mean():.1f}% of interactions" in found.message
    many = pl.col("item_id").is_in([f"i{n}" for n in range(1, 11)])
    wordless = items_with(healthy, title=pl.when(~many).then("title"))
    assert examine(wordless)["missing-text"].level is Level.WARNING
    assert (
        examine(items_with(healthy, image=pl.lit(None, pl.String)))["missing-picture"].message
        == "No item has a picture."
    )


def test_pictures_of_every_bad_kind(healthy: Dataset) -> None:
    root = healthy.catalogue.root
    (root / "1.png").write_bytes(b"")
    (root / "2.png").write_bytes((root / "2.png").read_bytes()[:300])
    (root / "3.png").unlink()
    (root / "4.png").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    Image.new("RGB", (40, 40), (200, 10, 10)).save(root / "5.png")
    Image.open(root / "7.png").save(root / "6.bmp")
    Image.open(root / "8.png").resize((12, 12)).save(root / "8.png")
    data = items_with(healthy, image=pl.col("image").replace("6.png", "6.bmp"))
    report = examine(data)
    bad = report["unreadable-pictures"]
    assert (bad.level, bad.count, bad.share) == (Level.WARNING, 4, 4 / ITEMS)
    assert "1 do not exist, 3 cannot be decoded" in bad.message
    assert [example.split(":")[0] for example in bad.examples] == ["1.png", "2.png", "3.png", "4.png"]
    assert (report["blank-pictures"].level, report["blank-pictures"].examples) == (Level.WARNING, ["5.png"])
    assert report["shared-pictures"].examples == ["6.bmp = 7.png"]
    assert report["picture-sizes"].examples == ["8.png: 12 x 12"]


def test_a_placeholder_on_many_items_is_a_warning(healthy: Dataset) -> None:
    data = items_with(healthy, image=pl.lit("1.png"))
    found = examine(data)["shared-pictures"]
    assert (found.level, found.count) == (Level.WARNING, ITEMS)


def test_wrong_folder_and_paths_that_lead_out_are_errors(healthy: Dataset, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    data = replace(healthy, catalogue=Catalogue(healthy.catalogue.frame, empty))
    assert examine(data)["unreadable-pictures"].level is Level.ERROR
    escape = items_with(healthy, image=pl.col("image").replace("1.png", "../1.png"))
    found = examine(escape)["unreadable-pictures"]
    assert (found.level, found.count) == (Level.ERROR, 1)


def test_thin_users_and_cold_items(healthy: Dataset) -> None:
    keep = np.ones(len(healthy), bool)
    keep[: LENGTH - 1] = False  # user 0 keeps only the target
    lengths = np.array([1] + [LENGTH] * (USERS - 1))
    assert healthy.timestamps is not None
    items = np.where(healthy.items == 5, 6, healthy.items)
    data = replace(
        healthy,
        items=items[keep],
        parts=healthy.parts[keep],
        timestamps=healthy.timestamps[keep],
        offsets=offsets_of(lengths),
    )
    report = examine(data)
    assert (report["thin-users"].level, report["thin-users"].examples) == (Level.WARNING, ["u0"])
    assert "1 test case has no history" in report["thin-users"].message
    assert report["thin-items"].examples[0] == "i5"
    assert "1 has none" in report["thin-items"].message


def test_popularity_skew(healthy: Dataset) -> None:
    assert examine(healthy)["popularity-skew"].level is Level.OK
    items = np.where(np.arange(len(healthy)) % 10 > 0, 1, healthy.items).astype(np.int32)
    found = examine(replace(healthy, items=items))["popularity-skew"]
    assert found.level is Level.NOTE
    assert found.examples[0] == "Title 1"
    counts = np.random.default_rng(1).integers(1, 50, 30)
    by_pairs = np.abs(counts[:, None] - counts).sum() / (2 * len(counts) ** 2 * counts.mean())
    assert gini(counts) == pytest.approx(by_pairs)
