"""Families that differ from Llama: what their heads, caches, masks and processors do is found out, not guessed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("peft")

from sft_helpers import tiny_settings
from tiny_families import blind_model, tiny_family
from worlds import two_tastes

from palate.data.dataset import Dataset
from palate.errors import PalateError
from palate.mllm.finetune.lora import adapted_layers
from palate.mllm.finetune.sft import fine_tune
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.scoring.agreement import Float32, disagreement, in_float32
from palate.mllm.scoring.scorer import Scorer
from palate.mllm.zero_shot import zero_shot

ANSWERS = ("Yes", "No")
LEAD = "history: the user bought a cream and a lipstick; candidate: "
Model = Callable[..., ChatModel]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = tiny_family(tmp_path_factory.mktemp("families") / family, family)
        return made[family]

    return of


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tastes(tmp_path_factory.mktemp("tastes"))


def own_logits(model: ChatModel, chats: list[Chat], answers: tuple[str, ...] = ANSWERS) -> torch.Tensor:
    tokens = model.first_tokens(chats[0], answers)
    with torch.inference_mode():
        return torch.stack([model.core(**model.collate([model.encode(chat)])).logits[0, -1, tokens] for chat in chats])


CHATS = [Chat((f"{LEAD}item {'long ' * number}name. Would the user take it?",)) for number in range(3)]


# Multiplied, divided, capped, or announced by the text's configuration and left out by the model that sees.
@pytest.mark.parametrize(
    "family", ["cohere2", "aya_vision", "granite", "hyperclovax", "falcon_h1", "gemma2", "nanochat"]
)
@pytest.mark.filterwarnings("ignore:.*read as a whole")
def test_logits_are_the_models_own_whatever_its_head_does(folder: Callable[[str], Path], family: str) -> None:
    model = open_model(str(folder(family)))
    found = Scorer(model).logits(CHATS, ANSWERS)
    assert model.short_head
    torch.testing.assert_close(found, own_logits(model, CHATS), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama4", "cohere2_vision", "lfm2_vl"])
@pytest.mark.filterwarnings("ignore:.*read as a whole")
def test_models_whose_base_has_another_name_or_scale(family: str) -> None:
    model = ChatModel(family, *blind_model(family), fingerprint="")
    found = Scorer(model).logits(CHATS, ANSWERS)
    torch.testing.assert_close(found, own_logits(model, CHATS), atol=1e-4, rtol=1e-5)


def test_a_head_of_its_own_kind_is_used_itself(folder: Callable[[str], Path]) -> None:
    """Logits that depend on all tokens cannot be made of a few."""
    model = open_model(str(folder("qwen3")))
    plain = type(model.core).forward

    class Centred(type(model.core)):  # type: ignore[misc]
        def forward(self, *args: Any, **more: Any) -> Any:
            out = plain(self, *args, **more)
            out.logits = out.logits - out.logits.mean(dim=-1, keepdim=True)
            return out

    model.core.__class__ = Centred
    with pytest.warns(UserWarning, match="makes its logits in a way of its own"):
        found = Scorer(model).logits(CHATS, ANSWERS)
    assert not model.short_head
    torch.testing.assert_close(found, own_logits(model, CHATS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["falcon_h1", "qwen3_5_text", "qwen3_next", "lfm2", "mamba"])
def test_hybrid_models_fall_back_and_say_so(folder: Callable[[str], Path], family: str, dtype: str) -> None:
    model = open_model(ModelOptions(name=str(folder(family)), dtype=dtype))
    scorer = Scorer(model)
    with pytest.warns(UserWarning, match="fails .* every prompt is read as a whole instead"):
        found = scorer.logits(CHATS, ANSWERS)
    assert not scorer.reuse
    torch.testing.assert_close(
        found, own_logits(model, CHATS).float(), atol=1e-4 if dtype == "float32" else 0.1, rtol=0
    )


@pytest.mark.parametrize("family", ["falcon_h1", "mamba"])
def test_layers_that_a_kernel_reads_past_get_no_adapter(folder: Callable[[str], Path], family: str) -> None:
    names = adapted_layers(open_model(str(folder(family))), projector=False)
    assert names
    assert not [name for name in names if name.endswith("out_proj")]
    assert any(name.endswith("in_proj") for name in names)


def test_layers_that_are_called_keep_theirs(folder: Callable[[str], Path]) -> None:
    names = adapted_layers(open_model(str(folder("qwen3_5_text"))), projector=False)
    assert any(name.endswith("linear_attn.out_proj") for name in names)


@pytest.mark.parametrize("family", ["gemma3", "paligemma"])
def test_errors_of_structure_are_seen_in_half_precision(folder: Callable[[str], Path], family: str) -> None:
    """Their pictures see what follows them: off by less than 0.25, which rounding once excused."""
    model = open_model(ModelOptions(name=str(folder(family)), dtype="bfloat16"))
    shown = ((), (Picture(None),), (Picture(None),))
    chats = [Chat((LEAD, *pictures, "item name. Would the user take it?")) for pictures in shown]
    chats[2] = Chat((*chats[2].parts, " " + "long " * 20))
    scorer = Scorer(model)
    with pytest.warns(UserWarning, match="scores differently"):
        scorer.logits(chats, ANSWERS)
    assert not scorer.reuse


def test_fp32_without_another_model(folder: Callable[[str], Path]) -> None:
    """The same weights, computed exactly."""
    model = open_model(ModelOptions(name=str(folder("gemma2")), dtype="bfloat16"))
    exact = copy.deepcopy(model.core).float()
    batch = model.collate([model.encode(CHATS[0])])
    with torch.inference_mode():
        found, was = in_float32(model, lambda: model.core(**batch).logits)
        rounded = model.core(**batch).logits
        expected = exact(**batch).logits
    assert was
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (rounded.float() - expected).abs().max() > 1e-3, "nothing is tested"
    assert model.core.dtype == torch.bfloat16
    with Float32():
        assert model.core.dtype == torch.float32
        model.core.to(memory_format=torch.contiguous_format)
    assert model.core.dtype == torch.bfloat16, "weights stay as they are, also where a model moves them itself"


def test_where_fp32_cannot_be_had_rounding_is_measured(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(ModelOptions(name=str(folder("gemma2")), dtype="bfloat16"))
    plain = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    shift = torch.tensor([[0.03, -0.03], [0.0, 0.0]])

    def compare(noise: float) -> tuple[float, float]:
        calls = iter([RuntimeError("this kernel takes half precision only")])

        def read() -> torch.Tensor:
            for error in calls:
                raise error
            return plain

        return disagreement(model, read, lambda: plain + shift, lambda: plain + noise * shift)

    far, allowed = compare(0.1)
    assert far == pytest.approx(0.03)
    assert allowed == pytest.approx(0.02)
    far, allowed = compare(1.0)  # the plain way is as far from itself with other padding
    assert allowed == pytest.approx(0.06)


def test_longer_prompts_are_compared_again(folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(open_model(str(folder("qwen3"))))
    compared = []
    plain = scorer._disagreement

    def counted(shared: Any, *others: Any) -> Any:
        compared.append(max(map(len, shared.wholes)))
        return plain(shared, *others)

    monkeypatch.setattr(scorer, "_disagreement", counted)
    for words in (10, 10, 11, 40, 40, 10):
        scorer.logits([Chat((f"{'word ' * words}{one}?",)) for one in ("A", "B C")], ANSWERS)
    assert len(compared) == 2


@pytest.mark.filterwarnings("ignore:.*makes its logits")
def test_a_forward_that_fails_is_one_sentence(
    dataset: Dataset, folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And is refused before a run is made."""
    model = open_model(str(folder("qwen3")))

    def fail(self: Any, *args: Any, **more: Any) -> Any:
        raise ValueError("no such mask\nsee above")

    monkeypatch.setattr(type(model.core), "forward", fail)
    with pytest.raises(PalateError, match=r"\(qwen3\) fails while it reads a prompt \(ValueError: no such mask\)"):
        Scorer(model).logits(CHATS, ANSWERS)
    settings = tiny_settings(folder("qwen3"))
    for make, some in ((fine_tune, settings), (zero_shot, {"model": settings["model"]})):
        with pytest.raises(PalateError, match="fails while it reads a prompt"):
            make(dataset, out=tmp_path / "run", settings=some, device="cpu")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["mllama", "llava_onevision", "internvl", "minicpmv4_6"])
@pytest.mark.filterwarnings("ignore:.*read as a whole")
def test_pictures_are_batched_by_their_shapes(folder: Callable[[str], Path], family: str) -> None:
    """None, one and two pictures in one batch score as they do alone."""
    model = open_model(str(folder(family)))
    chats = [Chat((LEAD, *[Picture(None), "and "] * number, "Would the user take it?")) for number in range(3)]
    found = Scorer(model).logits(chats, ANSWERS)
    torch.testing.assert_close(found, own_logits(model, chats), atol=1e-4, rtol=0)
    labels = model.collate([model.encode(chat, "Yes") for chat in chats], labels=True)
    assert all(len(value) for value in labels.values())
