"""The modality probe: its numbers by hand, a model that is blind, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr
from typer.testing import CliRunner
from worlds import two_tastes

from palate.cli.llm.probe import probe as probe_command
from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.evaluation.candidates import sample_candidates
from palate.evaluation.evaluate import evaluate
from palate.evaluation.groups import RunGroup
from palate.evaluation.users import UserSample
from palate.mllm.diagnostics.probe import FIGURES, ProbeScores, by_user, rank_correlation, summarise
from palate.mllm.diagnostics.probe_run import ProbeReport, Swap, derangement, probe_runs
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.prompts.items import Items
from palate.mllm.prompts.prompter import NO_PICTURE, Prompter, PromptOptions
from palate.mllm.prompts.templates import Templates
from palate.mllm.scoring.scorer import Scorer
from palate.mllm.zero_shot import zero_shot
from palate.rankers.registry import load_recommender
from palate.runs.run import Run

pytest.importorskip("transformers")

Tiny = Callable[[str], Path]
NEITHER, BROKEN = 5, 8  # items of the dataset whose picture is missing, or none


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As for fine-tuning, but no picture is like another; items 1 and 2 share theirs."""
    folder = tmp_path_factory.mktemp("noise")
    made = two_tastes(folder)
    rng = np.random.default_rng(0)
    for path in sorted((folder / "images").iterdir()):
        if path.stem != str(BROKEN):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((56, 56), Image.Resampling.NEAREST).save(path)
    shutil.copyfile(folder / "images/1.png", folder / "images/2.png")
    return made


@pytest.fixture(scope="module")
def blind(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny LLaVA with a projector that says nothing."""
    folder = tmp_path_factory.mktemp("blind") / "llava"
    shutil.copytree(tiny("llava"), folder)
    weights = load_file(folder / "model.safetensors")
    silenced = {name: torch.zeros_like(one) for name, one in weights.items() if "multi_modal_projector" in name}
    assert len(silenced) == 4
    save_file(weights | silenced, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def run_of(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    made: dict[str, Run] = {}

    def of(model: Path, name: str = "run", **prompt: Any) -> Run:
        key = str((model, name, sorted(prompt.items())))
        if key not in made:
            prompt = {"history_items": 3, "images": "candidate", **prompt}
            out = tmp_path_factory.mktemp("runs") / name
            settings = {"model": {"name": str(model), "dtype": "float32"}, "prompt": prompt}
            made[key] = zero_shot(dataset, out=out, settings=settings, dataset_path=dataset.folder)
        return made[key]

    return of


def probed(
    runs: Sequence[Run], dataset: Dataset, users: int | None = 4, negatives: int = 5, **more: Any
) -> ProbeReport:
    groups = [RunGroup(run.name, (run,)) for run in runs]
    sample = None if users is None else UserSample(users)
    return probe_runs(groups, dataset, load_recommender, users=sample, negatives=negatives, **more)


# --- the figures ------------------------------------------------------------------------------------------------------


def two_users() -> list[ProbeScores]:
    true, false = True, False
    return [
        ProbeScores(
            right=np.array([3.0, 1.0, 2.0]),
            other=np.array([1.0, 1.0, 2.0]),
            missing=np.array([2.5, 1.0, 2.0]),
            targets=np.array([true, false, false]),
            pictured=np.array([true, false, true]),
        ),
        ProbeScores(
            right=np.array([0.0, 4.0]),
            other=np.array([1.0, 1.0]),
            missing=np.array([0.0, 8.0]),
            targets=np.array([false, true]),
            pictured=np.array([true, true]),
        ),
    ]


def test_figures_by_hand() -> None:
    values = by_user(two_users())
    assert {name: one.tolist() for name, one in values.items() if name != "rank_correlation"} == {
        "shift_other": [2 / 2, (1 + 3) / 2],
        "shift_missing": [0.5 / 2, 4 / 2],
        "auc_right": [1, 1],
        "auc_other": [0, 0],  # a tie is lost
        "auc_missing": [1, 1],
        "auc_right_minus_other": [1, 1],
        "auc_right_minus_missing": [0, 0],
        "variance": [pytest.approx(2 / 3), 4],
    }
    # Ranks 3, 1, 2 against 1.5, 1.5, 3; then an order against none.
    assert values["rank_correlation"].tolist() == pytest.approx([spearmanr([3, 1, 2], [1, 1, 2]).statistic, 0])
    assert values["rank_correlation"][0] == pytest.approx(0)
    (row,) = summarise({"one": [values]}, {"one": [0]})
    assert tuple(row.figures) == FIGURES
    assert row.figures["shift_other"].mean == 1.5
    assert row.figures["shift_other_sd"].mean == pytest.approx(1.5 / ((2 / 3 + 4) / 2) ** 0.5)
    assert row.figures["shift_missing_sd"].mean == pytest.approx(1.125 / ((2 / 3 + 4) / 2) ** 0.5)
    assert row.differences == {}
    # Resamples of two users are each of them alone: intervals reach from one to the other.
    assert (row.figures["shift_other"].low, row.figures["shift_other"].high) == (1, 2)
    ends = sorted([1 / (2 / 3) ** 0.5, 2 / 4**0.5])
    assert [row.figures["shift_other_sd"].low, row.figures["shift_other_sd"].high] == pytest.approx(ends)


def test_runs_are_compared_user_by_user() -> None:
    base = by_user(two_users())
    shifted = [replace(one, other=one.right, missing=one.right) for one in two_users()]
    ours = by_user(shifted)
    rows = summarise({"base": [base], "same": [base], "ours": [ours, ours]}, {"base": [0], "same": [0], "ours": [0, 1]})
    assert [row.label for row in rows] == ["base", "same", "ours"]
    assert {one.mean for one in rows[1].differences.values()} == {0}
    gains = rows[2].differences
    assert (gains["auc_right"].mean, gains["auc_right_minus_other"].mean) == (0, -1)
    assert gains["shift_other"].mean == -1.5
    assert (gains["shift_other"].low, gains["shift_other"].high) == (-2, -1)
    assert rows[2].figures["rank_correlation"].mean == 1
    assert rows[2].seeds == (0, 1)
    with pytest.raises(PalateError, match="same users"):
        summarise({"base": [base], "ours": [by_user(shifted[:1])]}, {"base": [0], "ours": [0]})


def test_scores_without_spread_have_no_unit() -> None:
    flat = replace(two_users()[0], right=np.ones(3))
    (row,) = summarise({"flat": [by_user([flat, flat])]}, {"flat": [0]})
    assert np.isnan(row.figures["shift_other_sd"].mean)
    assert np.isnan(row.figures["shift_other_sd"].low)
    with pytest.raises(PalateError, match="none of a user's candidates"):
        by_user([replace(flat, pictured=np.zeros(3, bool))])


def test_rank_correlation_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, other = rng.integers(0, 4, 9).astype(float), rng.random(9)
        assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)


# --- other pictures ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 30])
def test_nobody_keeps_a_picture(count: int) -> None:
    items = list(range(10, 10 + count))
    for seed in range(20):
        swap = derangement(items, seed)
        assert list(swap) == items
        assert sorted(swap.values()) == items
        assert all(item != other for item, other in swap.items())
        assert swap == derangement(items[::-1], seed)
    assert len({tuple(derangement(items, seed).values()) for seed in range(20)}) > (1 if count > 2 else 0)


def test_items_with_other_pictures(dataset: Dataset) -> None:
    items = Items.of(dataset.catalogue)
    before, own = items.fingerprint, {item: items.picture(item) for item in range(1, len(items) + 1)}
    assert items.refused.keys() == {"i8"}
    other = items.with_pictures({1: 3, 3: None, 4: BROKEN, NEITHER: 1})
    assert [other.picture(item) for item in (1, 2, 3, 4, NEITHER)] == [own[3], own[2], None, None, own[1]]
    assert other.refused.keys() == {"i4"}  # the picture that it was given
    assert [other.title(item) for item in (1, 3)] == [items.title(item) for item in (1, 3)]
    assert other.fingerprint != before == items.fingerprint
    assert {item: items.picture(item) for item in own} == own
    assert other.pictured == items.pictured  # one lost, one given
    with pytest.raises(PalateError, match="no item with index 99"):
        items.with_pictures({1: 99})


def test_the_history_keeps_its_pictures(dataset: Dataset) -> None:
    items = Items.of(dataset.catalogue)
    options = PromptOptions(images="both", history_items=2)
    swapped = Prompter(items, options, Templates.load(None), candidates=items.with_pictures({1: 3, 3: 1}))
    plain = Prompter(items, options, Templates.load(None))
    assert swapped.yes_no([1, 3], 1).pictures == [*plain.yes_no([1, 3], 1).pictures[:2], items.picture(3)]
    assert swapped.yes_no([1, 3], 1).text == plain.yes_no([1, 3], 1).text
    assert swapped.choose([3], [1, 4]).pictures == [items.picture(3), items.picture(3), items.picture(4)]


def test_who_swaps(dataset: Dataset) -> None:
    items = Items.of(dataset.catalogue)
    swap = Swap.of(items, [[1, NEITHER], [BROKEN, 2]], seed=0)
    assert (swap.instead, swap.alike) == ({1: 2, 2: 1}, 2)
    assert Swap.of(items, [[1, 3]], seed=0).alike == 0
    with pytest.raises(PalateError, match="1 of the candidates have a picture"):
        Swap.of(items, [[1, NEITHER, BROKEN]], seed=0)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing_image", ["omit", "blank"])
def test_a_run_is_probed_as_by_hand(
    tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run], missing_image: str
) -> None:
    """Two users' prompts with pictures put in by hand, scored one at a time."""
    run = run_of(tiny("llava"), missing_image=missing_image)
    report = probed([run], dataset, users=2)
    recommender: Any = load_recommender(run)
    items, prompter = recommender.prompter.items, recommender.prompter
    cases = UserSample(2).of(dataset, dataset.cases("test"))
    drawn = sample_candidates(dataset, "test", negatives=5, seed=0).of(cases)
    pictured = sorted({int(item) for item in drawn.items.ravel() if items.picture(int(item)) is not None})
    swap = derangement(pictured, seed=0)
    assert report.facts["pictures"]["items"] == len(pictured)
    scorer = Scorer(recommender.model, reuse=False)

    def score(history: list[int], item: int, part: Any) -> float:
        parts = list(prompter.yes_no(history, item).parts)
        places = [place for place, one in enumerate(parts) if isinstance(one, Picture)]
        if item in swap:
            (place,) = places
            assert parts[place] == items.picture(item)
            parts[place] = part(item)
        joined: list[Any] = []
        for one in parts:  # words that meet become one
            if joined and isinstance(one, str) and isinstance(joined[-1], str):
                one = joined.pop() + one
            joined.append(one)
        return float(scorer.log_odds([Chat(tuple(joined), prompter.yes_no(history, item).system)], "Yes", "No"))

    missing = NO_PICTURE if missing_image == "omit" else Picture(None)
    parts = {"right": items.picture, "other": lambda item: items.picture(swap[item]), "missing": lambda item: missing}
    shifts, sizes, aucs = [], [], []
    for history, row in zip(cases.histories.to_lists(), drawn.items.tolist(), strict=True):
        found = {name: [score(history, item, part) for item in row] for name, part in parts.items()}
        for name in ("other", "missing"):
            moved = [abs(a - b) for item, a, b in zip(row, found["right"], found[name], strict=True) if item in swap]
            shifts.append((name, sum(moved) / len(moved)))
        sizes.append(np.var(found["right"]))
        aucs.append({name: np.mean([one[0] > score for score in one[1:]]) for name, one in found.items()})
    figures = report.rows[0].figures
    for name in ("other", "missing"):
        wanted = np.mean([one for kind, one in shifts if kind == name])
        assert wanted > 0.01  # it does look
        assert figures[f"shift_{name}"].mean == pytest.approx(wanted, abs=1e-4)
        assert figures[f"shift_{name}_sd"].mean == pytest.approx(wanted / np.mean(sizes) ** 0.5, rel=1e-3)
    for name in parts:
        assert figures[f"auc_{name}"].mean == pytest.approx(np.mean([one[name] for one in aucs]))
    assert figures["rank_correlation"].mean < 1


def test_right_is_what_evaluation_says(tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run]) -> None:
    run = run_of(tiny("llava"))
    report = probed([run], dataset, users=6)
    ask = partial(evaluate, load_recommender(run), dataset, protocol="sampled", metrics=["auc"], users=UserSample(6))
    assert report.rows[0].figures["auc_right"].mean == pytest.approx(ask(negatives=5).summary()["auc"])
    cost = report.facts["rows"]["run"]["cost"]
    assert cost["prompts"] == 3 * 6 * 6


def test_a_blind_model_depends_on_nothing(
    tiny: Tiny, blind: Path, dataset: Dataset, run_of: Callable[..., Run]
) -> None:
    sees, closed = (
        run_of(model, name, missing_image="blank") for model, name in ((tiny("llava"), "sees"), (blind, "blind"))
    )
    report = probed([sees, closed], dataset)
    row = report.rows[1]
    for name in ("shift_other", "shift_missing", "shift_other_sd", "auc_right_minus_other", "auc_right_minus_missing"):
        one = row.figures[name]
        assert (one.mean, one.low, one.high) == (0, 0, 0), name
    assert row.figures["auc_right"].mean == row.figures["auc_other"].mean == row.figures["auc_missing"].mean
    assert row.figures["rank_correlation"].mean == 1
    # Compared with the one that sees, all its dependence is gone.
    other = report.rows[0].figures
    assert other["shift_other"].mean > 0.01
    for name in ("shift_other", "auc_right", "auc_right_minus_other"):
        assert row.differences[name].mean == pytest.approx(row.figures[name].mean - other[name].mean)
    # Where a missing picture is told in words, the words still count.
    told = probed([run_of(blind, missing_image="omit")], dataset).rows[0].figures
    assert told["shift_other"].mean == 0 < told["shift_missing"].mean


def test_a_run_of_pictures_alone_is_noted(tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run]) -> None:
    alone, named = (run_of(tiny("llava"), name, item_text=name) for name in ("none", "title"))
    (note,) = [note for note in probed([alone, named], dataset).notes() if "by their pictures alone" in note]
    assert note.startswith("none shows candidates")


@pytest.mark.parametrize("images", ["candidate", "both"])
def test_lists_are_probed_as_a_whole(tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run], images: str) -> None:
    run = run_of(tiny("llava"), task="choose", images=images)
    report = probed([run], dataset, users=3, negatives=3)
    assert report.facts["rows"]["run"]["cost"]["prompts"] == 9
    assert report.rows[0].figures["shift_other"].mean > 1e-3
    assert "log-probability" in report.tables()[0].title
    with pytest.raises(PalateError, match="letters for 26 candidates, not for 27"):
        probed([run], dataset, users=3, negatives=26)
    with pytest.raises(PalateError, match="different units"):
        probed([run, run_of(tiny("llava"), "other")], dataset)


def test_the_seed_decides(tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run]) -> None:
    run = run_of(tiny("llava"))
    one, again, other = (probed([run], dataset, users=2, seed=seed).rows[0].figures for seed in (1, 1, 2))
    assert one["shift_other"].mean == again["shift_other"].mean != other["shift_other"].mean
    assert np.array_equal(one["auc_other"].samples, again["auc_other"].samples)


def test_what_cannot_be_probed_is_refused(
    tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run], tmp_path: Path
) -> None:
    def unread(_: Run) -> Any:
        raise AssertionError("a model was loaded")

    def refused(run: Run, words: str) -> None:
        good = run_of(tiny("llava"))
        with pytest.raises(PalateError, match=words):
            probe_runs([RunGroup("good", (good,)), RunGroup("run", (run,))], dataset, unread, negatives=3)

    refused(run_of(tiny("llava"), images="none"), r"show no pictures of candidates \(images: none\)")
    refused(run_of(tiny("llava"), images="history"), r"show no pictures of candidates \(images: history\)")
    good = run_of(tiny("llava"))
    refused(Run(good.folder, {**good.info, "model": "sasrec"}), "a run of 'sasrec', which sees no pictures")
    data = {**good.info["dataset"], "fingerprint": "0"}
    refused(Run(good.folder, {**good.info, "dataset": data}), "trained on other data")
    # Pictures that only one of two runs can show.
    moved = tmp_path / "moved"
    shutil.copytree(good.folder, moved)
    pictures = tmp_path / "pictures"
    shutil.copytree(dataset.catalogue.root / "images", pictures / "images")
    for name in ("1", "2", "3", "4", "6"):
        (pictures / f"images/{name}.png").unlink()
    (moved / "model/items.json").write_text(json.dumps({"images": str(pictures)}))
    with pytest.raises(PalateError, match="cannot show the same pictures"):
        probed([good, Run.open(moved)], dataset, users=None)


def test_users_without_pictures_are_left_out(
    tiny: Tiny, dataset: Dataset, run_of: Callable[..., Run], tmp_path: Path
) -> None:
    run = Run.open(shutil.copytree(run_of(tiny("llava")).folder, tmp_path / "run"))
    pictures = tmp_path / "pictures"
    shutil.copytree(dataset.catalogue.root / "images", pictures / "images")
    drawn = sample_candidates(dataset, "test", negatives=2, seed=0)
    kept = {int(item) for item in drawn.items[0]}
    for path in (pictures / "images").iterdir():
        if int(path.stem) not in kept:
            path.unlink()
    (run.model_folder / "items.json").write_text(json.dumps({"images": str(pictures)}))
    report = probed([run], dataset, users=None, negatives=2)
    touched = sum(bool(kept & set(row)) for row in drawn.items.tolist())
    assert report.facts["users"] == touched
    assert report.facts["left_out"] == len(drawn) - touched > 0
    assert 0 < report.facts["pictures"]["share"] < 1
    assert any("left out" in note for note in report.notes())


def _call(*words: object) -> str:
    app = typer.Typer()
    app.command("probe")(probe_command)
    app.command("other")(lambda: None)
    result = CliRunner().invoke(app, ["probe", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def test_on_the_command_line(
    tiny: Tiny, blind: Path, dataset: Dataset, run_of: Callable[..., Run], tmp_path: Path
) -> None:
    runs = (f"before={run_of(tiny('llava')).folder}", f"after={run_of(blind, 'blind').folder}")
    words = (*runs, "--users", 3, "--users-seed", 2, "--negatives", 4, "--seed", 1)
    facts = json.loads(_call(*words, "--json", "--out", tmp_path / "out"))
    made = {name: facts.pop(name) for name in ("out", "seconds")}
    assert made["out"] == str(tmp_path / "out")
    assert facts == json.loads((tmp_path / "out/probe.json").read_text())
    assert (facts["base"], facts["users"], facts["drawn"]["seed"], facts["seed"]) == ("before", 3, 2, 1)
    before, after = facts["rows"]
    assert set(before["figures"]) == set(FIGURES)
    assert before["figures"]["shift_other"]["low"] <= before["figures"]["shift_other"]["mean"]
    assert after["figures"]["shift_other"]["mean"] == 0
    gain = "auc_right_minus_other"
    assert before["differences"] == {}
    assert after["differences"][gain]["mean"] == pytest.approx(-before["figures"][gain]["mean"])
    assert 0 < after["differences"][gain]["p"] <= 1
    assert after["missing_image"] == "omit"
    told = _call(*words)
    table = (tmp_path / "out/table.md").read_text()
    for text in (told, table):
        assert "AUC by the picture shown" in text
        assert "Minus before, user by user" in text
        assert "said to be missing, in words, by before, after" in text
    one = json.loads(_call(runs[0], "--users", 1, "--negatives", 4, "--json"))["rows"][0]
    assert one["figures"]["auc_right"]["low"] is None  # one user has no interval
    with pytest.raises(PalateError, match="exists already"):
        _call(*words, "--out", tmp_path / "out")
    with pytest.raises(PalateError, match="no split 'tset'"):
        _call(*words, "--split", "tset")
    with pytest.raises(PalateError, match="no such way"):
        _call(*words, "--candidates", "all")
