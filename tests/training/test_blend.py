"""Blends: their weights, what is refused, and that the result is a run like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from palate.data.dataset import Cases, Dataset
from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.evaluation.groups import group_runs
from palate.rankers.blend import Blend, BlendConfig
from palate.rankers.item_knn import ItemKNN
from palate.rankers.popularity import Popularity
from palate.rankers.recommend import Recommendations
from palate.rankers.registry import load_recommender
from palate.recommender import Histories, Recommender, as_sequences
from palate.runs.run import Run
from palate.storage.files import read_json, write_json
from palate.training.blend import blend
from palate.training.blend_weights import ScoredCases, fit_likelihood, ndcg_of, search_ndcg
from palate.training.fit import train
from palate.training.validation import Validation

ITEMS = 12


class Fixed(Recommender):
    """Scores that are looked up by the last item of the history."""

    name = "fixed"

    def __init__(self, table: Tensor) -> None:
        self.table, self.num_items, self.calls = table, table.shape[1] - 1, 0

    def score(self, histories: Histories, candidates: Tensor | None = None) -> Tensor:
        self.calls += 1
        scores = self.table[[int(row[-1]) if len(row) else 0 for row in as_sequences(histories)]].clone()
        scores[:, 0] = -torch.inf
        return scores if candidates is None else scores.gather(1, candidates)

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Any:
        raise NotImplementedError


def table(seed: int) -> Tensor:
    return torch.randn(ITEMS + 1, ITEMS + 1, generator=torch.Generator().manual_seed(seed))


def cases(truth: Tensor, count: int = 400, targets: int = 1, seed: int = 0) -> Cases:
    """Users of one item whose targets are drawn from ``softmax(truth[item])`` over the other items."""
    draw = torch.Generator().manual_seed(seed)
    last = torch.randint(1, ITEMS + 1, (count,), generator=draw)
    logits = truth[last].clone()
    logits[:, 0] = -torch.inf
    logits[torch.arange(count), last] = -torch.inf
    taken = torch.multinomial(logits.softmax(1), targets, generator=draw)
    return Cases(
        np.arange(count), Sequences.from_lists(last[:, None].tolist()), Sequences.from_lists(taken.tolist())
    )  # fmt: skip


# -- weights -----------------------------------------------------------------------------------------------------------


def test_likelihood_finds_the_weights_that_drew_the_targets() -> None:
    one, two = table(1), table(2)
    scored = ScoredCases([Fixed(one), Fixed(3 * two)], cases(1.5 * one + 0.5 * two, 6000), exclude_seen=True)
    weights, _ = fit_likelihood(scored)
    found = weights / scored.scales * np.array([1.0, 3.0])
    assert found == pytest.approx([1.5, 0.5], abs=0.1)


def test_likelihood_is_that_of_a_softmax_over_what_is_not_in_the_history() -> None:
    """Value and stationarity against automatic differentiation of the definition."""
    tables = [table(1), table(2), table(3)]
    chosen = cases(tables[0] + tables[1], 300, targets=2)
    scored = ScoredCases([Fixed(one) for one in tables], chosen, exclude_seen=True)
    weights, value = fit_likelihood(scored)
    by = torch.tensor(weights / scored.scales, requires_grad=True)
    last = torch.from_numpy(chosen.histories.values).long()
    logits = sum(w * one[last].double() for w, one in zip(by, tables, strict=True))
    assert isinstance(logits, Tensor)
    closed = torch.zeros_like(logits, dtype=torch.bool)
    closed[:, 0] = True
    closed[torch.arange(len(last)), last] = True
    log_p = logits.masked_fill(closed, -torch.inf).log_softmax(1)
    mean = log_p.gather(1, torch.tensor(chosen.targets.to_lists())).mean()
    assert value == pytest.approx(float(mean.detach()), abs=1e-4)
    slopes, positive = torch.autograd.grad(mean, by)[0].numpy(), weights > 0
    assert np.abs(slopes[positive]).max() < 1e-3
    assert (slopes[~positive] <= 0).all()
    assert positive[:2].all()


@pytest.mark.parametrize("fit", ["likelihood", "ndcg"])
def test_a_part_that_is_noise_gets_next_to_no_weight(fit: str) -> None:
    truth = 4 * table(1)
    scored = ScoredCases([Fixed(table(7)), Fixed(truth)], cases(truth, 1000), exclude_seen=True)
    weights, _ = fit_likelihood(scored)
    if fit == "ndcg":
        weights, _ = search_ndcg(scored, weights)
    assert weights[0] / weights.sum() < 0.05


def test_a_part_that_is_wrong_gets_weight_zero() -> None:
    truth = 4 * table(1)
    scored = ScoredCases([Fixed(-truth), Fixed(truth)], cases(truth, 200), exclude_seen=True)
    weights, _ = fit_likelihood(scored)
    assert weights[0] == 0
    assert weights[1] > 0


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_ndcg_is_that_of_the_evaluation(ring: Callable[..., Dataset], exclude_seen: bool) -> None:
    data = ring()
    parts = [ItemKNN.fit(data), Popularity.fit(data)]
    validation = Validation(data, "NDCG@10", exclude_seen)
    scored = ScoredCases(parts, validation.cases, exclude_seen)
    config = BlendConfig.model_validate(
        {
            "parts": [
                {"kind": one.name, "weight": weight, "scale": float(scale)}
                for one, weight, scale in zip(parts, (0.6, 0.4), scored.scales, strict=True)
            ]
        }
    )
    expected = [validation(Blend(parts, config))["NDCG@10"], validation(parts[0])["NDCG@10"]]
    # The few targets that stand in an excluded history are misses there, and left out here.
    share = len(scored) / len(validation.cases)
    assert ndcg_of(scored, np.array([[0.6, 0.4], [1, 0]])) * share == pytest.approx(expected, abs=1e-6)


def test_the_search_never_ends_below_a_part_alone() -> None:
    truth = 4 * table(1)
    scored = ScoredCases([Fixed(truth + table(2)), Fixed(truth), Fixed(table(5))], cases(truth, 300), True)
    weights, best = search_ndcg(scored, np.array([0.1, 0.0, 5.0]))
    assert best >= ndcg_of(scored, np.eye(3)).max()
    assert best == pytest.approx(float(ndcg_of(scored, weights[None])[0]))
    assert weights.sum() == pytest.approx(1)


def test_scores_that_do_not_fit_in_memory_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.training.blend_weights._BLOCK", 7 * 2 * (ITEMS + 1))
    chosen = cases(table(1) + table(2), 50, targets=2)
    kept, small = ([Fixed(table(1)), Fixed(table(2))] for _ in range(2))
    one, two = ScoredCases(kept, chosen, True), ScoredCases(small, chosen, True, keep=10)
    (first, value), (second, again) = fit_likelihood(one), fit_likelihood(two)
    assert second == pytest.approx(first, rel=1e-6)
    assert again == pytest.approx(value)
    assert ndcg_of(two, first[None]) == pytest.approx(ndcg_of(one, first[None]))
    assert kept[0].calls == 8 < small[0].calls


def test_newcomers_and_seen_targets_choose_no_weights() -> None:
    chosen = Cases(np.arange(3), Sequences.from_lists([[], [2], [3]]), Sequences.from_lists([[4], [2], [2, 3]]))
    scored = ScoredCases([Fixed(table(1)), Fixed(table(2))], chosen, exclude_seen=True)
    assert len(scored) == 1
    assert next(iter(scored)).targets.tolist() == [2]
    with pytest.raises(PalateError, match="no validation user has a history"):
        ScoredCases([Fixed(table(1)), Fixed(table(2))], chosen.take([0, 1]), exclude_seen=True)


def test_infinite_scores_are_refused() -> None:
    broken = table(1)
    broken[3, 5] = torch.inf
    with pytest.raises(PalateError, match="'fixed' gives scores that are not finite"):
        ScoredCases([Fixed(table(2)), Fixed(broken)], cases(table(2), 100), exclude_seen=True)


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(ring: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and runs of it: popularity, item-knn and a sasrec of two seeds."""
    home = tmp_path_factory.mktemp("blend")
    ring().save(home / "data")
    data = Dataset.load(home / "data")
    # Each knows something that the others do not: item-knn ignores order here.
    for name, ranker in (("popularity", {}), ("item-knn", {"history_half_life": 0.0})):
        train(data, model=name, out=home / name, settings={"ranker": ranker}, dataset_path=home / "data")
    settings: dict[str, dict[str, Any]] = {
        "ranker": {"dim": 8, "layers": 1, "heads": 1, "max_length": 8},
        "trainer": {"epochs": 6, "learning_rate": 0.01, "tensorboard": False},
    }
    for seed in (0, 1):
        out = home / f"sasrec-{seed}"
        train(data, model="sasrec", out=out, seed=seed, settings=settings, dataset_path=home / "data")
    return home


@pytest.fixture(scope="module")
def blended(folder: Path) -> Run:
    names = ("item-knn", "popularity", "sasrec-0")
    return blend([folder / name for name in names], out=folder / "blended")


def test_scores_are_the_weighted_sum_of_the_stored_parts(blended: Run, folder: Path) -> None:
    model = load_recommender(blended)
    assert isinstance(model, Blend)
    assert len(model.parts) > 1
    facts = {part["run"]: part for part in blended.info["blend"]["parts"]}
    history = [[3, 4], [], [7, 8, 9]]
    by_hand = torch.zeros(3, model.num_items + 1)
    for part in model.config.parts:
        run = next(name for name, one in facts.items() if one["model"] == part.kind)
        assert facts[run]["weight"] == part.weight
        by_hand += part.weight / part.scale * load_recommender(Run.open(folder / run)).score(history)
    torch.testing.assert_close(model.score(history), by_hand)


def test_the_run_says_what_it_is_made_of(blended: Run, folder: Path) -> None:
    info = blended.info
    assert info["finished"]
    assert [part["model"] for part in info["parts"]] == ["item-knn", "popularity", "sasrec"]
    assert sum(part["share"] for part in info["blend"]["parts"]) == pytest.approx(1)
    validation = Validation(Dataset.load(folder / "data"), "NDCG@10", True)
    assert info["best"] == pytest.approx(validation(load_recommender(blended)))
    alone = [part["validation"]["NDCG@10"] for part in info["blend"]["parts"]]
    assert info["best"]["NDCG@10"] >= max(alone)
    assert alone[0] == pytest.approx(validation(load_recommender(Run.open(folder / "item-knn")))["NDCG@10"])


def test_the_same_runs_make_the_same_blend(blended: Run, folder: Path, tmp_path: Path) -> None:
    names = ("item-knn", "popularity", "sasrec-0")
    again = blend([folder / name for name in names], out=tmp_path / "again")
    for key in ("best", "blend", "parts", "options", "describe"):
        assert again.info[key] == blended.info[key]
    assert blend([folder / name for name in names], out=tmp_path / "again", resume=True).info == again.info
    with pytest.raises(PalateError, match=r"was started with other options \(fit: '[a-z]+', now 'likelihood'\)"):
        blend([folder / name for name in names], out=tmp_path / "again", fit="likelihood", resume=True)
    with pytest.raises(PalateError, match="holds a run already"):
        blend([folder / name for name in names], out=tmp_path / "again")


def test_a_part_that_was_trained_again_is_noticed(folder: Path, tmp_path: Path) -> None:
    data = Dataset.load(folder / "data")
    settings = {"ranker": {"neighbours": 3}}
    train(data, model="item-knn", out=tmp_path / "knn", settings=settings, dataset_path=folder / "data")
    runs = [tmp_path / "knn", folder / "popularity"]
    run = blend(runs, out=tmp_path / "out")
    ItemKNN.fit(data).save(tmp_path / "knn" / "model")
    with pytest.raises(PalateError, match="was started with other parts"):
        blend(runs, out=run.folder, resume=True)


def test_repetitions_share_a_row(folder: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        blend([folder / "item-knn", folder / f"sasrec-{seed}"], out=tmp_path / f"both-{seed}", seed=seed, users=30)
    (group,) = group_runs([str(tmp_path / f"both-{seed}") for seed in (0, 1)])
    assert [run.seed for run in group.runs] == [0, 1]
    assert group.runs[0].info["blend"]["users"] == 30


def test_a_useless_part_is_named_and_not_kept(folder: Path, tmp_path: Path, palate: Any) -> None:
    """Everybody's own ring position decides; popularity of a tiny part of it is made wrong by hand."""
    wrong = tmp_path / "wrong"
    train(Dataset.load(folder / "data"), model="item-knn", out=wrong, dataset_path=folder / "data")
    model = ItemKNN.load(wrong / "model")
    model.similarity = -model.similarity
    model.save(wrong / "model")
    code, out, errors = palate("blend", folder / "item-knn", wrong, "--fit", "likelihood", "--out", tmp_path / "out")
    assert code == 0, errors
    assert "wrong has weight 0" in out
    loaded = load_recommender(Run.open(tmp_path / "out"))
    assert isinstance(loaded, Blend)
    assert len(loaded.parts) == 1


def test_commands_take_it(blended: Run, palate: Any, tmp_path: Path) -> None:
    code, out, errors = palate("recommend", blended.folder, "--history", "item-3,item-4", "--k", 3, "--json")
    assert code == 0, errors
    direct = Recommendations(blended)([["item-3", "item-4"]], 3)
    assert [row["item"] for row in json.loads(out)["items"]] == direct["item"].to_list()
    code, out, errors = palate("evaluate", blended.folder, blended.folder.parent / "item-knn", "--json")
    assert code == 0, errors
    code, out, errors = palate("report", blended.folder, "--out", tmp_path / "report")
    assert code == 0, errors
    assert "blended" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    code, out, errors = palate("info", blended.folder)
    assert code == 0
    assert "blend" in out


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(runs: list[Path], out: Path, match: str, **more: Any) -> None:
    with pytest.raises(PalateError, match=match):
        blend(runs, out=out, **more)
    assert not out.exists()


def test_bad_input_is_refused_before_any_work(
    folder: Path, blended: Run, tmp_path: Path, ring: Callable[..., Dataset]
) -> None:
    knn, out = folder / "item-knn", tmp_path / "out"
    refused([knn], out, "a blend of 1 run is none")
    refused([knn, knn], out, "is named twice")
    refused([knn, folder / "data"], out, "is not a run")
    refused([knn, blended.folder], out, "is a blend already")
    refused([knn, folder / "popularity"], out, "cannot be fitted by 'ndgc'", fit="ndgc")
    refused([knn, folder / "popularity"], out, "is not there", dataset=tmp_path / "nowhere")
    other = ring(seed=5)
    other.save(tmp_path / "other")
    train(other, model="popularity", out=tmp_path / "popularity", dataset_path=tmp_path / "other")
    refused([knn, tmp_path / "popularity"], out, "was trained on other data than")
    refused([knn, folder / "popularity"], out, "was trained on other data", dataset=tmp_path / "other")


@pytest.mark.parametrize(("facts", "match"), [({"finished": False}, "is not finished"), ({"model": "mllm"}, "afford")])
def test_runs_that_cannot_be_blended(folder: Path, tmp_path: Path, facts: dict[str, Any], match: str) -> None:
    data = Dataset.load(folder / "data")
    run = train(data, model="popularity", out=tmp_path / "run", dataset_path=folder / "data").add(**facts)
    refused([folder / "item-knn", run.folder], tmp_path / "out", match)


def test_a_blend_is_not_trained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="blend is made of trained runs"):
        train(Dataset.load(folder / "data"), model="blend", out=tmp_path / "out")


def test_loading_stays_in_the_folder(folder: Path, blended: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    load_recommender(blended).save(_made(model))
    (model / "parts" / "0").rename(tmp_path / "elsewhere")
    with pytest.raises(PalateError, match="holds no folder parts/0"):
        Blend.load(model)
    (model / "parts" / "0").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(PalateError, match="holds no folder parts/0"):
        Blend.load(model)


def test_a_stored_blend_of_blends_is_refused(blended: Run, tmp_path: Path) -> None:
    model = tmp_path / "model"
    load_recommender(blended).save(_made(model))
    facts = read_json(model / "config.json")
    facts["config"]["parts"][0]["kind"] = "blend"
    write_json(model / "config.json", facts)
    with pytest.raises(PalateError, match="cannot be a part of another blend"):
        Blend.load(model)


def test_parts_of_different_catalogues_are_refused() -> None:
    config = BlendConfig.model_validate({"parts": [{"kind": "fixed", "weight": 1}] * 2})
    with pytest.raises(PalateError, match="rank different items"):
        Blend([Fixed(table(1)), Fixed(table(1)[:, :-1])], config)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
