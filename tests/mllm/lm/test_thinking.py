"""Models that think before they answer: scored after an empty thought, and a thought is never taken for an answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

from sft_helpers import tiny_settings
from tiny_llms import tokenizer
from worlds import two_tastes

from palate.errors import PalateError
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.local import LocalBackend
from palate.mllm.backends.local_spec import LocalModelSpec
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import open_model
from palate.mllm.lm.options import ModelOptions
from palate.mllm.lm.reasoning import Thoughts, answer_text, thought_cut_off
from palate.mllm.prompts.chat import Chat
from palate.mllm.recommender import open_saved, read_config
from palate.mllm.summaries.work import check_summary
from palate.mllm.zero_shot import zero_shot

Tiny = Callable[[str], Path]
_TURNS = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
_START = "{% if add_generation_prompt %}<|im_start|>assistant\n"
_NOTHING = "<think>\n\n</think>\n\n"
# The prompt always ends within a thought (DeepSeek-R1, QwQ).
ALWAYS = _TURNS + _START + "<think>\n{% endif %}"
# The model opens its thought itself, unless it is told not to (Qwen3); the last answer of a talk shows an empty one.
HYBRID = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' and loop.last %}" + _NOTHING
    + "{% endif %}{{ m['content'] }}<|im_end|>\n{% endfor %}" + _START
    + "{% if enable_thinking is defined and enable_thinking is false %}" + _NOTHING + "{% endif %}{% endif %}"
)  # fmt: skip
# The prompt ends within a thought, unless it is told not to (Qwen3.5).
SWITCHED = (
    _TURNS + _START + "{% if enable_thinking is defined and not enable_thinking %}" + _NOTHING
    + "{% else %}<think>\n{% endif %}{% endif %}"
)  # fmt: skip
# Nothing to switch, and the answer comes in a part of its own (gpt-oss).
CHANNELS = (
    "{% for m in messages %}<|start|>{{ m['role'] }}{% if m['role'] == 'assistant' %}<|channel|>final{% endif %}"
    "<|message|>{{ m['content'] }}<|end|>{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
_CHANNEL_TOKENS = ["<|start|>", "<|channel|>", "<|message|>", "<|end|>"]
PLAIN = _TURNS + _START + "{% endif %}"
CHAT = Chat(("Would the user take it?",))
GOOD = "Likes warm colours and plain things."


def speaker(template: str, **kwargs: Any) -> ChatModel:
    made = tokenizer("llama")
    made.add_special_tokens({"extra_special_tokens": _CHANNEL_TOKENS})
    made.chat_template = template
    core = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    return ChatModel("speaker", core, made, fingerprint="", chat_template_kwargs=kwargs)


@pytest.mark.parametrize(
    ("template", "kwargs", "scored", "written"),
    [
        (PLAIN, {}, "assistant\n", "assistant\n"),
        (ALWAYS, {}, f"assistant\n{_NOTHING}", "assistant\n<think>\n"),
        (HYBRID, {}, f"assistant\n{_NOTHING}", "assistant\n"),
        (HYBRID, {"enable_thinking": True}, f"assistant\n{_NOTHING}", "assistant\n"),
        (HYBRID, {"enable_thinking": False}, f"assistant\n{_NOTHING}", f"assistant\n{_NOTHING}"),
        (SWITCHED, {}, f"assistant\n{_NOTHING}", "assistant\n<think>\n"),
        (SWITCHED, {"enable_thinking": True}, f"assistant\n{_NOTHING}", "assistant\n<think>\n"),
        (SWITCHED, {"enable_thinking": False}, f"assistant\n{_NOTHING}", f"assistant\n{_NOTHING}"),
        (CHANNELS, {}, "<|start|>assistant<|channel|>final<|message|>", "<|start|>assistant"),
    ],
)
def test_an_answer_is_scored_after_an_empty_thought(
    template: str, kwargs: dict[str, Any], scored: str, written: str
) -> None:
    model = speaker(template, **kwargs)
    for thinking, end in ((False, scored), (True, written)):
        text = model.render(CHAT, thinking)
        assert text.endswith(end)
        assert text.count(end) == 1
        assert model.encode(CHAT, thinking=thinking).ids.tolist() == model.tokenizer(text)["input_ids"]
    assert model.chat_template.opens_thought == written.endswith("<think>\n")
    # An answer that is learnt follows the very prompt that is scored.
    learnt = model.encode(CHAT, "Yes")
    assert learnt.ids[: -learnt.answer].tolist() == model.encode(CHAT).ids.tolist()


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        (GOOD, False, GOOD),
        (GOOD, True, None),
        (f"<think>Hm.\n</think>\n\n{GOOD}", False, GOOD),
        (f"Hm.\n</think>\n\n{GOOD}", True, GOOD),
        (f"Hm.\n</think>\n\n{GOOD}", False, GOOD),
        (f"Hm. </think> <think>No.</think>{GOOD}", False, GOOD),
        (f"Hm. </think> No. </think>{GOOD}", True, GOOD),
        ("<think>The user likes", False, None),
        (f"{GOOD} <think>But", False, f"{GOOD} <think>But"),  # no summary either: see check_summary
        ("Hm.</think>", True, ""),
        (f"[THINK]Hm.[/THINK]{GOOD}", False, GOOD),
        (f"<seed:think>Hm.</seed:think>{GOOD}", False, GOOD),
    ],
)
def test_the_answer_after_a_thought(text: str, opened: bool, answer: str | None) -> None:
    assert answer_text(text, opened) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{GOOD}", GOOD),
        ("<|channel|>analysis<|message|>The user likes", None),
        (f"<|channel|>final<|message|>{GOOD}", GOOD),
    ],
)
def test_marks_that_are_no_text_are_found_as_tokens(text: str, answer: str | None) -> None:
    made = speaker(CHANNELS).tokenizer
    ids = made(text, add_special_tokens=False)["input_ids"]
    assert "<|" not in made.decode(ids, skip_special_tokens=True)  # nothing would be seen in the text
    assert Thoughts(made, opened=False).answer(ids) == answer


def local(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, template: str, answer: str, **options: Any) -> Reply:
    """What a local model's words become when its template is another."""
    model = open_model(str(tiny("llama")))
    model.tokenizer.chat_template = template
    model = ChatModel(model.name, model.model, model.tokenizer, fingerprint="")
    words = model.tokenizer(answer, add_special_tokens=False)["input_ids"]

    def generate(input_ids: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.cat([input_ids, torch.tensor([words]).expand(len(input_ids), -1)], dim=1)

    monkeypatch.setattr(model.core, "generate", generate)
    replies: list[Reply] = []

    def done(reply: Reply) -> list[ModelRequest]:
        replies.append(reply)
        return []

    LocalBackend(model, **options).work([ModelRequest("a", CHAT, 20)], done, check_summary)
    return replies[0]


@pytest.mark.parametrize("template", [ALWAYS, SWITCHED])
def test_a_thought_without_its_opening_mark_is_never_a_summary(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    with pytest.warns(UserWarning, match="thought was cut off before an answer"):
        reply = local(tiny, monkeypatch, template, "Okay, the user likes warm colours and simple shapes, so I")
    assert (reply.text, reply.error, reply.attempts) == (None, str(thought_cut_off()), 1)
    assert local(tiny, monkeypatch, template, f"Okay.\n</think>\n\n{GOOD}").text == GOOD
    # Asked without a thought, the same words are an answer.
    assert local(tiny, monkeypatch, template, GOOD, thinking=False).text == GOOD


def test_runs_and_fingerprints_know_the_variables_of_the_template(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made = open_model(str(tiny("llama")))
    made.model.save_pretrained(folder)
    made.tokenizer.chat_template = SWITCHED
    made.tokenizer.save_pretrained(folder)
    kwargs = {"enable_thinking": False}
    plain, switched = open_model(str(folder)), open_model(ModelOptions(name=str(folder), chat_template_kwargs=kwargs))
    assert plain.fingerprint != switched.fingerprint
    backends = LocalBackend(plain), LocalBackend(switched)
    assert "chat_template_kwargs" not in backends[0].identity
    assert backends[1].identity["chat_template_kwargs"] == kwargs
    spec = LocalModelSpec.of(backends[1], ModelOptions(name=str(folder))).model_dump(mode="json")
    again = LocalModelSpec.parse(spec, where="test").open("cpu")
    assert again.identity == backends[1].identity

    settings = tiny_settings(folder, model={"chat_template_kwargs": '{"enable_thinking": false}'})
    settings = {name: settings[name] for name in ("model", "prompt")}
    run = zero_shot(two_tastes(tmp_path / "data"), out=tmp_path / "run", settings=settings, device="cpu")
    config = read_config(run.model_folder)
    assert config.base.chat_template_kwargs == kwargs
    assert open_saved(run.model_folder, config).render(CHAT, thinking=True).endswith(_NOTHING)

    settings["model"]["chat_template_kwargs"] = "{enable_thinking: false}"
    with pytest.raises(PalateError, match="is not a JSON object"):
        zero_shot(two_tastes(tmp_path / "more"), out=tmp_path / "other", settings=settings, device="cpu")
