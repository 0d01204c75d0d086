"""``palate gate``: clean cases only, items by id, the verdict and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.evaluation.gate import Gate, gate
from palate.evaluation.gate_figures import SliceOfCases, judge, overlap_of
from palate.evaluation.ranks import Ranks
from palate.evaluation.statistics import bootstrap
from palate.evaluation.unseen import seen_by, seen_in, unseen_cases
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.runs.trained_on import TrainedLog, trained_logs
from palate.training.fit import train
from palate.training.refit import refit

DAY, START = 86_400_000, 1_600_000_000_000


def day(folder: Path, days: int, **options: str) -> Dataset:
    """Forty users walk round a shop. Every fourth takes a new thing from the sixth day on; the odd ones begin late."""
    log = walk(40, 12, lambda user: days, time=lambda user, step: START + DAY * step + user)
    number, step = pl.col("user").str.slice(1).cast(pl.Int64), (pl.col("timestamp") - START) // DAY
    new = (number % 4 == 0) & (step >= 5)
    log = log.with_columns(item=pl.when(new).then(pl.format("new{}", step)).otherwise("item"))
    log = log.filter((number % 2 == 0) | (step >= 3))
    dataset = from_frames(log, timestamp="timestamp", time_unit="ms", name=f"day {days}", **options)
    dataset.save(folder)
    return Dataset.load(folder)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    folder = tmp_path_factory.mktemp("days")
    return [day(folder / str(number), number) for number in (6, 7, 8)]


@pytest.fixture(scope="module")
def runs(days: list[Dataset], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    held = train(days[0], model="item-knn", out=folder / "held", dataset_path=days[0].folder)
    later = train(days[1], model="item-knn", out=folder / "later", dataset_path=days[1].folder)
    return {
        "held": held,
        "later": later,
        "old": refit(held, days[0], out=folder / "old"),
        "new": refit(held, days[1], out=folder / "new"),
    }


def ids_of(dataset: Dataset, items: np.ndarray) -> list[str]:
    return [dataset.catalogue.ids[item] for item in items]


def test_cases_are_what_came_after_everything_that_was_trained_on(days: list[Dataset], runs: dict[str, Run]) -> None:
    seen = seen_in(days[2], trained_logs(runs["new"])[0])
    assert seen.sum() == len(days[1])
    cases = unseen_cases(days[2], seen)
    assert len(cases) == 40
    assert cases.targets.lengths.tolist() == [1] * 40
    first = {user: row for row, user in enumerate(cases.users)}[days[2].user_index["u0"]]
    assert ids_of(days[2], cases.targets[first : first + 1].values) == ["new7"]
    assert ids_of(days[2], cases.histories[first : first + 1].values) == ["i0", "i1", "i2", "i3", "i4", "new5", "new6"]


def test_a_run_that_held_something_out_has_seen_all_but_its_test_targets(
    days: list[Dataset], runs: dict[str, Run]
) -> None:
    seen = seen_in(days[0], trained_logs(runs["held"])[0])
    cases = unseen_cases(days[0], seen)
    expected = days[0].cases("test")
    assert cases.targets.to_lists() == expected.targets.to_lists()
    assert cases.histories.to_lists() == expected.histories.to_lists()


def test_a_log_that_is_gone_had_everything_until_its_last_moment(days: list[Dataset], runs: dict[str, Run]) -> None:
    log = trained_logs(runs["old"])[0]
    gone = TrainedLog(log.name, "/nowhere", log.fingerprint, log.whole, log.until)
    assert np.array_equal(seen_in(days[2], gone), seen_in(days[2], log))
    with pytest.raises(PalateError, match="is not there any more"):
        seen_in(days[2], TrainedLog(log.name, None, log.fingerprint, True))


def test_a_log_that_can_add_nothing_is_not_opened(
    days: list[Dataset], runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = [trained_logs(runs[name])[0] for name in ("old", "held", "new")]
    each = [seen_in(days[2], log) for log in logs]
    opened: list[TrainedLog] = []
    monkeypatch.setattr(
        "palate.evaluation.unseen.seen_in", lambda dataset, log: opened.append(log) or each[logs.index(log)]
    )
    assert np.array_equal(seen_by(days[2], logs), np.logical_or.reduce(each))
    assert opened == [logs[2]]
    assert np.array_equal(seen_by(days[2], logs[:2]), each[0])
    assert opened[1:] == [logs[0]]


def test_users_without_anything_new_are_no_cases_and_new_users_have_no_history(days: list[Dataset]) -> None:
    seen = np.ones(len(days[0]), np.bool_)
    assert len(unseen_cases(days[0], seen)) == 0
    user = days[0].user_index["u3"]
    seen[days[0].offsets[user] : days[0].offsets[user + 1]] = False
    cases = unseen_cases(days[0], seen)
    assert cases.users.tolist() == [user]
    assert cases.histories.lengths.tolist() == [0]
    assert cases.targets.lengths.tolist() == [days[0].offsets[user + 1] - days[0].offsets[user]]


def test_two_nights_on_the_day_after(days: list[Dataset], runs: dict[str, Run]) -> None:
    found = gate(runs["old"], runs["new"], dataset=days[2], metric="ndcg@3")
    assert found.facts["cases"] == 40
    assert found.facts["candidates"] == days[2].num_items
    unknown = days[2].num_items - days[0].num_items
    assert found.facts["unknown_items"]["old"] == unknown
    names = [one.name for one in found.slices]
    assert names[0] == "all"
    assert "items that are new" in names
    new_items = next(one for one in found.slices if one.name == "items that are new")
    assert new_items.old.mean == 0  # what OLD does not know, it does not find
    assert 0 <= found.overlap <= 1
    same = gate(runs["old"], runs["old"], dataset=days[2])
    assert (same.verdict, same.exit_code, same.overlap) == ("pass", 0, 1.0)
    both = gate(runs["old"], runs["new"], dataset=days[2], known_to_both=True)
    assert both.facts["candidates"] == days[0].num_items
    assert [one.name for one in both.slices if "items" in one.name] == []


def test_a_worse_run_and_other_guards(days: list[Dataset], runs: dict[str, Run], tmp_path: Path) -> None:
    popular = train(days[1], model="popularity", out=tmp_path / "popular", dataset_path=days[1].folder)
    found = gate(runs["later"], popular)
    assert found.facts["dataset"]["name"] == "day 7"
    assert (found.verdict, found.exit_code) == ("worse", 1)
    assert gate(popular, runs["later"]).exit_code == 0
    assert gate(popular, runs["later"], least_coverage=1.0, metric="ndcg@1").exit_code == 1
    assert gate(popular, runs["later"], least_overlap=1.0, metric="ndcg@1").exit_code == 1


def test_scores_that_are_no_numbers_are_refused(
    days: list[Dataset], runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(run: Run, device: str = "cpu") -> object:
        model = load_recommender(run)
        if run.folder.name == "new":
            model.score = lambda histories, candidates=None: torch.full((len(histories), 14), torch.nan)
        return model

    monkeypatch.setattr("palate.evaluation.gate.load_recommender", broken)
    found = gate(runs["old"], runs["new"], dataset=days[2])
    assert (found.verdict, found.exit_code, found.slices) == ("worse", 1, [])
    assert "NaN" in found.reasons[0]


def test_without_a_clean_case_it_says_what_to_do(days: list[Dataset], runs: dict[str, Run]) -> None:
    with pytest.raises(PalateError, match=r"neither run has learnt from \(.*trained on all.*--dataset LATER"):
        gate(runs["old"], runs["new"])
    # OLD has seen today's test targets: as part of yesterday's log they train.
    assert gate(runs["old"], runs["later"]).facts["cases"] == 40
    with pytest.raises(PalateError, match="no metric of targets"):
        gate(runs["old"], runs["new"], dataset=days[2], metric="coverage@10")


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [(0.0, 0.001, "pass"), (0.1, 1.0, "pass"), (-0.1, 0.1, "worse"), (-0.01, 1.0, "undecided"), (-0.004, 0.01, "pass")],
)
def test_verdicts(mean: float, spread: float, verdict: str) -> None:
    """The interval of the difference excludes a loss of the margin, excludes that there is none, or neither."""
    noise = np.tile([1.0, -1.0], 500) * spread
    difference = (mean + noise)[None]
    found = bootstrap({"old": np.full((1, 1000), 0.2), "new": 0.2 + difference, "difference": difference})
    assert judge(SliceOfCases("all", 1000, **found), 0.01, "ndcg@10")[0] == verdict


@pytest.mark.parametrize(("hits", "verdict"), [(0, "undecided"), (3, "pass")])
def test_two_runs_that_find_nothing_are_not_found_equal(hits: int, verdict: str) -> None:
    old = (np.arange(10) < hits).astype(np.float64)[None]
    found = bootstrap({"old": old, "new": old, "difference": np.zeros((1, 10))})
    assert judge(SliceOfCases("all", 10, **found), 0.01 * float(old.mean()), "ndcg@10")[0] == verdict


def test_lists_in_common() -> None:
    def lists(rows: list[list[int]]) -> Ranks:
        ranks = Ranks.of([[1]] * len(rows), 9)
        return Ranks(ranks.values, ranks.items, ranks.offsets, ranks.num_candidates, np.array(rows, np.int32))

    assert overlap_of(lists([[1, 2], [3, 4]]), lists([[2, 1], [3, 5]])) == 0.75
    assert overlap_of(lists([[1, 0]]), lists([[1, 0]])) == 1.0


def test_a_gate_without_figures_is_json(days: list[Dataset]) -> None:
    from palate.cli.gate import to_json

    facts = to_json(Gate("worse", ["x"], "ndcg@10", 10, float("nan")))
    assert (facts["margin"], facts["overlap"], facts["exit_code"]) == (None, None, 1)


@pytest.mark.parametrize("margin", ["1", "-0.1", "nan"])
def test_the_command_and_the_call_have_one_bound(
    runs: dict[str, Run], margin: str, palate: Callable[..., tuple[int, str, str]]
) -> None:
    with pytest.raises(PalateError) as refused:
        gate(runs["old"], runs["new"], margin=float(margin))
    assert "from 0 to below 1" in str(refused.value)
    code, _, err = palate("gate", runs["old"].folder, runs["new"].folder, f"--margin={margin}")
    assert (code, str(refused.value) in err) == (2, True)
