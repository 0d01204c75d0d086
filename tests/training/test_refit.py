"""``palate train --refit``: a run's recipe on all interactions, for as long as validation chose; also after growth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from worlds import walk

from palate.data.dataset import Dataset
from palate.data.frames import from_frames
from palate.errors import PalateError
from palate.evaluation.evaluate import evaluate
from palate.rankers.neighbours import NeighbourScores
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.attach import attach
from palate.training.blend import blend
from palate.training.blend_refit import refit_blend
from palate.training.fit import train
from palate.training.refit import refit
from palate.training.refit_plan import everything_trains
from palate.training.validation import Validation

SETTINGS: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 8, "layers": 1, "heads": 1, "max_length": 8},
    "trainer": {"epochs": 3, "batch_size": 8, "tensorboard": False, "device": "cpu"},
}
START = 1_600_000_000_000


def shop(folder: Path, days: int = 6, items: int = 12) -> Dataset:
    """Users who walk round the shop, one thing a day; every further day brings a further thing."""
    log = walk(24, items + days - 6, lambda user: days, time=lambda user, step: START + 86_400_000 * step + user)
    colours = [("red", "blue", "green")[n % 3] if n < 12 else f"new {n // 2}" for n in range(40)]
    catalogue = pl.DataFrame({"item_id": [f"i{n}" for n in range(40)], "colour": colours})
    dataset = from_frames(log, catalogue, timestamp="timestamp", time_unit="ms", name=f"day {days}")
    dataset.save(folder)
    return Dataset.load(folder)


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shop(tmp_path_factory.mktemp("shops") / "yesterday")


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return shop(tmp_path_factory.mktemp("shops") / "today", days=8)


@pytest.fixture(scope="module")
def chosen(yesterday: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "chosen"
    return train(yesterday, model="sasrec", out=out, settings=SETTINGS, dataset_path=yesterday.folder, seed=3)


def test_it_is_the_training_on_all_interactions_for_the_chosen_epochs(
    yesterday: Dataset, chosen: Run, tmp_path: Path
) -> None:
    made = refit(chosen, yesterday, out=tmp_path / "refit")
    epochs = chosen.info["best"]["epoch"]
    assert (made.info["epochs"], made.seed, "best" in made.info) == (epochs, 3, False)
    assert made.info["refit"] == {
        "run": str(chosen.folder.resolve()),
        "validation": chosen.info["best"],
        "epochs": float(epochs),
    }
    assert made.info["options"] == chosen.info["options"]
    assert made.info["dataset"]["fingerprint"] == yesterday.fingerprint
    log = (made.folder / "metrics.jsonl").read_text()
    assert "NDCG" not in log
    # The same as a training on a dataset all of which trains, validated on nothing: item vectors move on held-out rows.
    counts = load_recommender(made).popularity
    assert counts.sum() == len(yesterday) > load_recommender(chosen).popularity.sum()


def test_epochs_that_the_schedule_and_the_average_span_stay_what_they_were(yesterday: Dataset, tmp_path: Path) -> None:
    """Two epochs of a refit are the first two of a longer training with the same schedule."""
    trainer = {**SETTINGS["trainer"], "schedule": "linear", "ema": 0.9, "patience": 0}
    settings = {**SETTINGS, "trainer": trainer}
    whole = everything_trains(yesterday)

    class Two:  # a validation for which the second epoch is the best
        values = iter([0.1, 0.3, 0.2])

        def __call__(self, *_: Any) -> dict[str, float]:
            return {"NDCG@10": next(self.values)}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("palate.training.plan.Validation", lambda *_, **__: Two())
        long = train(whole, model="sasrec", out=tmp_path / "long", settings=settings)
    assert long.info["best"]["epoch"] == 2
    short = refit(long, yesterday, out=tmp_path / "short")
    expected, found = (load_recommender(run).score([[1, 2, 3]]) for run in (long, short))
    assert torch.equal(expected, found)


def test_killed_it_resumes_to_the_same(yesterday: Dataset, chosen: Run, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        raise Stop

    settings = {"trainer": {"epochs": 2}}
    whole = refit(chosen, yesterday, out=tmp_path / "whole", settings=settings)
    with pytest.raises(Stop):
        refit(chosen, yesterday, out=tmp_path / "broken", settings=settings, on_epoch=stop)
    assert not Run.open(tmp_path / "broken").finished
    broken = refit(chosen, yesterday, out=tmp_path / "broken", settings=settings, resume=True)
    assert torch.equal(*(load_recommender(run).score([[1, 2]]) for run in (whole, broken)))


@pytest.mark.parametrize("model", ["popularity", "item-knn", "ease"])
def test_counted_models_count_everything(model: str, yesterday: Dataset, tmp_path: Path) -> None:
    held = train(yesterday, model=model, out=tmp_path / "held", dataset_path=yesterday.folder)
    made = refit(held, yesterday, out=tmp_path / "all")
    direct = train(everything_trains(yesterday), model=model, out=tmp_path / "direct")
    expected, found, before = (load_recommender(run).score([[1, 2]]) for run in (direct, made, held))
    assert torch.equal(expected, found)
    assert not torch.equal(found, before)
    with pytest.raises(PalateError, match="no epochs"):
        refit(held, yesterday, out=tmp_path / "x", settings={"trainer": {"epochs": 2}})


def test_neighbours_keep_their_weights_and_count_everything(
    yesterday: Dataset, today: Dataset, chosen: Run, tmp_path: Path
) -> None:
    near = attach(chosen, out=tmp_path / "near", neighbours=["co-occurrence"])
    weights = NeighbourScores.load(near.model_folder, yesterday.num_items)
    made = refit(near, today, out=tmp_path / "refit", settings={"trainer": {"epochs": 1}})
    found = NeighbourScores.load(made.model_folder, today.num_items)
    assert (weights is None) == (found is None) == ("neighbours" not in made.info["options"]["settings"])
    if weights is not None and found is not None:
        assert np.array_equal(weights.weights, found.weights)
        assert found.lists[0].items.shape[0] == today.num_items + 1
        assert made.info["neighbours"]["lists"].keys() == {"co-occurrence"}


def test_last_night_s_weights_move_to_the_same_items_and_new_items_begin_anew(
    yesterday: Dataset, today: Dataset, tmp_path: Path
) -> None:
    """A catalogue with further items and a further value of a field, and fewer steps than would move a row away."""
    settings = {"ranker": SETTINGS["ranker"], "trainer": {**SETTINGS["trainer"], "learning_rate": 1e-9}}
    first = train(yesterday, model="sasrec", out=tmp_path / "first", settings=settings, modalities=["id", "fields"])
    night = refit(
        first,
        today,
        out=tmp_path / "night",
        warm_start=first.folder,
        settings={"trainer": {"epochs": 1}},
    )
    old, new = load_recommender(first), load_recommender(night)
    assert new.num_items == old.num_items + 2
    for item, row in first.catalogue.index.items():
        assert torch.allclose(
            old.items.ids.weight[row], new.items.ids.weight[night.catalogue.index[item]], atol=1e-6
        ), item
    added = [row for item, row in night.catalogue.index.items() if item not in first.catalogue.index]
    assert len(added) == 2
    assert (new.items.ids.weight[added].abs().sum(1) > 0).all()
    before, after = (run.folder / "model/config.json" for run in (first, night))
    assert "new 6" not in before.read_text()
    assert "new 6" in after.read_text()
    # The next night needs no number of epochs: this one was a warm start already.
    again = refit(night, today, out=tmp_path / "again", warm_start=night.folder)
    assert again.info["epochs"] == 1
    assert [log["name"] for log in again.info["trained_on"]] == ["day 8", "day 6"]


def test_what_contradicts_is_refused(yesterday: Dataset, chosen: Run, tmp_path: Path) -> None:
    out = tmp_path / "x"
    with pytest.raises(PalateError, match=r"\[ranker\] contradicts --refit"):
        refit(chosen, yesterday, out=out, settings={"ranker": {"dim": 16}})
    with pytest.raises(PalateError, match=r"trainer.ema contradicts --refit"):
        refit(chosen, yesterday, out=out, settings={"trainer": {"ema": 0.9}})
    with pytest.raises(PalateError, match="says nothing about a warm start"):
        refit(chosen, yesterday, out=out, warm_start=chosen.folder)
    aligned = Run(chosen.folder, {**chosen.info, "options": {**chosen.info["options"], "alignment": {}}})
    with pytest.raises(PalateError, match="is aligned"):
        refit(aligned, yesterday, out=out)
    with pytest.raises(PalateError, match="is not finished"):
        refit(Run(chosen.folder, {**chosen.info, "finished": False}), yesterday, out=out)
    assert not out.exists()


def test_a_blend_keeps_its_weights(yesterday: Dataset, today: Dataset, chosen: Run, tmp_path: Path) -> None:
    knn = train(yesterday, model="item-knn", out=tmp_path / "knn", dataset_path=yesterday.folder)
    both = blend([chosen, knn], out=tmp_path / "both", users=0, fit="likelihood")
    made = refit_blend(both, today, out=tmp_path / "all")
    used = [facts["weight"] for facts in both.info["blend"]["parts"] if facts["weight"] > 0]
    model = load_recommender(made)
    assert [part.weight for part in model.config.parts] == used
    assert model.num_items == today.num_items
    assert [log["whole"] for log in made.info["trained_on"]] == [True]
    again = refit_blend(
        both, today, out=tmp_path / "again", warm_start=made.folder, settings={"trainer": {"epochs": 1}}
    )
    assert again.finished
    with pytest.raises(PalateError, match="no refit of the same blend"):
        refit_blend(both, today, out=tmp_path / "x", warm_start=knn.folder, settings={"trainer": {"epochs": 1}})


def test_validation_leaves_out_what_the_weights_have_seen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the users come back after the refit; only their validation targets are new to it."""
    log = walk(24, 12, lambda user: 8, time=lambda user, step: START + 86_400_000 * step + user)
    number, early = pl.col("user").str.slice(1).cast(pl.Int64), pl.col("timestamp") < START + 6 * 86_400_000
    days = [log.filter(early), log.filter(early | (number % 2 == 0))]
    for name, part in zip(("before", "after"), days, strict=True):
        from_frames(part, timestamp="timestamp", time_unit="ms", name=name).save(tmp_path / name)
    before, after = (Dataset.load(tmp_path / name) for name in ("before", "after"))
    popular = train(before, model="popularity", out=tmp_path / "popular", dataset_path=before.folder)
    whole = refit(popular, before, out=tmp_path / "whole")
    validation = Validation(after, "NDCG@10", True)
    validation.leave_out(after, whole)
    assert {after.user_ids[int(user)] for user in validation.cases.users} == {f"u{n}" for n in range(0, 24, 2)}
    assert "12 of 24 validation users are left out" in capsys.readouterr().err
    untouched = Validation(after, "NDCG@10", True)
    untouched.leave_out(after, popular)  # it held its own validation targets out
    assert len(untouched.cases) == 24
    with pytest.raises(PalateError, match="has seen the valid targets"):
        Validation(before, "NDCG@10", True).leave_out(before, whole)


def test_targets_that_the_first_weights_have_seen_are_not_measured(tmp_path: Path) -> None:
    """Of users who did not come back since the refit, it has learnt the test targets of the grown dataset."""
    log = walk(24, 12, lambda user: 8, time=lambda user, step: START + 86_400_000 * step + user)
    number, early = pl.col("user").str.slice(1).cast(pl.Int64), pl.col("timestamp") < START + 6 * 86_400_000
    for name, part in (("before", log.filter(early)), ("after", log.filter(early | (number % 2 == 0)))):
        from_frames(part, timestamp="timestamp", time_unit="ms", name=name).save(tmp_path / name)
    before, after = (Dataset.load(tmp_path / name) for name in ("before", "after"))
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "epochs": 1}}
    held = train(before, model="sasrec", out=tmp_path / "held", settings=settings, dataset_path=before.folder)
    whole = refit(held, before, out=tmp_path / "whole")
    for start, refused in ((held, False), (whole, True)):
        warm = train(
            after,
            model="sasrec",
            out=tmp_path / f"warm-{start.name}",
            settings=settings,
            warm_start=start.folder,
            dataset_path=after.folder,
        )
        if refused:
            with pytest.raises(PalateError, match="has learnt 12 of the 24 test targets of after"):
                evaluate(load_recommender(warm), after, run=warm)
        else:
            assert len(evaluate(load_recommender(warm), after, run=warm).users()) == 24
    near = attach(warm, out=tmp_path / "near", neighbours=["co-occurrence"])
    assert near.info["neighbours"]["users"] == 12


def test_targets_that_another_split_of_the_log_had_in_training_are_not_measured(tmp_path: Path) -> None:
    """Users who left early have their last things in the training part of a log that is split by time."""
    log = walk(24, 12, lambda user: 8 if user % 2 else 5, time=lambda user, step: START + 86_400_000 * step + user)
    for name, split in (("by-time", "global-time"), ("by-user", "leave-last-out")):
        from_frames(log, timestamp="timestamp", time_unit="ms", name=name, split=split).save(tmp_path / name)
    by_time, by_user = (Dataset.load(tmp_path / name) for name in ("by-time", "by-user"))
    settings = {**SETTINGS, "trainer": {**SETTINGS["trainer"], "epochs": 1}}
    first = train(by_time, model="sasrec", out=tmp_path / "first", settings=settings, dataset_path=by_time.folder)
    validation = Validation(by_user, "NDCG@10", True)
    validation.leave_out(by_user, first)
    assert len(validation.cases) == 12
    warm = train(
        by_user,
        model="sasrec",
        out=tmp_path / "warm",
        settings=settings,
        warm_start=first.folder,
        dataset_path=by_user.folder,
    )
    with pytest.raises(PalateError, match="has learnt 12 of the 24 test targets of by-user"):
        evaluate(load_recommender(warm), by_user, run=warm)
