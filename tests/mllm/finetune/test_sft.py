"""Fine-tuning: what is learnt, for every family, and that a killed run ends like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sft_helpers import tiny_settings
from worlds import two_tastes

from palate.data.dataset import Dataset
from palate.data.positions import training_positions
from palate.errors import PalateError
from palate.mllm.components import load_components
from palate.mllm.finetune.callback import last_checkpoint, remove_torn, validation_steps
from palate.mllm.finetune.collate import Collator, LengthBuckets
from palate.mllm.finetune.examples import Examples, PromptCases
from palate.mllm.finetune.lora import adapted_layers
from palate.mllm.finetune.sft import SFTPlan, fine_tune, training_examples
from palate.mllm.finetune.token_loss import answer_loss
from palate.mllm.finetune.validation import METRICS
from palate.mllm.lm.chat_model import IGNORED
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.zero_shot import zero_shot
from palate.rankers.registry import load_recommender
from palate.runs.run import Run

Tiny = Callable[[str], Path]
FAMILIES = ("llama", "llava", "qwen2.5-vl", "smolvlm")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Templates of few words, which tiny models read faster."""
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "yes-no.txt").write_text("{{preference}}\n\n{{history}}\n\n{{candidate}}?\n")
    (folder / "yes-no-blind.txt").write_text("{{candidate}}?\n")
    return folder


def opened(dataset: Dataset, model: Path, **prompt: Any) -> Any:
    plan = SFTPlan.of(tiny_settings(model, prompt=prompt))
    return load_components(dataset, plan.model, plan.prompt)


def batch_of(dataset: Dataset, parts: Any, rows: int = 6) -> dict[str, torch.Tensor]:
    examples = training_examples(dataset, parts.recommender(), SFTPlan.of(tiny_settings(Path("x"))).examples, seed=0)
    return Collator(parts.model, examples)([{"row": row} for row in range(rows)])


def adapter_of(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.model_folder / "adapter" / "adapter_model.safetensors")


def rows_of(run: Run) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key and "memory" not in key} for row in rows]


# --- what is learnt ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["yes-no", "choose"])
def test_only_the_answer_is_learnt(dataset: Dataset, tiny: Tiny, task: str) -> None:
    parts = opened(dataset, tiny("llama"), task=task)
    batch = batch_of(dataset, parts, rows=4)
    tokenizer = parts.model.tokenizer
    for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
        learnt = ids[labels != IGNORED]
        text = tokenizer.decode(learnt)
        answer, end = text.removesuffix(tokenizer.eos_token), text.endswith(tokenizer.eos_token)
        assert end
        assert answer in (("Yes", "No") if task == "yes-no" else tuple("ABCDEFGHIJ"))
        if task == "yes-no":  # the target comes first, then its negative
            assert answer == ("Yes", "No")[row % 2]
        last = int((labels != IGNORED).nonzero()[-1])
        assert (labels[last + 1 :] == IGNORED).all()  # padding


def test_the_right_letter_is_the_targets(dataset: Dataset, tiny: Tiny) -> None:
    parts = opened(dataset, tiny("llama"), task="choose")
    cases = training_positions(dataset, None, 2)
    examples = Examples(
        PromptCases.draw(dataset, cases, source="uniform", negatives=4, seed=0), parts.prompter, [None] * len(cases)
    )
    for case, (chat, letter) in enumerate(examples):
        title = parts.prompter.items.title(int(cases.targets[case][0]))
        line = next(line for line in chat.text.splitlines() if line.startswith(f"{letter}. "))
        assert title in line


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_that_of_the_answers_by_hand(dataset: Dataset, tiny: Tiny, family: str) -> None:
    parts = opened(dataset, tiny(family), images="none" if family == "llama" else "both")
    batch = batch_of(dataset, parts)
    with torch.no_grad():
        loss, tokens = answer_loss(parts.model.model, batch)
        logits = parts.model.model(**{key: value for key, value in batch.items() if key != "labels"}).logits
    by_hand, count = 0.0, 0
    for row in range(len(logits)):
        for place in range(1, logits.shape[1]):
            if batch["labels"][row, place] != IGNORED:
                by_hand -= float(logits[row, place - 1].log_softmax(-1)[batch["input_ids"][row, place]])
                count += 1
    assert int(tokens) == count
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_trls_own_loss_and_gradient_are_the_same(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    from palate.mllm.finetune.token_loss import TokenLoss
    from palate.mllm.finetune.trainer import build_trainer

    parts = opened(dataset, tiny("llama"))
    plan = SFTPlan.of(tiny_settings(tiny("llama"), lora={"dropout": 0.0}))
    examples = training_examples(dataset, parts.recommender(), plan.examples, seed=0)
    trainer = build_trainer(
        parts.model,
        plan.lora,
        examples.sizes,
        plan.trainer,
        Collator(parts.model, examples),
        batch_size=4,
        out=tmp_path,
        device="cpu",
        seed=0,
    )
    trainer.step_loss = TokenLoss()
    batch = trainer.data_collator([{"row": row} for row in range(6)])

    def once(picks: bool, count: int | None) -> tuple[float, list[torch.Tensor]]:
        trainer.picks = picks
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
        loss.backward()
        return float(loss.detach()), [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]

    for count in (None, 40):
        ours, gradient = once(True, count)
        theirs, reference = once(False, count)
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert len(gradient) == len(reference) > 0
        for mine, other in zip(gradient, reference, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_the_answer_cannot_be_read_off_the_prompt(dataset: Dataset, tiny: Tiny) -> None:
    """Yes and No prompts differ in the candidate alone, and no prompt knows what came at or after its position."""
    parts = opened(dataset, tiny("llama"), history_items=20)
    cases = training_positions(dataset, None, 3)
    questions = PromptCases.draw(dataset, cases, source="uniform", negatives=1, seed=0)
    examples = Examples(questions, parts.prompter, [None] * len(cases))
    title = parts.prompter.items.title
    for case in range(len(cases)):
        yes, no = (examples[2 * case + place][0].text.splitlines() for place in (0, 1))
        differ = [(mine, other) for mine, other in zip(yes, no, strict=True) if mine != other]
        assert differ == [tuple(f'"{title(int(item))}"' for item in questions.candidates[case])]
        user = int(cases.users[case])
        later = dataset.items[dataset.offsets[user] + len(cases.histories[case]) : dataset.offsets[user + 1]]
        listed = {line.removeprefix("- ") for line in yes if line.startswith("- ")}
        assert listed == {f'"{title(int(item))}"' for item in cases.histories[case]}
        assert not listed & {f'"{title(int(item))}"' for item in later}


# --- where the adapters are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_leave_the_vision_tower_alone(tiny: Tiny, family: str) -> None:
    model = open_model(ModelOptions(name=str(tiny(family)), dtype="float32"))
    layers = adapted_layers(model, projector=False)
    assert len(layers) == 2 * 7  # q, k, v, o, gate, up, down
    assert not any("vision" in name or "visual" in name or "lm_head" in name for name in layers)
    if family == "llama":
        with pytest.raises(PalateError, match="no projector"):
            adapted_layers(model, projector=True)
    else:
        more = adapted_layers(model, projector=True)
        assert more[: len(layers)] == layers
        assert len(more) > len(layers)


# --- order ------------------------------------------------------------------------------------------------------------


def test_batches_hold_like_lengths_in_an_order_of_the_epoch() -> None:
    lengths = np.random.default_rng(0).integers(10, 1000, 203).tolist()
    epoch = 0
    sampler = LengthBuckets(lengths, 8, seed=1, epoch=lambda: epoch)
    first = list(sampler)
    assert sorted(first) == list(range(203))
    assert first == list(sampler)
    epoch = 1
    assert first != list(sampler)
    steps = [first[start : start + 8] for start in range(0, 203, 8)]
    spread = np.mean([max(lengths[row] for row in step) - min(lengths[row] for row in step) for step in steps])
    assert spread < 100  # of 990
    middles = [np.mean([lengths[row] for row in step]) for step in steps]
    assert not (np.diff(middles) > 0).all()  # short ones do not all come first


def test_validations_are_spread_over_the_epochs() -> None:
    assert sorted(validation_steps(12, epochs=2, parts=2)) == [3, 6, 9, 12]
    assert sorted(validation_steps(3, epochs=1, parts=10)) == [1, 2, 3]


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_two_steps_of_every_family(dataset: Dataset, tiny: Tiny, tmp_path: Path, family: str) -> None:
    settings = tiny_settings(
        tiny(family),
        prompt={"images": "none" if family == "llama" else "both"},
        lora={"projector": family != "llama"},
        trainer={"keep": "last", "gradient_checkpointing": family in ("llava", "llama")},
    )
    before = open_model(ModelOptions(name=str(tiny(family)), dtype="float32"))
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu")
    assert run.finished
    assert [row["step"] for row in rows_of(run)] == [0, 2]
    assert (run.folder / "learning-curve.png").stat().st_size > 1000
    assert not (run.folder / "checkpoints").exists()
    trained = adapter_of(run)
    moved = [name for name, value in trained.items() if "lora_B" in name and value.abs().sum() > 0]
    # Every adapter of the language model has learnt; a merger before the last may have no say in a tiny tower.
    assert len([name for name in moved if "layers" in name]) == 2 * 7
    recommender = load_recommender(run)
    histories, candidates = [[1, 3], [2]], torch.tensor([[5, 2, 8], [4, 7, 9]])
    scores = recommender.score(histories, candidates)
    assert torch.isfinite(scores).all()
    plain = zero_shot(
        dataset, out=tmp_path / "plain", settings={k: settings[k] for k in ("model", "prompt")}, device="cpu"
    )
    assert not torch.equal(scores, load_recommender(plain).score(histories, candidates))
    after = open_model(ModelOptions(name=str(tiny(family)), dtype="float32"))
    assert before.fingerprint == after.fingerprint


def test_a_bfloat16_model_trains_fp32_adapters(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny_settings(tiny("llava"), model={"dtype": "bfloat16"}, prompt={"images": "candidate"})
    settings["trainer"]["keep"] = "last"
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu")
    assert {value.dtype for value in adapter_of(run).values()} == {torch.float32}
    assert run.info["options"]["mllm"]["base"]["dtype"] == "bfloat16"
    assert all(np.isfinite(row["valid_loss"]) for row in rows_of(run))


def test_it_learns_what_there_is_to_learn(dataset: Dataset, tiny: Tiny, brief: Path, tmp_path: Path) -> None:
    """Users keep to one colour. Who sees the history finds that out; the blind control cannot."""
    found = {}
    for blind in (False, True):
        settings = tiny_settings(
            tiny("llama"),
            prompt={"blind": True} if blind else {"history_items": 2},
            examples={"users": 24, "cutoffs": 4, "validate_users": 24, "validate_negatives": 4},
            lora={"r": 16, "dropout": 0.0},
            trainer={"epochs": 3, "batch_size": 16, "learning_rate": 1e-2},
        )
        run = fine_tune(dataset, out=tmp_path / f"run-{blind}", settings=settings, device="cpu", prompts=brief)
        rows = rows_of(run)
        found[blind] = run.info["best"]["AUC"]
        assert found[blind] == max(row["AUC"] for row in rows)
        assert rows[-1]["loss"] < rows[1]["loss"]
    assert found[False] > 0.7
    assert found[True] < 0.65


# --- resume -----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for a kill, between two lines of the log."""


Go = Callable[..., Run]


@pytest.fixture(scope="module")
def go(dataset: Dataset, tiny: Tiny, brief: Path) -> Go:
    """Eight steps of two batches, with dropout."""
    settings = tiny_settings(
        tiny("llama"),
        examples={"users": 8, "cutoffs": 2, "validate_users": 6},
        lora={"dropout": 0.3},
        trainer={"epochs": 2, "accumulation": 2, "batch_size": 4, "validations_per_epoch": 3, "learning_rate": 1e-2},
    )

    def train(out: Path, minutes: float = 10, lora: int = 8, **more: Any) -> Run:
        settings["trainer"]["checkpoint_minutes"] = minutes
        settings["lora"]["r"] = lora
        return fine_tune(dataset, out=out, settings=settings, seed=3, device="cpu", prompts=brief, **more)

    return train


@pytest.fixture(scope="module")
def whole(go: Go, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = go(tmp_path_factory.mktemp("runs") / "whole")
    assert [row["step"] for row in rows_of(run)] == [0, 1, 3, 4, 5, 7, 8]
    return run


@pytest.mark.parametrize(("stop", "at"), [(3, 1), (5, 4), (3, 2)])
def test_a_killed_run_ends_with_the_same_numbers(go: Go, whole: Run, tmp_path: Path, stop: int, at: int) -> None:
    """Killed in the middle of an epoch, at its end, and with a checkpoint between two validations."""
    out, minutes = tmp_path / "cut", 1e-9 if at == 2 else 10.0

    def die(row: dict[str, Any]) -> None:
        if row["step"] == stop:
            raise Killed

    with pytest.raises(Killed):
        go(out, minutes, on_row=die)
    # A checkpoint that was being written when the power went.
    torn = out / "checkpoints" / "checkpoint-6"
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{")
    complete = last_checkpoint(out / "checkpoints")
    assert complete is not None
    assert complete[0].name == f"checkpoint-{at}"
    remove_torn(out / "checkpoints")
    assert not torn.exists()
    assert last_checkpoint(out / "checkpoints") == complete
    torn.mkdir()
    with pytest.raises(PalateError, match="--resume"):
        go(out, minutes)
    resumed = go(out, minutes, resume=True)
    assert rows_of(resumed) == rows_of(whole)
    for name, value in adapter_of(whole).items():
        assert torch.equal(value, adapter_of(resumed)[name]), name
    assert resumed.info["best"]["step"] == whole.info["best"]["step"]
    assert go(out, minutes, resume=True).info == resumed.info  # finished: nothing is done again
    with pytest.raises(PalateError, match=r"other options \(.*lora.*, now 4"):
        go(out, minutes, lora=4, resume=True)
    resumed.add(workers=2)
    with pytest.raises(PalateError, match=r"was started with 2 worker.* now there are 1") as refused:
        go(out, minutes, resume=True)
    assert "--nproc-per-node 2" in str(refused.value)


def test_killed_behind_the_last_step(go: Go, whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("palate.mllm.finetune.run.summary", die)
        patch.setattr("palate.mllm.finetune.run.shutil.rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            go(tmp_path / "cut")
    assert not Run.open(tmp_path / "cut").finished
    resumed = go(tmp_path / "cut", resume=True)
    assert resumed.finished
    assert rows_of(resumed) == rows_of(whole)
    for name, value in adapter_of(whole).items():
        assert torch.equal(value, adapter_of(resumed)[name]), name


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"prompt": {"images": "both"}}, "takes none"),
        ({"prompt": {"summary": "recurrent"}}, "no store is named"),
        ({"prompt": {"task": "rank"}}, "task"),
        ({"prompt": {"task": "choose"}, "examples": {"choices": 40}}, "choices"),
        ({"examples": {"choices": 4}}, "--choices has no meaning with --task yes-no"),
        ({"prompt": {"task": "choose"}, "examples": {"negatives_per_positive": 2}}, "--task choose"),
        ({"examples": {"negatives": "hard"}}, "negatives"),
        ({"examples": {"negatives_per_positive": 29}}, "leaves"),
        ({"lora": {"rank": 8}}, "Choose one of: alpha"),
        ({"trainer": {"learning_rate": 0}}, "learning_rate"),
        ({"scoring": {"rotation": 2}}, "rotations"),
        ({"model": {"dtype": "float23"}}, "float32"),
        ({"model": {"name": "no/such-model"}}, "no/such-model"),
    ],
)
def test_mistakes_are_refused_before_any_work(
    dataset: Dataset, tiny: Tiny, tmp_path: Path, sections: dict[str, Any], words: str
) -> None:
    with pytest.raises(PalateError) as error:
        fine_tune(dataset, out=tmp_path / "run", settings=tiny_settings(tiny("llama"), **sections), device="cpu")
    assert words in str(error.value)
    assert not (tmp_path / "run").exists()


def test_prompts_longer_than_the_model_reads(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "yes-no-blind.txt").write_text("word " * 2000 + "\n\n{{candidate}}\n")
    settings = tiny_settings(tiny("llama"), prompt={"blind": True})
    with pytest.raises(PalateError, match=r"the longest prompt has [0-9]+ tokens"):
        fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu", prompts=tmp_path / "prompts")


def test_an_occupied_folder_is_refused(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny_settings(tiny("llama"))
    zero_shot(dataset, out=tmp_path / "run", settings={k: settings[k] for k in ("model", "prompt")}, device="cpu")
    for call in (
        lambda: fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu"),
        lambda: zero_shot(dataset, out=tmp_path / "run", settings={"model": settings["model"]}, device="cpu"),
    ):
        with pytest.raises(PalateError, match="holds a run already"):
            call()


def test_metrics_of_both_tasks(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny_settings(tiny("llama"), prompt={"task": "choose"}, examples={"choices": 4})
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings, device="cpu")
    assert run.info["metric"] == METRICS["choose"] == "accuracy"
    assert run.info["learnt"] == {"users": 4, "positions": 4, "examples": 4, "validation_cases": 3}
