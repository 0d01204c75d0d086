"""Alignment end to end: it starts at the reference, moves what it should, is seeded, resumes, and refuses nonsense."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from palate.alignment.align import align
from palate.alignment.config import AlignConfig
from palate.alignment.pairs import PairDrawer, sample_pairs
from palate.alignment.plan import plan_alignment
from palate.alignment.prefixes import Prefixes
from palate.alignment.reference import CachedReference, ReplayedReference
from palate.alignment.report import warnings
from palate.alignment.step import AlignStep
from palate.data.dataset import Dataset, Part
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.features.hardness import Hardness
from palate.features.matrix import import_matrix
from palate.features.store import FeatureStore
from palate.negatives.config import NegativesConfig
from palate.objectives import PREFERENCES, Batch
from palate.objectives.cross_entropy import CrossEntropy
from palate.rankers.packing import PackedBatch
from palate.rankers.registry import load_recommender
from palate.rankers.sequential import SequentialRanker
from palate.runs.run import Run
from palate.training.batches import TrainingSequences
from palate.training.config import TrainerConfig
from palate.training.fit import kept_row, train
from palate.training.validation import Validation

Ring = Callable[..., Dataset]
SMALL: dict[str, dict[str, Any]] = {
    "ranker": {"dim": 16, "max_length": 6, "dropout": 0.3, "repeat_bias": True, "positions": "first"},
    "trainer": {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "device": "cpu"},
}
TIMES = ("train_seconds", "eval_seconds", "targets_per_second", "peak_memory_mb")


@pytest.fixture(scope="module")
def data(ring: Ring) -> Dataset:
    return ring(longest=18)


@pytest.fixture(scope="module")
def base(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(data, model="sasrec", out=tmp_path_factory.mktemp("base") / "run", settings=SMALL)


def rows_of(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def ranker_of(run: Run) -> SequentialRanker:
    ranker = load_recommender(run)
    assert isinstance(ranker, SequentialRanker)
    return ranker


def sequences_of(data: Dataset) -> TrainingSequences:
    return TrainingSequences(data.train_sequences(), 6, 16, 0, fixed=True)


def a_step(data: Dataset, base: Run, objective: str = "dpo", preference: Any = None, **more: Any) -> AlignStep:
    """A step of preferences alone; ``negatives``, ``reference``, ``hardness``, ``joins`` and align's settings."""
    windows = sequences_of(data)
    parts = {name: more.pop(name) for name in ("reference", "hardness") if name in more}
    negatives, joins = more.pop("negatives", NegativesConfig(pool_k=5)), more.pop("joins", False)
    config = AlignConfig(**{"cross_entropy": 0, **more})
    counts = torch.from_numpy(data.train_counts).float()
    return AlignStep(
        config,
        CrossEntropy(),
        PREFERENCES[objective](preference),
        PairDrawer(config, negatives, Prefixes(windows.sequences), counts, joins=joins),
        **{"reference": CachedReference(ranker_of(base), windows), **parts},
        gather=(lambda values: values) if joins else None,
    )


def batches_of(data: Dataset) -> list[tuple[PackedBatch, Batch, Any]]:
    counts = torch.from_numpy(data.train_counts).float()
    classes = torch.nonzero(counts).squeeze(1)
    generator = torch.Generator().manual_seed(0)
    return [
        (
            PackedBatch.of(windows.inputs, 6),
            Batch(torch.from_numpy(windows.targets), classes, counts, None, generator),
            windows.places,
        )
        for windows in sequences_of(data).batches(1)
    ]


def test_the_policy_starts_where_the_reference_stands(data: Dataset, base: Run) -> None:
    step = a_step(data, base)
    for packed, batch, places in batches_of(data):
        loss = step(ranker_of(base).train(), packed, batch, places, 0)
        assert loss is not None
        assert float(loss.value.detach()) == pytest.approx(np.log(2), abs=1e-6)  # every delta is 0
        assert loss.diagnostics["reward_margin"] == pytest.approx(0, abs=1e-5)
        assert loss.diagnostics["chosen_drift"] == pytest.approx(0, abs=1e-5)


def test_shared_dropout_starts_at_zero_too_and_draws_as_if_nothing_had_been(data: Dataset, base: Run) -> None:
    policy = ranker_of(base).train()
    reference = ReplayedReference(ranker_of(base), policy)
    step = a_step(data, base, reference=reference, cross_entropy=1, dropout="shared")
    for packed, batch, places in batches_of(data):
        torch.manual_seed(1)
        policy(packed)
        expected = torch.rand(1)
        torch.manual_seed(1)
        loss = step(policy, packed, batch, places, 0)
        assert torch.rand(1) == expected
        assert loss is not None
        assert loss.diagnostics["preference"] == pytest.approx(np.log(2), abs=1e-6)
        assert loss.diagnostics["chosen_drift"] == pytest.approx(0, abs=1e-5)


def test_the_reference_is_what_the_run_answers(data: Dataset, base: Run) -> None:
    """The kept states give the scores that the model gives for the same history cut to the window."""
    windows = sequences_of(data)
    ranker = ranker_of(base)
    reference = CachedReference(ranker, windows)
    step = next(windows.batches(1))
    packed = PackedBatch.of(step.inputs, 6)
    kept = reference.scores(packed, step.places, None).full()
    rows = [row[: n + 1].tolist() for row in step.inputs for n in range(len(row))]
    direct = ranker.queries(Sequences.from_lists(rows)).full()
    assert torch.allclose(kept[:, 1:], direct[:, 1:], atol=1e-4)


@pytest.mark.parametrize("objective", sorted(name for name in PREFERENCES if not PREFERENCES[name].needs_zero))
def test_every_objective_lowers_its_loss_and_raises_its_reward(objective: str, data: Dataset, base: Run) -> None:
    config = None
    if objective == "hanorec":
        config = PREFERENCES[objective].Config(hardness="one", sigma=0.01)
    step = a_step(data, base, objective, config, hardness=Hardness("one", None, None))
    ranker = ranker_of(base).train()
    batches = batches_of(data)
    # Pairs of the start: the pool itself follows the policy.
    drawn = step.pairs.draw(ranker, *batches[0])
    assert drawn is not None

    def margin() -> float:
        scores = ranker.eval()(drawn.packed).take(drawn.rows).at(drawn.items).detach()
        ranker.train()
        return float((scores[:, :1] - scores[:, 1:]).mean())

    before = margin()
    optimizer = torch.optim.Adam(ranker.parameters(), lr=3e-3)
    for number, (packed, batch, places) in enumerate(batches * 6):
        loss = step(ranker, packed, batch, places, number)
        assert loss is not None
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
    assert ranker.training
    assert margin() > before + 0.5


def test_pairs_never_reject_the_history_the_target_or_a_cold_item(data: Dataset, base: Run) -> None:
    step = a_step(data, base, negatives=NegativesConfig(strategy="uniform", num_negatives=8))
    log = sequences_of(data).sequences
    for packed, batch, places in batches_of(data):
        drawn = step.pairs.draw(ranker_of(base), packed, batch, places)
        assert drawn is not None
        for place, row in zip(drawn.row_places, drawn.items, strict=True):
            user = int(np.searchsorted(log.offsets, place, side="right") - 1)
            past = set(log.values[log.offsets[user] : place + 2].tolist())
            assert int(row[0]) == int(log.values[place + 1])
            assert not past & set(row[1:].tolist())
            assert (data.train_counts[row.numpy()] > 0).all()


def test_the_future_is_left_out_on_request(data: Dataset, base: Run) -> None:
    """With every item but a few in a user's log, only the mask keeps later items from being drawn."""
    log = sequences_of(data).sequences
    for mask in (False, True):
        step = a_step(data, base, negatives=NegativesConfig(strategy="uniform", num_negatives=20, mask_future=mask))
        later = 0
        for packed, batch, places in batches_of(data):
            drawn = step.pairs.draw(ranker_of(base), packed, batch, places)
            assert drawn is not None
            for place, row in zip(drawn.row_places, drawn.items, strict=True):
                user = int(np.searchsorted(log.offsets, place, side="right") - 1)
                later += len(set(log.values[place + 2 : log.offsets[user + 1]].tolist()) & set(row[1:].tolist()))
        assert (later == 0) == mask


def test_positions_and_share_choose_the_pairs(data: Dataset, base: Run) -> None:
    packed, batch, places = batches_of(data)[0]
    log = sequences_of(data).sequences
    drawn = a_step(data, base, positions="last").pairs.draw(ranker_of(base), packed, batch, places)
    assert drawn is not None
    assert set((drawn.row_places + 2).tolist()) <= set(log.offsets[1:].tolist())
    some_windows = a_step(data, base, share=0.3).pairs
    counts = []
    for _ in range(20):
        some = some_windows.draw(ranker_of(base), packed, batch, places)
        counts.append(0 if some is None else len(some.items))
    every = a_step(data, base).pairs.draw(ranker_of(base), packed, batch, places)
    assert every is not None
    assert 0.1 < np.mean(counts) / len(every.items) < 0.5


def test_a_later_window_gives_pairs_only_with_enough_context(data: Dataset, base: Run) -> None:
    log = sequences_of(data).sequences
    seen: set[int] = set()
    for packed, batch, places in batches_of(data):
        drawn = a_step(data, base).pairs.draw(ranker_of(base), packed, batch, places)
        assert drawn is not None
        seen |= set(drawn.row_places.tolist())
    expected: set[int] = set()
    for start, end in zip(log.offsets[:-1], log.offsets[1:], strict=True):
        targets = int(end - start) - 1
        first = (targets - 1) % 6 + 1 if targets > 6 else targets
        # All of the first window; of later ones, which are full, only the last position has seen as much as it can.
        expected |= set(range(int(start), int(start) + first))
        expected |= set(range(int(start) + first + 5, int(start) + targets, 6))
    assert seen == expected


def test_a_batch_without_pairs_is_no_accident(data: Dataset, base: Run) -> None:
    """A worker among several has to take part; a lone one skips the step."""
    packed, batch, places = batches_of(data)[0]
    alone = a_step(data, base, share=1e-9)
    assert alone(ranker_of(base).train(), packed, batch, places, 0) is None
    loss = a_step(data, base, share=1e-9, joins=True)(ranker_of(base).train(), packed, batch, places, 0)
    assert loss is not None
    assert float(loss.value.detach()) == 0
    loss.value.backward()  # type: ignore[no-untyped-call]
    assert not any(np.isnan(value) for value in loss.diagnostics.values())


def test_the_pool_of_a_short_catalogue_holds_allowed_items_only(data: Dataset, base: Run) -> None:
    """With the future left out, no item of the pool can be one that is taken later, however large the pool."""
    for size in (20, 28):
        step = a_step(data, base, negatives=NegativesConfig(pool_k=size, mask_future=True))
        for packed, batch, places in batches_of(data):
            loss = step(ranker_of(base).train(), packed, batch, places, 0)
            assert loss is not None
            assert loss.diagnostics["pool_later"] == 0


def test_the_warning_is_about_the_weights_that_are_kept() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 0, "NDCG@10": 0.3},
        {"epoch": 1, "NDCG@10": 0.4, "chosen_drift": -0.2},
        {"epoch": 2, "NDCG@10": 0.1, "chosen_drift": 0.1},
    ]
    assert "fell by 0.200" in warnings(kept_row(rows, TrainerConfig()))[0]
    assert warnings(kept_row(rows, TrainerConfig(keep="last"))) == []
    rows[0]["NDCG@10"] = 0.5
    assert warnings(kept_row(rows, TrainerConfig())) == []


def test_the_last_weights_are_kept_on_request(data: Dataset, base: Run, tmp_path: Path) -> None:
    """A learning rate that ruins the model: the best weights are the start's, the last ones are not."""
    ruin = {"epochs": 1, "learning_rate": 1.0}
    for keep in ("best", "last"):
        run = align(base, out=tmp_path / keep, dataset=data, settings={"trainer": {**ruin, "keep": keep}})
        rows = rows_of(run.folder)
        assert rows[1]["NDCG@10"] < rows[0]["NDCG@10"]
        assert run.info["best"]["epoch"] == (0 if keep == "best" else 1)
        measured = Validation(data, "NDCG@10", True)(load_recommender(run))["NDCG@10"]
        assert measured == pytest.approx(run.info["best"]["NDCG@10"], abs=1e-6)


def test_an_aligned_run_is_seeded_and_holds_what_traces_it(data: Dataset, base: Run, tmp_path: Path) -> None:
    settings = {"trainer": {"epochs": 2, "learning_rate": 1e-3, "validations_per_epoch": 2}}
    runs = [align(base, out=tmp_path / name, dataset=data, settings=settings, seed=5) for name in ("a", "b")]
    assert rows_of(runs[0].folder) == rows_of(runs[1].folder)
    info = Run.open(tmp_path / "a").info
    assert info["finished"]
    assert info["options"]["alignment"]["negatives"]["strategy"] == "top-k"
    assert info["aligned_from"]["weights"] == info["aligned_from"]["reference"]
    rows = rows_of(tmp_path / "a")
    assert [row["epoch"] for row in rows] == [0, 0.5, 1, 1.5, 2]
    assert rows[0]["NDCG@10"] == pytest.approx(base.info["best"]["NDCG@10"], abs=1e-9)
    for name in ("reward_accuracy", "reward_margin", "score_scale", "chosen_drift", "rank_1", "pool_later"):
        assert any(name in row for row in rows)
    told = json.loads((tmp_path / "a" / "alignment.json").read_text())
    assert 0 <= told["pool_held_out"] <= 1
    assert (tmp_path / "a" / "alignment.png").stat().st_size > 10_000
    other = align(base, out=tmp_path / "c", dataset=data, settings=settings, seed=6)
    assert rows_of(other.folder)[1:] != rows[1:]


def test_resumed_alignment_ends_with_the_same_numbers(data: Dataset, base: Run, tmp_path: Path) -> None:
    settings = {"trainer": {"epochs": 2, "validations_per_epoch": 2}, "align": {"share": 0.7}}
    whole = align(base, out=tmp_path / "whole", dataset=data, settings=settings)

    class Stop(Exception):
        pass

    def stop(row: dict[str, Any]) -> None:
        if row["epoch"] == 0.5:
            raise Stop

    with pytest.raises(Stop):
        align(base, out=tmp_path / "cut", dataset=data, settings=settings, on_epoch=stop)
    resumed = align(base, out=tmp_path / "cut", dataset=data, settings=settings, resume=True)
    assert rows_of(resumed.folder) == rows_of(whole.folder)
    with pytest.raises(PalateError, match=r"started with other options \(alignment\.objective: 'dpo', now 'ipo'\)"):
        align(base, out=tmp_path / "cut", dataset=data, objective="ipo", settings=settings, resume=True)


def test_cross_entropy_goes_on_alone(data: Dataset, base: Run, tmp_path: Path) -> None:
    run = align(base, out=tmp_path / "run", dataset=data, objective="none", settings={"trainer": {"epochs": 1}})
    assert not (run.folder / "alignment.json").exists()
    assert "reward_margin" not in rows_of(run.folder)[-1]
    assert run.info["options"]["alignment"] == {"objective": "none", "align": AlignConfig().model_dump(mode="json")}


def test_settings_that_nothing_reads_are_named(
    data: Dataset, base: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "negatives": {"pool_k": 5, "num_negatives": 2},
        "preference": {"noise": "none", "sigma": 0.1, "hardness": "one"},
        "trainer": {"epochs": 1},
    }
    align(base, out=tmp_path / "run", dataset=data, objective="hanorec", negatives="uniform", settings=settings)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("Note:")] == [
        "Note: settings [preference] of hanorec: 'sigma' does nothing without noise 'logits' or 'lora'.",
        "Note: settings [negatives] of uniform: 'pool_k' does nothing without negatives mixed or top-k.",
    ]


def test_dislikes_are_the_users_own(data: Dataset, base: Run, tmp_path: Path) -> None:
    liked = data.train_sequences()
    rows = [[int(1 + (set(range(30)) - {i - 1 for i in row.tolist()}).pop())] for row in liked]
    rated = replace(data, dislikes=Sequences.from_lists(rows))
    first = train(rated, model="sasrec", out=tmp_path / "base", settings=SMALL)
    run = align(first, out=tmp_path / "run", dataset=rated, negatives="disliked", settings={"trainer": {"epochs": 1}})
    assert 0 < rows_of(run.folder)[-1]["reward_accuracy"] <= 1
    asked = plan_alignment(first, dataset=rated, objective="dpo", negatives="disliked")
    prepared = asked.prepare()
    pairs = asked.make_step(prepared, torch.device("cpu")).pairs
    counts = torch.from_numpy(data.train_counts).float()
    seen: set[int] = set()
    for drawn in sample_pairs(pairs, prepared.model, prepared.data, counts):
        users = pairs.prefixes.owners(drawn.row_places)
        assert drawn.items[:, 1].tolist() == [rows[user][0] for user in users]
        assert drawn.rejected.valid.all()
        seen |= set(users.tolist())
    assert seen == set(np.flatnonzero(liked.lengths >= 2).tolist())
    with pytest.raises(PalateError, match="keeps no dislikes"):
        align(base, out=tmp_path / "no", dataset=data, negatives="disliked")


def test_nonsense_is_refused_before_any_work(data: Dataset, base: Run, ring: Ring, tmp_path: Path) -> None:
    out = tmp_path / "run"
    counted = train(data, model="popularity", out=tmp_path / "popularity")
    with pytest.raises(PalateError, match="is a popularity, which is not trained by gradient"):
        align(counted, out=out, dataset=data)
    with pytest.raises(PalateError, match="pool of 500 is larger than the catalogue allows"):
        align(base, out=out, dataset=data, settings={"negatives": {"pool_k": 500}})
    other = train(ring(items=40), model="sasrec", out=tmp_path / "other", settings=SMALL)
    with pytest.raises(PalateError, match="knows other items"):
        align(base, out=out, dataset=data, reference=other)
    with pytest.raises(PalateError, match="trained on other data"):
        align(base, out=out, dataset=ring(seed=9, longest=18))
    with pytest.raises(PalateError, match="'dpoo'"):
        align(base, out=out, dataset=data, objective="dpoo")
    with pytest.raises(PalateError, match="no zero to be judged by"):
        align(base, out=out, dataset=data, objective="bce")
    with pytest.raises(PalateError, match="strategy"):
        align(base, out=out, dataset=data, negatives="top")
    with pytest.raises(PalateError, match="unknown section 'ranker'"):
        align(base, out=out, dataset=data, settings={"ranker": {"dim": 3}})
    with pytest.raises(PalateError, match="has no pairs"):
        align(base, out=out, dataset=data, objective="none", settings={"negatives": {"pool_k": 3}})
    with pytest.raises(PalateError, match="nothing is minimised"):
        align(base, out=out, dataset=data, settings={"align": {"weight": 0, "cross_entropy": 0}})
    with pytest.raises(PalateError, match="beta"):
        align(base, out=out, dataset=data, settings={"preference": {"beta": float("inf")}})
    with pytest.raises(PalateError, match="there are none"):  # ids have no features to compare items by
        align(base, out=out, dataset=data, objective="hanorec")
    parts = data.parts.copy()
    parts[parts == Part.TEST] = Part.TRAIN
    leaky = train(replace(data, parts=parts), model="sasrec", out=tmp_path / "leaky", settings=SMALL)
    with pytest.raises(PalateError, match="another split or log"):
        align(base, out=out, dataset=data, reference=leaky)
    wide = {**SMALL, "ranker": {**SMALL["ranker"], "dim": 32}}
    other = train(data, model="sasrec", out=tmp_path / "wide", settings=wide)
    align(base, out=tmp_path / "by-another", dataset=data, reference=other, settings={"trainer": {"epochs": 1}})
    with pytest.raises(PalateError, match="dropout cannot be shared"):
        align(base, out=out, dataset=data, reference=other, settings={"align": {"dropout": "shared"}})
    with pytest.raises(PalateError, match="does not say where its dataset is"):
        align(base, out=out)
    with pytest.raises(PalateError, match="fewer than 50 validations"):
        align(base, out=tmp_path / "parts", dataset=data, settings={"trainer": {"validations_per_epoch": 50}})
    assert not out.exists()


def test_features_are_found_by_their_fingerprint_and_serve_hardness(ring: Ring, tmp_path: Path) -> None:
    """A run with text features is aligned from its folder alone, with the store it was trained with."""
    data = ring(longest=18)
    folder = tmp_path / "data"
    data.save(folder)
    random = np.random.default_rng(0)
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(data.catalogue.ids[1:]))
    for name in ("text", "text-right"):
        np.save(tmp_path / f"{name}.npy", random.normal(size=(data.num_items, 8)).astype(np.float32))
        import_matrix(data, folder, "text", tmp_path / f"{name}.npy", ids=ids, store=name)
    (folder / "features" / "another-thing").mkdir()  # no store at all, and first in order
    store = FeatureStore.load(folder / "features" / "text-right", data.catalogue)
    first = train(
        data,
        model="sasrec",
        out=tmp_path / "base",
        modalities=("id", "text"),
        features={"text": store},
        settings=SMALL,
        dataset_path=folder,
    )
    run = align(first, out=tmp_path / "run", objective="hanorec", settings={"trainer": {"epochs": 1}})
    assert run.info["features"]["text"]["fingerprint"] == store.fingerprint
    assert run.info["hardness"]["mean"] == pytest.approx(1, abs=0.02)
    assert run.info["alignment"]["pool_held_out"] is not None
    shutil.rmtree(folder / "features" / "text-right")
    with pytest.raises(PalateError, match=r"text features that .* was trained with"):
        align(first, out=tmp_path / "again", objective="dpo")


def test_a_horizon_chooses_among_the_next_items_and_rejects_none_of_them(data: Dataset, base: Run) -> None:
    log = sequences_of(data).sequences
    steps: set[int] = set()
    step = a_step(data, base, negatives=NegativesConfig(strategy="uniform", num_negatives=20), horizon=3)
    for packed, batch, places in batches_of(data):
        drawn = step.pairs.draw(ranker_of(base), packed, batch, places)
        assert drawn is not None
        for place, row in zip(drawn.row_places, drawn.items.tolist(), strict=True):
            end = int(log.offsets[np.searchsorted(log.offsets, place, side="right")])
            following = log.values[place + 1 : min(place + 4, end)].tolist()
            steps.add(following.index(row[0]))
            assert not set(following) & set(row[1:])
    assert steps == {0, 1, 2}
