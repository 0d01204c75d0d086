"""Alignment of a language model: what a forward compares, what stays frozen, and that a killed run ends the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sft_helpers import tiny_settings
from worlds import two_tastes

from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.errors import PalateError
from palate.features.store import FeatureStore
from palate.mllm.alignment.align import align_mllm
from palate.mllm.alignment.config import AlignLoraConfig, PairsConfig, check_alignment
from palate.mllm.alignment.draw import NegativeSampler, load_pairs, retrieved, save_pairs
from palate.mllm.alignment.loss import PairLoss
from palate.mllm.alignment.noise import AdapterNoise
from palate.mllm.alignment.pairs import PairData, Round
from palate.mllm.alignment.policy import Policy
from palate.mllm.alignment.reference import switched_off
from palate.mllm.alignment.scores import items_of, log_probability, scores_of
from palate.mllm.finetune.option_loss import CaseCollator, arguments, logits_of
from palate.mllm.finetune.sft import fine_tune
from palate.mllm.scoring.scorer import Scorer
from palate.objectives import PREFERENCES, Pairs
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.training.fit import train

pytest.importorskip("trl")

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tastes")


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    two_tastes(folder)
    return Dataset.load(folder / "dataset")


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALATE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def tuned(dataset: Dataset, folder: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A fine-tuned run, one a family and task, whose adapter matters."""
    made: dict[tuple[str, str, str], Run] = {}

    def of(family: str = "llama", task: str = "yes-no", images: str = "none") -> Run:
        key = (family, task, images)
        if key not in made:
            settings = tiny_settings(
                tiny(family),
                prompt={"task": task, "images": images},
                examples={
                    "users": 8,
                    "cutoffs": 2,
                    "validate_users": 6,
                    **({"choices": 4} if task == "choose" else {}),
                },
                trainer={"loss": "options", "learning_rate": 3e-2, "keep": "last"},
            )
            out = tmp_path_factory.mktemp("sft") / "run"
            made[key] = fine_tune(dataset, out=out, settings=settings, dataset_path=folder / "dataset")
        return made[key]

    return of


@pytest.fixture(scope="module")
def retriever(dataset: Dataset, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(
        dataset, model="item-knn", out=tmp_path_factory.mktemp("fast") / "run", dataset_path=folder / "dataset"
    )


@pytest.fixture(scope="module")
def features(dataset: Dataset) -> dict[str, FeatureStore]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(dataset.num_items + 1, 6)).astype(np.float32)
    present = np.ones(len(vectors), bool)
    present[0] = False
    return {
        "text": FeatureStore(
            Path("nowhere"), {"modality": "text", "fingerprint": "x"}, vectors, present, pl.DataFrame()
        )
    }


def pair_data(run: Run, dataset: Dataset, **pairs: Any) -> PairData:
    """The pairs of an alignment of a run, on the positions that it learnt from, before there is a fresh adapter."""
    checked = check_alignment("dpo", {"pairs": pairs}, run=run)
    sampler = NegativeSampler(
        dataset, training_positions(dataset, np.arange(8), 2), checked.pairs, checked.rejected, seed=0
    )
    return PairData(Policy.open(run, "cpu", None), sampler, None, projector=False)


def rows_of(run: Run) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key and "memory" not in key} for row in rows]


def adapter_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model_folder / "adapter" / "adapter_model.safetensors")


SMALL = {"batch_size": 4, "accumulation": 2, "watch_every": 1, "learning_rate": 1e-2, "validations_per_epoch": 2}

# --- scores and pairs -------------------------------------------------------------------------------------------------


def test_scores_and_items_of_each_kind() -> None:
    logits = torch.tensor([[[2.0, 0.5], [1.0, 4.0], [0.0, 0.0]], [[1.0, 1.0], [3.0, 1.0], [5.0, 9.0]]])
    right = torch.tensor([[0, 1, 1], [0, 1, 1]])
    chosen, rejected = scores_of("item", logits, right)
    assert chosen.tolist() == [1.5, 0.0]
    assert rejected.tolist() == [[-3.0, 0.0], [2.0, -4.0]]
    chosen, rejected = scores_of("answer", logits, right)
    assert chosen.tolist() == [2.0, 4.0, 0.0, 1.0, 1.0, 9.0]
    assert rejected[:, 0].tolist() == [0.5, 1.0, 0.0, 1.0, 3.0, 5.0]
    letters = torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]])
    place = torch.tensor([[2], [0]])
    chosen, rejected = scores_of("choose", letters, place)
    assert chosen.tolist() == [3.0, 4.0]
    assert rejected.tolist() == [[1.0, 2.0], [5.0, 6.0]]
    assert log_probability(letters, place)[0, 0] == pytest.approx(3 - np.log(np.exp([1.0, 2.0, 3.0]).sum()), abs=1e-5)
    listed = torch.tensor([[11, 12, 13], [21, 22, 23]])
    assert [part.tolist() for part in items_of("item", listed, right)] == [[11, 21], [[12, 13], [22, 23]]]
    assert [part.tolist() for part in items_of("choose", listed, place)] == [[13, 21], [[11, 12], [22, 23]]]
    # The target's own prompt stands for the pairs with all others, each of these for its own.
    chosen_items, others = items_of("answer", listed, right)
    assert chosen_items.tolist() == [11, 11, 11, 21, 21, 21]
    assert others.tolist() == [[12, 13], [12, 12], [13, 13], [22, 23], [22, 22], [23, 23]]


def test_bce_goes_on_with_fine_tuning() -> None:
    """Of item pairs it is the cross-entropy between yes and no of each prompt, which `--loss options` minimises."""
    logits = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right = torch.tensor([[0, 1, 1]]).expand(5, 3)
    wrong = -log_probability(logits, right)
    losses = PREFERENCES["bce"]()(Pairs(*scores_of("item", logits, right))).losses
    torch.testing.assert_close(losses, wrong[:, 0] + wrong[:, 1:].mean(1))


@pytest.mark.parametrize(
    ("family", "task", "images", "kind"),
    [
        ("llama", "yes-no", "none", "item"),
        ("llava", "yes-no", "candidate", "answer"),
        ("llama", "choose", "none", "item"),
    ],
)
def test_at_the_start_the_policy_is_the_reference_and_both_are_the_fine_tuned_run(
    tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path, family: str, task: str, images: str, kind: str
) -> None:
    run = tuned(family, task, images)
    # What the trainer built, before it has moved by more than a hair: the first forward of a fresh adapter.
    aligned = align_mllm(
        run,
        out=tmp_path / "aligned",
        settings={
            "pairs": {"kind": kind},
            "lora": {"dropout": 0.0},
            "trainer": {**SMALL, "learning_rate": 1e-12, "keep": "last"},
        },
        dataset=dataset,
    )
    moved = rows_of(aligned)[-1]
    assert abs(moved["reward_margin"]) < 1e-5
    assert abs(moved["chosen_drift"]) < 1e-5
    assert moved["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert moved["score_scale"] > 1e-2
    items = torch.tensor([[5, 6, 7]])
    before = load_recommender(run).score([[1, 3]], items)
    torch.testing.assert_close(load_recommender(aligned).score([[1, 3]], items), before, atol=1e-4, rtol=0)
    data = pair_data(run, dataset, kind=kind)
    policy, examples, model = data.policy, data.typical, data.policy.model
    policy.freeze(examples.answers, packed=True, workers=data.workers)
    with pytest.raises(AttributeError):
        policy.reference.logits(examples)  # no adapter yet, nothing to switch off
    from peft import get_peft_model

    from palate.mllm.finetune.lora import peft_config

    model.model = get_peft_model(model.model, peft_config(model, AlignLoraConfig()))
    frozen = policy.reference.logits(examples)
    scorer = Scorer(load_recommender(run).model, reuse=False)
    for case in range(3):
        chats, _ = examples.case(case)
        naive = scorer.logits(chats, examples.answers)
        torch.testing.assert_close(frozen[case], naive, atol=1e-4, rtol=0)
    # The fresh adapter changes nothing yet.
    batch = CaseCollator(model, examples, packed=True)([{"row": 0}, {"row": 1}])
    tokens = model.first_tokens(examples[0][0], examples.answers)
    with torch.inference_mode():
        logits = logits_of(model.model, model, arguments(batch, model.device), batch["ends"], tokens)
    torch.testing.assert_close(logits.reshape(frozen[:2].shape), frozen[:2], atol=1e-6, rtol=0)
    loss = PairLoss("choose" if task == "choose" else kind, PREFERENCES["dpo"](), seed=0)  # type: ignore[arg-type]
    now = Round(examples, frozen, torch.zeros(len(frozen), frozen.shape[1], dtype=torch.bool))
    right = batch["labels"].view(2, -1)
    pairs = loss.pairs(now, torch.tensor([0, 1]), logits.reshape(frozen[:2].shape), right, 0)
    assert pairs.deltas.abs().max() < 1e-5
    # Not because nothing was learnt before.
    raw = Scorer(_without_adapters(run), reuse=False).logits(examples.case(0)[0], examples.answers)
    assert (raw - frozen[0]).abs().max() > 1e-2


def _without_adapters(run: Run) -> Any:
    from palate.mllm.lm.loading import open_model
    from palate.mllm.lm.options import ModelOptions

    return open_model(ModelOptions(name=run.info["options"]["mllm"]["base"]["name"], dtype="float32"))


def test_neutral_hanorec_is_dpo_in_loss_and_gradient(tuned: Callable[..., Run], dataset: Dataset) -> None:
    data = pair_data(tuned(), dataset, num_negatives=3)
    model, examples = data.policy.model, data.typical
    weight = model.core.get_decoder().layers[0].self_attn.q_proj.weight
    weight.requires_grad_(True)
    batch = CaseCollator(model, examples, packed=True)([{"row": row} for row in range(4)])
    tokens = model.first_tokens(examples[0][0], examples.answers)
    generator = torch.Generator().manual_seed(0)
    frozen = torch.randn(len(data.sampler.cases), 4, 2, generator=generator)
    now = Round(examples, frozen, torch.zeros(len(frozen), 4, dtype=torch.bool))
    found = []
    for name, settings in (
        ("dpo", {}),
        ("hanorec", {"hardness": "one", "responsiveness": "one", "sigma": 0.0}),
    ):
        kind = PREFERENCES[name]
        step = PairLoss("item", kind(kind.Config(beta=0.5, **settings)), seed=0)
        logits = logits_of(model.model, model, arguments(batch, model.device), batch["ends"], tokens)
        loss = step(now, torch.arange(4), logits, batch["labels"], 0)[0].sum()
        found.append((loss.item(), torch.autograd.grad(loss, weight)[0]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=0)
    # By hand, from the same logits.
    s = (logits[..., 0] - logits[..., 1]).detach().double()
    r = (frozen[:4, :, 0] - frozen[:4, :, 1]).double()
    deltas = (s[:, :1] - s[:, 1:]) - (r[:, :1] - r[:, 1:])
    by_hand = float(torch.log1p(torch.exp(-0.5 * deltas)).mean(1).sum())
    assert found[0][0] == pytest.approx(by_hand, abs=1e-4)


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_on_adapters_by_hand() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(5, 4, bias=False))
    weight = base[0].weight.detach().clone()
    model: Any = get_peft_model(base, LoraConfig(r=2, lora_alpha=6, target_modules=["0"]))  # type: ignore[arg-type]
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_()
    a, b = (part["default"].weight.detach().clone() for part in (layer.lora_A, layer.lora_B))
    noise = AdapterNoise(model, 0.3, seed=5)
    x = torch.randn(3, 5)
    clean = x @ (weight + 3 * b @ a).T
    model.train()
    torch.testing.assert_close(model(x), clean)  # nothing drawn yet
    noise.draw(7)
    noisy = model(x)
    drawn = {part: noise._drawn[part["default"]] for part in (layer.lora_A, layer.lora_B)}
    a_noisy, b_noisy = a + drawn[layer.lora_A], b + drawn[layer.lora_B]
    torch.testing.assert_close(noisy, x @ (weight + 3 * b_noisy @ a_noisy).T)
    torch.testing.assert_close(model(x), noisy)  # one draw a forward number
    change = 3 * (b_noisy @ a_noisy - b @ a)
    assert noise.ratio() == pytest.approx(float(change.norm() / weight.norm()), rel=1e-5)
    many = torch.cat([value.flatten() for value in drawn.values()])
    assert 0.1 < many.std() < 0.5
    noise.draw(8)
    assert not torch.allclose(model(x), noisy)
    noise.draw(7)
    torch.testing.assert_close(model(x), noisy)
    other = AdapterNoise(
        get_peft_model(torch.nn.Sequential(torch.nn.Linear(5, 4)), LoraConfig(r=2, target_modules=["0"])),
        0.3,
        seed=5,
        worker=1,
    )
    other.draw(7)
    assert not torch.equal(next(iter(other._drawn.values())), drawn[layer.lora_A])
    model.eval()
    torch.testing.assert_close(model(x), clean)
    with model.disable_adapter():
        model.train()
        torch.testing.assert_close(model(x), x @ weight.T)
    assert torch.equal(layer.lora_A["default"].weight, a)
    assert torch.equal(layer.lora_B["default"].weight, b)


# --- rejected items ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["uniform", "popularity", "top-k", "hard"])
def test_drawn_items_are_written_and_read_again(
    dataset: Dataset, retriever: Run, tmp_path: Path, strategy: Any
) -> None:
    cases = training_positions(dataset, np.arange(6), 2)
    config = PairsConfig(negatives=strategy, pool_k=5, num_negatives=2)
    sampler = NegativeSampler(dataset, cases, config, 2, seed=1)
    pools = retrieved(load_recommender(retriever), dataset, cases, 5, mask_future=False) if config.pooled else None
    questions = sampler.draw(0, pools)
    again, other = sampler.draw(0, pools), sampler.draw(1, pools)
    assert np.array_equal(questions.candidates, again.candidates)
    if strategy == "hard":
        assert pools is not None
        assert np.array_equal(questions.candidates[:, 1:], pools[:, :2])
    else:
        assert not np.array_equal(questions.candidates, other.candidates)
    train_log = dataset.train_sequences()
    for row, (user, history) in enumerate(zip(cases.users, cases.histories, strict=True)):
        rejected = questions.candidates[row, 1:]
        assert len(set(rejected)) == 2
        forbidden = [*history, questions.candidates[row, 0]]
        if pools is not None:
            assert set(rejected) <= set(pools[row])
        else:
            forbidden += list(train_log[int(user)])
        assert not set(rejected) & set(forbidden)
    save_pairs(questions, dataset, tmp_path / "pairs.parquet")
    loaded = load_pairs(tmp_path / "pairs.parquet", sampler, 0)
    assert np.array_equal(loaded.candidates, questions.candidates)
    assert np.array_equal(loaded.order, questions.order)
    fewer = replace(sampler, cases=cases.take(np.arange(3)))
    with pytest.raises(PalateError, match="other positions"):
        load_pairs(tmp_path / "pairs.parquet", fewer, 0)


def test_pools_are_the_rankers_best_allowed(dataset: Dataset, retriever: Run) -> None:
    fast = load_recommender(retriever)
    cases = training_positions(dataset, np.arange(4), 2)
    scores = fast.score(cases.histories)
    train_log = dataset.train_sequences()
    for mask in (False, True):
        pools = retrieved(fast, dataset, cases, 6, mask)
        for row, (user, history) in enumerate(zip(cases.users, cases.histories, strict=True)):
            out = {0, *history.tolist(), *cases.targets[row].tolist(), *(train_log[int(user)].tolist() if mask else [])}
            best = sorted((item for item in range(31) if item not in out), key=lambda i: -float(scores[row, i]))
            assert [float(scores[row, item]) for item in pools[row]] == [float(scores[row, item]) for item in best[:6]]
            assert not set(pools[row].tolist()) & out


# --- runs -------------------------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize("noise", ["lora", "logits"])
def test_a_killed_alignment_ends_with_the_same_numbers(
    tuned: Callable[..., Run],
    retriever: Run,
    dataset: Dataset,
    features: dict[str, FeatureStore],
    tmp_path: Path,
    noise: str,
) -> None:
    """With noise, a pool that the policy ranks, and pairs that are drawn again."""
    settings = {
        "preference": {"noise": noise, "sigma": 0.1, "hardness": "calibrated"},
        "pairs": {"negatives": "top-k", "pool_k": 4, "depth": 8, "refresh_steps": 2},
        "lora": {"dropout": 0.2},
        "trainer": {**SMALL, "epochs": 4, "accumulation": 1, "validations_per_epoch": 1, "keep": "last"},
    }

    def go(name: str, **more: Any) -> Run:
        return align_mllm(
            tuned(),
            out=tmp_path / name,
            objective="hanorec",
            settings=settings,
            seed=2,
            retriever=retriever,
            dataset=dataset,
            features=features,
            **more,
        )

    def die(row: dict[str, Any]) -> None:
        if row["step"] == 12:
            raise Killed

    whole = go("whole")
    with pytest.raises(Killed):
        go("cut", on_row=die)
    resumed = go("cut", resume=True)
    assert rows_of(resumed) == rows_of(whole)
    assert [row["step"] for row in rows_of(whole)] == [0, 4, 8, 12, 16]
    for name, value in adapter_of(whole).items():
        assert torch.equal(value, adapter_of(resumed)[name]), name
    rounds = sorted((whole.folder / "pairs").iterdir())
    assert len(rounds) == 8
    drawn = [pl.read_parquet(path)["rejected"].to_list() for path in rounds]
    assert drawn[0] != drawn[1]
    row = rows_of(whole)[-1]
    for fact in ("reward_accuracy", "responsiveness", "beta_mean", "hardness_p50", "chosen_drift", "negatives_later"):
        assert fact in row, fact
    assert ("noise_ratio" in row) == (noise == "lora")
    assert whole.info["hardness"]["mean"] == pytest.approx(1, abs=0.05)
    assert (whole.folder / "alignment.png").read_bytes()[:4] == b"\x89PNG"
    # What is loaded scores as what was trained: clean, adapter on adapter.
    assert (whole.model_folder / "merged" / "0" / "adapter_model.safetensors").is_file()
    loaded = load_recommender(whole)
    assert loaded.describe()["adapter"]
    once = loaded.score([[1, 3]], torch.tensor([[5, 6, 7]]))
    assert torch.equal(once, loaded.score([[1, 3]], torch.tensor([[5, 6, 7]])))
    assert (once - load_recommender(tuned()).score([[1, 3]], torch.tensor([[5, 6, 7]]))).abs().max() > 1e-3


def test_the_reference_is_computed_once(
    tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    go = {"settings": {"trainer": SMALL}, "dataset": dataset, "seed": 9}
    first = align_mllm(tuned(), out=tmp_path / "a", **go)
    assert first.info["reference_prompts"] == 2 * 16
    second = align_mllm(tuned(), out=tmp_path / "b", objective="ipo", **go)
    assert second.info["reference_prompts"] == 0
    third = align_mllm(tuned("llama", "choose"), out=tmp_path / "c", **go)
    assert third.info["reference_prompts"] == 16  # another model
    shorter = {"settings": {"trainer": SMALL, "pairs": {"choices": 3}}, "dataset": dataset, "seed": 9}
    fewer = align_mllm(tuned("llama", "choose"), out=tmp_path / "e", **shorter)
    assert fewer.info["reference_prompts"] == 16  # the same model, lists of another length
    for cached in (tmp_path / "cache" / "references").glob("*.safetensors"):
        cached.write_bytes(b"torn")  # computed again
    fourth = align_mllm(tuned(), out=tmp_path / "d", objective="ipo", **go)
    assert fourth.info["reference_prompts"] == 32
    assert rows_of(fourth) == rows_of(second)


def test_more_is_learnt_than_the_fine_tuned_run_knew(
    tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path
) -> None:
    aligned = align_mllm(
        tuned(),
        out=tmp_path / "run",
        settings={
            "preference": {"beta": 1.0},
            "pairs": {"users": 24, "cutoffs": 3, "num_negatives": 3},
            "trainer": {"epochs": 6, "accumulation": 1, "learning_rate": 1e-2, "keep": "last"},
        },
        dataset=dataset,
    )
    rows = rows_of(aligned)
    assert rows[-1]["loss"] < 0.5 < 0.69
    assert rows[-1]["reward_accuracy"] > 0.7


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "objective", "settings", "words"),
    [
        ("yes-no", "dpo", {"pairs": {"negatives": "top-k"}}, "--retriever"),
        ("yes-no", "dpo", {"pairs": {"negatives": "disliked"}}, "keeps no dislikes"),
        ("yes-no", "dpo", {"pairs": {"negatives": "top-k", "pool_k": 5, "depth": 3}}, "less than the pool"),
        ("yes-no", "dpo", {"pears": {}}, "unknown section 'pears'"),
        ("yes-no", "dpo", {"pairs": {"twins": "out"}}, "do not look at near twins"),
        ("yes-no", "dpo", {"pairs": {"negatives": "shown"}}, "--negatives shown is for rankers"),
        ("yes-no", "dpo", {"pairs": {"negatives": "in-batch"}}, "'in-batch' cannot be used here"),
        ("yes-no", "dpo", {"negatives": {"twin_source": "text"}}, "do not look at near twins"),
        ("yes-no", "dpo", {"preference": {"sigma": 1}}, "unknown option 'sigma'"),
        ("yes-no", "dppo", {}, "dppo"),
        ("yes-no", "hanorec", {"preference": {"hardness": "calibrated"}}, "palate encode"),
        ("choose", "dpo", {"pairs": {"kind": "answer"}}, "letters of one list"),
        ("choose", "dpo", {"pairs": {"num_negatives": 3}}, "letters of one list"),
        ("choose", "bce", {}, "no zero to be judged by.*softmax"),
        ("yes-no", "bce", {"pairs": {"kind": "answer"}}, "no zero to be judged by.*bpr"),
    ],
)
def test_mistakes_are_refused_before_any_work(
    tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path, task: str, objective: str, settings: Any, words: str
) -> None:
    with pytest.raises(PalateError, match=words):
        align_mllm(tuned("llama", task), out=tmp_path / "run", objective=objective, settings=settings, dataset=dataset)
    assert not (tmp_path / "run").exists()


def test_hardness_is_made_from_texts_and_pictures_not_from_controls(dataset: Dataset, tmp_path: Path) -> None:
    from palate.features.matrix import import_matrix
    from palate.mllm.alignment.loss import feature_stores

    assert feature_stores(tmp_path, dataset.catalogue) == {}
    np.save(tmp_path / "m.npy", np.eye(dataset.num_items, 4, dtype=np.float32) + 1)
    (tmp_path / "m.ids.txt").write_text("\n".join(dataset.catalogue.frame["item_id"]))
    for store in ("text", "text-shuffled"):
        import_matrix(dataset, tmp_path, "text", tmp_path / "m.npy", store=store)
    assert list(feature_stores(tmp_path, dataset.catalogue)) == ["text"]


def test_a_forward_of_two_pairs_has_no_responsiveness(tuned: Callable[..., Run], tmp_path: Path) -> None:
    settings = {"preference": {"hardness": "one"}, "trainer": {**SMALL, "batch_size": 2}}
    with pytest.raises(PalateError, match="responsiveness"):
        align_mllm(tuned(), out=tmp_path / "run", objective="hanorec", settings=settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "pairs", "words"),
    [
        ("yes-no", {"negatives": "top-k", "pool_k": 28, "num_negatives": 28}, "28 negatives"),
        ("choose", {"negatives": "top-k", "depth": 28}, "ranks at most 26"),
        ("yes-no", {"negatives": "uniform"}, "have no pool"),
    ],
)
def test_pools_that_cannot_be_are_refused_before_a_run_is_made(
    tuned: Callable[..., Run], retriever: Run, dataset: Dataset, tmp_path: Path, task: str, pairs: Any, words: str
) -> None:
    with pytest.raises(PalateError, match=words):
        align_mllm(
            tuned("llama", task),
            out=tmp_path / "run",
            settings={"pairs": pairs},
            retriever=retriever,
            dataset=dataset,
        )
    assert not (tmp_path / "run" / "run.json").exists()


def test_an_aligned_run_goes_on_with_its_own_positions(
    tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path
) -> None:
    settings = {"trainer": SMALL, "pairs": {"users": 4, "cutoffs": 1}}
    once = align_mllm(tuned(), out=tmp_path / "once", settings=settings, dataset=dataset)
    twice = align_mllm(once, out=tmp_path / "twice", settings={"trainer": SMALL}, dataset=dataset)
    assert twice.info["learnt"] == once.info["learnt"] == {"positions": 4, "validation_cases": 6}
    assert rows_of(twice)[0]["AUC"] == once.info["best"]["AUC"]
    assert len(twice.info["aligned_from"]["adapters"]) == 2


def test_only_language_models_are_aligned_here(retriever: Run, tmp_path: Path) -> None:
    with pytest.raises(PalateError, match="palate align"):
        align_mllm(retriever, out=tmp_path / "run")


def test_with_the_adapter_off_it_is_the_reference(tuned: Callable[..., Run], dataset: Dataset, tmp_path: Path) -> None:
    aligned = align_mllm(
        tuned(), out=tmp_path / "run", settings={"trainer": {**SMALL, "keep": "last"}}, dataset=dataset
    )
    policy, before = load_recommender(aligned), load_recommender(tuned())
    items = torch.tensor([[5, 6, 7, 8]])
    assert (policy.score([[1, 3]], items) - before.score([[1, 3]], items)).abs().max() > 1e-3
    with switched_off(policy.model):
        torch.testing.assert_close(policy.score([[1, 3]], items), before.score([[1, 3]], items), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("objective", "settings", "retriever", "words"),
    [
        ("dpo", {"pairs": {"negatives": "hard"}}, None, "needs a retriever"),
        ("dpo", {}, "run0", "have no pool"),
        ("bce", {"pairs": {"kind": "answer"}}, None, "no zero"),
        ("dpo", {"trainer": {"epochs": 0}}, None, "epochs"),
    ],
)
def test_settings_are_checked_without_the_run(objective: str, settings: Any, retriever: Any, words: str) -> None:
    """As a recipe does, whose arms start from runs that are not there yet."""
    with pytest.raises(PalateError, match=words):
        check_alignment(objective, settings, retriever=retriever)


def test_the_runs_task_decides_what_is_compared(tuned: Callable[..., Run]) -> None:
    settings = {"pairs": {"choices": 3}}
    assert (check_alignment("dpo", settings).kind, check_alignment("dpo", settings).rejected) == ("item", 1)
    checked = check_alignment("dpo", settings, run=tuned("llama", "choose"))
    assert (checked.kind, checked.rejected) == ("choose", 2)
