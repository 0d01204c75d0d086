"""Opening models: every family by folder, its batches, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")

from tiny_llms import FAMILIES, VISION_FAMILIES

from palate.errors import PalateError
from palate.mllm.lm.chat_model import IGNORED
from palate.mllm.lm.fingerprint import weights_fingerprint
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.prompts.chat import Chat, Picture

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """Three pictures of different shapes."""
    folder = tmp_path_factory.mktemp("pictures")
    made = []
    for number, size in enumerate(((80, 60), (60, 100), (40, 40))):
        noise = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
        made.append(Picture(folder / f"{number}.png"))
    return made


def chats(pictures: list[Picture], takes_pictures: bool) -> list[Chat]:
    text = Chat(("A user liked: Toy Story. ", "Would the user take GoldenEye?"))
    if not takes_pictures:
        return [text, Chat(("Yes?",)), Chat(("A much longer question of the user about films and posters?",))]
    return [
        text,
        Chat(("Look: ", pictures[0], " Yes or No?")),
        Chat((pictures[1], " and ", pictures[2], " A film?")),
        Chat(("Yes?",)),
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_what_its_rows_say_alone(tiny: Tiny, pictures: list[Picture], family: str, side: str) -> None:
    model = open_model(str(tiny(family)))
    assert model.takes_pictures == (family in VISION_FAMILIES)
    rows = [model.encode(chat, answer="Yes") for chat in chats(pictures, model.takes_pictures)]
    assert len({len(row) for row in rows}) > 1
    with torch.inference_mode():
        batch = model.collate(rows, side=side)
        together = model.model(**batch).logits
        for number, row in enumerate(rows):
            alone = model.model(**model.collate([row])).logits[0]
            ours = together[number][batch["attention_mask"][number].bool()]
            torch.testing.assert_close(ours, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", VISION_FAMILIES)
def test_pictures_are_felt_each_in_its_place(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    model = open_model(str(tiny(family)))
    first, second = pictures[0], Picture(None)
    with torch.inference_mode():
        here, there, again = (
            model.model(**model.collate([model.encode(Chat(parts))])).logits[0, -1]
            for parts in ((first, second, "?"), (second, first, "?"), (first, second, "?"))
        )
    assert torch.equal(here, again)
    assert (here - there).abs().max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_the_answer_and_the_end_of_the_turn(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    model = open_model(str(tiny(family)))
    rows = [model.encode(chat, answer="Yes") for chat in chats(pictures, model.takes_pictures)]
    labels = model.collate(rows, labels=True)["labels"]
    for row in labels:
        assert model.tokenizer.decode(row[row != IGNORED]) == "Yes<|im_end|>"


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_goes_on_from_left_padding(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    model = open_model(str(tiny(family)))
    rows = [model.encode(chat) for chat in chats(pictures, model.takes_pictures)]
    batch = model.collate(rows, side="left")
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    together = model.core.generate(**batch, **options)[:, batch["input_ids"].shape[1] :]
    for number, row in enumerate(rows):
        alone = model.core.generate(**model.collate([row]), **options)[0, len(row) :]
        assert together[number].tolist() == alone.tolist()


def test_the_fingerprint_is_of_weights_and_speech_not_of_the_place(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llava"), tmp_path / "copy")
    before = open_model(str(tiny("llava"))).fingerprint
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "transformers_version": "5.0.0"}))
    assert open_model(str(folder)).fingerprint == before
    (folder / "chat_template.jinja").write_text((folder / "chat_template.jinja").read_text() + " ")
    spoken = open_model(str(folder)).fingerprint
    weights = load_file(folder / "model.safetensors")
    weights["multi_modal_projector.linear_1.bias"] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert len({before, spoken, open_model(str(folder)).fingerprint}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer_config.json",
        "processor_config.json",
        "generation_config.json",
        "special_tokens_map.json",
        "vocab.json",
        "merges.txt",
        "chat_template.json",
        "additional_chat_templates/tool_use.jinja",
    ],
)
def test_whatever_shapes_prompts_and_answers_is_in_the_fingerprint(tiny: Tiny, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny("llava"), tmp_path / "copy")
    where = {"pretrained_model_name_or_path": str(folder), "revision": "main"}
    before = weights_fingerprint(where)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    held = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**held, "one": {"more": 1}}))
    changed = weights_fingerprint(where)
    assert changed != before
    path.write_text(json.dumps({**held, "one": {"more": 2}}))
    assert weights_fingerprint(where) not in (before, changed)
    if name.endswith("config.json"):
        noise = {"transformers_version": "9", "name_or_path": "/elsewhere", "is_local": True}
        path.write_text(json.dumps({**held, **noise, "one": {"more": 1, "_name_or_path": "/x"}}))
        assert weights_fingerprint(where) == changed


@pytest.mark.parametrize(
    ("dtype", "kind"), [("auto", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)]
)
def test_precision_of_weights(tiny: Tiny, dtype: str, kind: torch.dtype) -> None:
    model = open_model(ModelOptions(name=str(tiny("llama")), dtype=dtype)).model
    assert {one.dtype for one in model.parameters()} == {kind}


def test_weights_on_their_way_to_another_device_have_its_precision(tiny: Tiny, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny("llama"), tmp_path / "half"))
    open_model(ModelOptions(name=str(folder), dtype="bfloat16")).model.save_pretrained(folder)
    assert open_model(str(folder)).core.dtype == torch.float32
    model = open_model(str(folder), runs_on="cuda")
    assert model.core.dtype == torch.bfloat16
    assert model.device.type == "cpu"


def adapter(tiny: Tiny, folder: Path, family: str = "llava") -> Path:
    from peft import LoraConfig, get_peft_model

    model = open_model(str(tiny(family)))
    settings = LoraConfig(r=2, target_modules=r".*layers.*(q_proj|v_proj)", init_lora_weights=False)
    get_peft_model(model.model, settings).save_pretrained(folder)
    return folder


def test_an_adapter_on_top(tiny: Tiny, pictures: list[Picture], tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = adapter(tiny, tmp_path / "adapter")
    bare, adapted = open_model(str(tiny("llava"))), open_model(str(tiny("llava")), adapter=folder)
    assert adapted.fingerprint == bare.fingerprint  # of the model below it
    assert adapted.family == "llava"
    row = bare.collate([bare.encode(Chat((pictures[0], "Yes?")))])
    with torch.inference_mode():
        difference = (adapted.model(**row).logits - bare.model(**row).logits).abs().max()
    assert difference > 1e-3
    assert not adapted.model.training


def test_adapters_that_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    name = str(tiny("llava"))
    with pytest.raises(PalateError, match=r"not an adapter .*adapter_config\.json"):
        open_model(name, adapter=tmp_path)
    folder = adapter(tiny, tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(PalateError, match=r"no adapter_model\.safetensors"):
        open_model(name, adapter=folder)
    with pytest.raises(PalateError, match=r"does not fit|adapter .*cannot be loaded"):
        open_model(name, adapter=adapter(tiny, tmp_path / "other", "qwen3-vl"))


def test_what_is_refused(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tiny("llama"))
    with pytest.raises(PalateError, match=r"'bfloat' is no precision.*bfloat16"):
        open_model(ModelOptions(name=name, dtype="bfloat"))
    with pytest.raises(PalateError, match=r"'4bits' is no quantisation.*4bit"):
        open_model(ModelOptions(name=name, quantisation="4bits"))
    with pytest.raises(PalateError, match="4bit weights need a GPU"):
        open_model(ModelOptions(name=name, quantisation="4bit"))
    with pytest.raises(PalateError, match="no device"):
        open_model(name, device="gpu")
    with pytest.raises(PalateError, match=r"configuration of '.*' cannot be loaded.*must hold a model"):
        open_model(str(tmp_path))
    monkeypatch.setattr("palate.features.hub._hub_is_near", lambda: False)
    with pytest.raises(PalateError, match=r"'nobody/no-such-model' cannot be loaded.*--model embedded"):
        open_model("nobody/no-such-model")


def test_models_that_cannot_chat_are_refused(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig

    CLIPVisionConfig().save_pretrained(tmp_path)
    with pytest.raises(PalateError, match="is a clip_vision_model, not a language model that chats"):
        open_model(str(tmp_path))


def test_missing_weights_are_refused(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llava"), tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    del weights["multi_modal_projector.linear_1.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PalateError, match=r"lacks 1 weights, such as 'model\.multi_modal_projector\.linear_1\.weight'"):
        open_model(str(folder))


def test_remote_code_runs_only_when_trusted(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("llama"), tmp_path / "own")
    settings = json.loads((folder / "config.json").read_text())
    settings["model_type"] = "their_own"
    settings["auto_map"] = {"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "theirs.py").write_text("raise SystemExit('this code must not run')\n")
    with pytest.raises(PalateError, match=r"brings code of its own.*--trust-remote-code"):
        open_model(str(folder))
