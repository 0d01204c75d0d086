"""Prompts that share a row: they score, and teach, as they would on their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sft_helpers import option_logits_of, tiny_settings
from torch.nn.functional import softplus
from worlds import two_tastes

from palate.data.dataset import Dataset
from palate.mllm.components import load_components
from palate.mllm.finetune.option_loss import CaseCollator, can_pack
from palate.mllm.finetune.sft import SFTPlan, fine_tune, training_examples
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.chat import Chat
from palate.mllm.scoring.packed import takes_masks
from palate.mllm.scoring.scorer import Scorer

pytest.importorskip("trl")

Tiny = Callable[[str], Path]
FAMILIES = ("llama", "llava", "qwen2.5-vl", "qwen3-vl", "smolvlm", "idefics3")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


def lessons_of(dataset: Dataset, model: Path, **sections: dict[str, Any]) -> tuple[Any, Any]:
    settings = {"examples": {"negatives_per_positive": 3}} if sections.get("prompt", {}).get("task") != "choose" else {}
    plan = SFTPlan.of(tiny_settings(model, **{**settings, **sections}))
    parts = load_components(dataset, plan.model, plan.prompt)
    return parts, training_examples(dataset, parts.recommender(), plan.examples, seed=0)


@pytest.mark.parametrize("images", ["none", "candidate", "both"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_prompts_score_as_on_their_own(dataset: Dataset, tiny: Tiny, family: str, images: str) -> None:
    if family == "llama" and images != "none":
        pytest.skip("it takes no pictures")
    parts, examples = lessons_of(dataset, tiny(family), prompt={"images": images})
    rows = [{"row": row} for row in range(3)]  # of different lengths, with and without pictures
    batch = CaseCollator(parts.model, examples, packed=True)(rows)
    assert batch["ends"].shape == (3, 4)
    assert batch["labels"].tolist() == [[0, 1, 1, 1]] * 3
    assert batch["shift_labels"] is batch["labels"]
    with torch.inference_mode():
        found = option_logits_of(parts, batch, examples.answers, examples[0][0])
    scorer = Scorer(parts.model, reuse=False)
    for case in range(3):
        chats, _ = examples.case(case)
        naive = scorer.logits(chats, examples.answers)
        torch.testing.assert_close(found[case], naive, atol=1e-4, rtol=1e-4)
        assert naive.std(dim=0).min() > 1e-3  # prompts do differ
    whole = sum(len(parts.model.encode(examples[row][0])) for row in range(12))
    assert batch["read"] < 0.8 * whole


def test_an_attention_of_its_own_is_not_packed(dataset: Dataset, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, examples = lessons_of(dataset, tiny("llama"))
    assert can_pack(parts.model, examples)
    # What packing gets wrong is seen, and said.
    monkeypatch.setattr(
        "palate.mllm.scoring.packed._mask", lambda case, longest, dtype: torch.zeros(longest, longest).tril()
    )
    with pytest.warns(UserWarning, match="where prompts are packed"):
        assert not can_pack(parts.model, examples)
    monkeypatch.undo()
    monkeypatch.setattr(parts.model.core.config, "_attn_implementation", "flash_attention_2")
    assert not takes_masks(parts.model)


@pytest.mark.parametrize("family", ["llama", "llava"])
def test_loss_and_gradient_do_not_depend_on_packing(dataset: Dataset, tiny: Tiny, family: str) -> None:
    prompt = {} if family == "llama" else {"images": "candidate"}
    parts, examples = lessons_of(dataset, tiny(family), prompt=prompt)
    parts.model.model.train()
    weight = parts.model.core.get_decoder().layers[0].self_attn.q_proj.weight
    weight.requires_grad_(True)
    found = []
    for packed in (True, False):
        batch = CaseCollator(parts.model, examples, packed)([{"row": 0}, {"row": 1}])
        both = option_logits_of(parts, batch, examples.answers, examples[0][0])
        loss = torch.nn.functional.cross_entropy(both.flatten(0, 1), batch["labels"].flatten(), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, weight)
        found.append((loss.item(), gradient))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=1e-4)
    # By the score alone: the target's should be high, the others' low.
    scorer = Scorer(parts.model, reuse=False)
    by_hand = 0.0
    for case in (0, 1):
        scores = scorer.log_odds(examples.case(case)[0], "Yes", "No")
        by_hand += float(softplus(-scores[0]) + softplus(scores[1:]).sum())
    assert found[0][0] == pytest.approx(by_hand, abs=1e-4)


def test_a_list_to_choose_from_is_one_prompt(dataset: Dataset, tiny: Tiny) -> None:
    parts, examples = lessons_of(dataset, tiny("llama"), prompt={"task": "choose"}, examples={"choices": 4})
    assert list(examples.answers) == ["A", "B", "C", "D"]
    batch = CaseCollator(parts.model, examples, packed=True)([{"row": 0}, {"row": 1}])
    assert batch["ends"].shape == (2, 1)
    assert batch["labels"][:, 0].tolist() == [examples.questions.listed(row)[1] for row in (0, 1)]
    with torch.inference_mode():
        found = option_logits_of(parts, batch, examples.answers, examples[0][0])
    naive = Scorer(parts.model, reuse=False).logits([examples[row][0] for row in (0, 1)], examples.answers)
    torch.testing.assert_close(found[:, 0], naive, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("family", "task"), [("llama", "yes-no"), ("llama", "choose"), ("smolvlm", "yes-no")])
def test_fine_tuning_on_the_options(dataset: Dataset, tiny: Tiny, tmp_path: Path, family: str, task: str) -> None:
    settings = tiny_settings(
        tiny(family),
        prompt={"task": task, **({"images": "candidate"} if family == "smolvlm" else {})},
        examples={"choices": 4} if task == "choose" else {"negatives_per_positive": 3},
        trainer={"loss": "options", "batch_size": 8, "epochs": 2, "keep": "last", "accumulation": 2},
    )
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings)
    assert run.finished
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    # Four cases: two (of four questions each) a batch, or all four lists; two batches a step, or what there is.
    assert rows[-1]["step"] == 2
    assert all(0 < row["loss"] < 5 for row in rows[1:])
    adapter = load_file(run.model_folder / "adapter" / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in adapter.items() if "lora_B" in name)


def test_pictures_are_remembered_without_a_graph(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    """Checkpointing makes the tower's input ask for a gradient; a picture that comes up again has no graph left."""
    settings = tiny_settings(
        tiny("llava"),
        prompt={"images": "candidate"},
        examples={"users": 8, "cutoffs": 3},
        trainer={"loss": "options", "gradient_checkpointing": True, "epochs": 2},
    )
    assert fine_tune(dataset, out=tmp_path / "run", settings=settings).finished


def test_remembered_features_survive_being_sent_to_a_device() -> None:
    from torch.distributed.utils import _recursive_to

    from palate.mllm.scoring.image_cache import _EncoderOutput

    (sent,) = _recursive_to(_EncoderOutput(pooler_output=[torch.ones(2)]), torch.device("cpu"), False)
    assert isinstance(sent, _EncoderOutput)
    assert torch.equal(sent.pooler_output[0], torch.ones(2))


def test_attention_that_does_not_reach_far_is_found_out(dataset: Dataset, tiny: Tiny) -> None:
    """The longest prompt tells, not the first."""
    from transformers import MistralConfig, MistralForCausalLM

    parts, examples = lessons_of(dataset, tiny("llama"))
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    width = len(parts.model.tokenizer)
    torch.manual_seed(0)
    for window, packs in ((8, False), (4096, True)):
        config = MistralConfig(vocab_size=width, num_key_value_heads=2, sliding_window=window, **shape)
        parts.model.model = MistralForCausalLM(config).eval()
        if packs:
            assert can_pack(parts.model, examples)
        else:
            with pytest.warns(UserWarning, match="where prompts are packed"):
                assert not can_pack(parts.model, examples)


def test_prompts_beyond_the_models_window_are_not_packed(tiny: Tiny) -> None:
    """Each prompt is only a little longer than the one before, so none of them is compared again."""
    from transformers import MistralConfig, MistralForCausalLM

    model = open_model(str(tiny("llama")))
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)

    def prompts(words: int) -> list[Chat]:
        return [Chat(("history: " + "cream " * words + f"candidate: {one}. Take it?",)) for one in ("A", "B", "C D")]

    lengths = [max(len(model.encode(chat)) for chat in prompts(words)) for words in (20, 22, 24)]
    window = lengths[0]
    assert lengths[0] < lengths[1] < lengths[2] < 1.25 * window
    config = MistralConfig(vocab_size=len(model.tokenizer), num_key_value_heads=2, sliding_window=window, **shape)
    model.model = MistralForCausalLM(config).eval()
    scorer, plain = Scorer(model), Scorer(model, reuse=False)
    for words in (20, 22, 24):
        chats = prompts(words)
        found, expected = scorer.logits(chats, ("Yes", "No")), plain.logits(chats, ("Yes", "No"))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert scorer._packs


def test_a_killed_run_ends_with_the_same_numbers(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    settings = tiny_settings(
        tiny("llava"),
        prompt={"images": "candidate"},
        examples={"users": 8},
        lora={"dropout": 0.3},
        trainer={"loss": "options", "epochs": 2, "validations_per_epoch": 2, "learning_rate": 1e-2},
    )

    def go(name: str, **more: Any) -> Any:
        return fine_tune(dataset, out=tmp_path / name, settings=settings, device="cpu", **more)

    def die(row: dict[str, Any]) -> None:
        if row["step"] == 6:
            raise Killed

    whole = go("whole")
    with pytest.raises(Killed):
        go("cut", on_row=die)
    resumed = go("cut", resume=True)
    found = []
    for run in (whole, resumed):
        rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
        found.append([(row["step"], row["AUC"], row["valid_loss"], row.get("loss"), row.get("tokens")) for row in rows])
    assert found[0] == found[1]
    assert [row[0] for row in found[0]] == [0, 2, 4, 6, 8]
    weights = [load_file(run.model_folder / "adapter" / "adapter_model.safetensors") for run in (whole, resumed)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_it_learns_what_there_is_to_learn(dataset: Dataset, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny_settings(
        tiny("llama"),
        examples={"users": 24, "cutoffs": 3, "validate_users": 24, "negatives_per_positive": 3},
        trainer={"loss": "options", "batch_size": 16, "epochs": 6, "learning_rate": 2e-2},
    )
    run = fine_tune(dataset, out=tmp_path / "run", settings=settings)
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert max(row["AUC"] for row in rows) > 0.7 > 0.6 > rows[0]["AUC"]
