"""Chat templates: the tokens are those of transformers' own way, pictures stay in their places, turns end as they do
in the template."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")

from tiny_llms import VISION_FAMILIES, tokenizer

from palate.errors import PalateError
from palate.mllm.lm.chat_model import IGNORED, ChatModel
from palate.mllm.lm.chat_template import read_kwargs
from palate.mllm.lm.loading import open_model
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.scoring.prefix import share

Tiny = Callable[[str], Path]
# As LLaVA 1.5, LLaVA-NeXT, LLaVA-OneVision and Aya Vision write a message: all pictures, then all text.
FRONT = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% for c in m['content'] if c['type'] == 'image' %}<image>\n"
    "{% endfor %}{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
GLM = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
# As gpt-oss and Cohere write an answer: right behind a special token, without white space between.
HARMONY = (
    "{% for m in messages %}<|start|>{{ m['role'] }}<|message|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}"
)
_TOKENS = {
    HARMONY: ["<|start|>", "<|message|>", "<|end|>"],
    GEMMA: ["<start_of_turn>", "<end_of_turn>"],
    PHI: ["<|user|>", "<|assistant|>", "<|end|>"],
    GLM: ["[gMASK]", "<sop>", "<|user|>", "<|assistant|>"],
}


def speaker(template: str) -> ChatModel:
    """A model that is nothing but a tokenizer with a chat template."""
    made = tokenizer("llama")
    made.add_special_tokens({"extra_special_tokens": _TOKENS.get(template, [])})
    if template == GLM:  # its tokenizer adds them too, and it has no token for the beginning
        from tokenizers.processors import TemplateProcessing

        special = [(one, made.convert_tokens_to_ids(one)) for one in ("[gMASK]", "<sop>")]
        made.backend_tokenizer.post_processor = TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=special)
        made.bos_token = None
    made.chat_template = template
    core = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    return ChatModel("speaker", core, made, fingerprint="")


def by_transformers(model: ChatModel, chat: Chat) -> list[int]:
    """What `apply_chat_template(tokenize=True)` makes of a chat."""
    content: Any = chat.text
    if model.takes_pictures:
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part.open()}
            for part in chat.parts
        ]
    made = model.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
    )
    ids: list[int] = made["input_ids"][0].tolist()
    return ids


@pytest.mark.parametrize("template", [GEMMA, PHI, GLM])
def test_tokens_of_text_models_are_those_of_transformers(template: str) -> None:
    model, chat = speaker(template), Chat(("Would the user take it?",))
    ids = model.encode(chat).ids.tolist()
    assert ids == by_transformers(model, chat)
    assert ids.count(model.tokenizer.convert_tokens_to_ids("[gMASK]")) == (template == GLM)


@pytest.mark.parametrize("family", ["llama", "vicuna", "llava-1.5", *VISION_FAMILIES])
def test_tokens_of_every_family_are_those_of_transformers(tiny: Tiny, family: str) -> None:
    model = open_model(str(tiny(family)))
    chats = [Chat(("Would the user take it?",))]
    if model.takes_pictures:
        chats.append(Chat(("Look: ", Picture(None), " and ", Picture(None), " Yes or No?")))
    for chat in chats:
        assert model.encode(chat).ids.tolist() == by_transformers(model, chat)


@pytest.mark.parametrize(
    ("template", "end"), [(GEMMA, "<end_of_turn>"), (PHI, "<|end|>"), (GLM, "<|user|>"), (HARMONY, "<|end|>")]
)
def test_a_learnt_answer_ends_as_the_template_ends_a_turn(template: str, end: str) -> None:
    model = speaker(template)
    assert model.tokenizer.eos_token == "<|im_end|>"
    labels = model.collate([model.encode(Chat(("Would the user take it?",)), "Yes")], labels=True)["labels"][0]
    assert model.tokenizer.decode(labels[labels != IGNORED]) == f"Yes{end}"


@pytest.mark.parametrize("template", [GEMMA, PHI, GLM, HARMONY])
def test_an_answer_is_where_the_template_writes_it(template: str) -> None:
    model, chat = speaker(template), Chat(("Would the user take it?",))
    talk = [{"role": "user", "content": chat.text}, {"role": "assistant", "content": "Yes"}]
    written = model.tokenizer.apply_chat_template(talk, tokenize=False)
    answered = model.encode(chat, "Yes")
    ids = answered.ids.tolist()
    assert "Yes" in model.tokenizer.convert_ids_to_tokens(ids)
    assert model.tokenizer.decode(ids).rstrip() in written or template == GLM  # which ends a turn by the next one


def test_where_a_template_has_no_end_of_a_turn_the_tokenizer_has_one() -> None:
    model = speaker("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")
    assert model.chat_template.end_of_turn == model.tokenizer.eos_token_id


# Pictures.


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        Image.new("RGB", (60, 60), (100 * number, 90, 250 - 100 * number)).save(folder / f"{number}.png")
    return [Picture(folder / f"{number}.png") for number in range(3)]


def retold(model: ChatModel, template: str) -> ChatModel:
    """The same model with another chat template."""
    model.processor.chat_template = template
    return ChatModel(model.name, model.model, model.processor, fingerprint="", longest=None)


@pytest.mark.parametrize("family", ["llava", "llava-1.5"])
def test_pictures_stay_where_the_prompt_has_them(tiny: Tiny, pictures: list[Picture], family: str) -> None:
    model = retold(open_model(str(tiny(family))), FRONT)
    one, two, _ = pictures
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = model.render(Chat(("liked ", one, "; candidate ", two, " Yes or No?")))
    assert text == "USER: liked <image>; candidate <image> Yes or No? ASSISTANT:"
    # Which of two items has the picture can be told.
    history, candidate = (model.encode(Chat(parts)) for parts in (("a", one, "b"), ("a", "b", one)))
    assert history.ids.tolist() != candidate.ids.tolist()
    with torch.inference_mode():
        logits = [model.model(**model.collate([row])).logits[0, -1] for row in (history, candidate)]
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["llava", "llava-1.5"])
def test_prompts_that_differ_in_a_picture_share_what_comes_before_it(
    tiny: Tiny, pictures: list[Picture], family: str
) -> None:
    model = retold(open_model(str(tiny(family))), FRONT)
    lead = "history: the user bought a cream and a lipstick; candidate: "
    chats = [Chat((lead, picture, "Would the user take it?")) for picture in pictures]
    shared = share(model, chats)
    assert model.tokenizer.decode(shared.prefix.ids, skip_special_tokens=True).strip() == f"USER: {lead}".strip()
    assert all(rest.pictures for rest in shared.rests)


def test_a_text_cannot_forge_a_placeholder(tiny: Tiny, pictures: list[Picture]) -> None:
    model = retold(open_model(str(tiny("llava"))), FRONT)
    assert model.render(Chat(("a <image> b", pictures[0]))).count("<image>") == 1


def test_pictures_that_cannot_be_put_back_are_said_once(tiny: Tiny, pictures: list[Picture]) -> None:
    model = retold(open_model(str(tiny("llava"))), FRONT.replace("<image>", "<picture>"))
    chat = Chat(("a", pictures[0], "b"))
    with pytest.warns(UserWarning, match="moves pictures away from their place") as warned:
        texts = [model.render(chat) for _ in range(3)]
    assert len(warned) == 1
    assert texts == ["USER: <picture>\na b ASSISTANT:"] * 3


def test_families_that_keep_pictures_in_place_are_left_alone(tiny: Tiny) -> None:
    for family in VISION_FAMILIES:
        assert open_model(str(tiny(family))).chat_template.placeholder is None


# Variables of the template.


@pytest.mark.parametrize("text", ["{", "[1]", '"x"', 7])
def test_variables_are_a_json_object(text: Any) -> None:
    with pytest.raises(PalateError, match=r"is not a JSON object. Write it like '\{\"enable_thinking\": false\}'"):
        read_kwargs(text)


@pytest.mark.parametrize("name", ["enable_thinkng", "add_generation_prompt"])
def test_variables_that_would_do_nothing_or_harm_are_refused(name: str) -> None:
    made, core = tokenizer("llama"), SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    with pytest.raises(PalateError, match=f"has no variable '{name}' to set"):
        ChatModel("m", core, made, fingerprint="", chat_template_kwargs={name: True})
