"""vLLM by ray.data.llm: its configuration and rows, with the model played by a function. Neither is needed here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from palate.engines.local import LOCAL
from palate.engines.ray_engine import RayEngine
from palate.errors import PalateError
from palate.mllm.backends import open_backend, vllm
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.vllm import VLLMBackend, opens_thought
from palate.mllm.backends.vllm_rows import answer_row, processor_options, prompt_row
from palate.mllm.prompts.chat import Chat, Picture

Rows = list[dict[str, Any]]


def ray_engine(gpus: float = 1.0) -> RayEngine:
    """Never started."""
    engine = RayEngine.__new__(RayEngine)
    engine.gpus, engine.cpus = gpus, 1
    engine.connected = lambda: 2  # type: ignore[method-assign]
    return engine


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: name)


def playing(backend: VLLMBackend, answer: Callable[[dict[str, Any], int], Any]) -> list[dict[str, Any]]:
    """The model is a function of a row's prompt and of the round; the options of each round are listed."""
    rounds: list[dict[str, Any]] = []

    def run(rows: Rows, options: dict[str, Any], longest: int | None) -> Iterator[dict[str, Any]]:
        rounds.append(options)
        for row in reversed(json.loads(json.dumps(rows))):
            row |= prompt_row(row, longest)
            found = answer(row, len(rounds))
            if isinstance(found, Exception):
                yield {**row, "__inference_error__": str(found)}
                continue
            counts = {"num_input_tokens": 7, "num_generated_tokens": 3}
            yield {**answer_row({**row, "generated_text": found, **counts}), "__inference_error__": ""}

    backend.run = run
    backend.opens_thought = lambda model: False
    return rounds


def ask(backend: VLLMBackend, requests: list[ModelRequest], **more: Any) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}

    def done(reply: Reply) -> list[ModelRequest]:
        replies[reply.key] = reply
        return [ModelRequest("next", Chat(("And then?",)), 8)] if reply.key == "first" else []

    backend.work(requests, done, **more)
    return replies


@pytest.mark.usefixtures("installed")
def test_requests_and_what_follows_from_them_are_answered(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    backend = VLLMBackend("m", engine=ray_engine(), revision="v2", chat_template_kwargs={"enable_thinking": False})
    rounds = playing(
        backend,
        lambda row, _: ValueError("too  long") if "long" in str(row["messages"]) else "<think>.</think> Warm colours. ",
    )
    chats = {
        "first": Chat(("What?",), system="Be short."),
        "grey": Chat((Picture(None), "Look")),
        "broken": Chat((Picture(tmp_path / "broken.png"), "Look")),
        "long": Chat(("A long question",)),
    }
    replies = ask(backend, [ModelRequest(key, chat, 20) for key, chat in chats.items()])
    assert {key: reply.text for key, reply in replies.items()} == {
        "first": "Warm colours.",
        "grey": "Warm colours.",
        "broken": None,
        "long": None,
        "next": "Warm colours.",
    }
    assert "broken.png" in str(replies["broken"].error)
    assert (replies["broken"].attempts, replies["long"].error) == (0, "too long")
    assert (replies["first"].prompt_tokens, replies["first"].new_tokens, replies["first"].attempts) == (7, 3, 1)
    assert [options["prepare_multimodal_stage"]["enabled"] for options in rounds] == [True, False]
    assert backend.identity == {
        "backend": "vllm",
        "model": "m",
        "temperature": 0.0,
        "revision": "v2",
        "longest": 672,
        "chat_template_kwargs": {"enable_thinking": False},
    }


@pytest.mark.usefixtures("installed")
def test_with_a_temperature_useless_answers_are_drawn_again() -> None:
    def check(text: str) -> str | None:
        return "rubbish" if "#" in text else None

    seeds = []

    def answer(row: dict[str, Any], number: int) -> str:
        seeds.append(row["sampling_params"].get("seed"))
        return "###" if number == 1 else "Warm colours."

    request = ModelRequest("one", Chat(("What?",)), 20)
    backend = VLLMBackend("m", engine=ray_engine(), temperature=0.7, seed=1)
    playing(backend, answer)
    reply = ask(backend, [request], check=check)["one"]
    assert (reply.text, reply.prompt_tokens, reply.new_tokens, reply.attempts) == ("Warm colours.", 14, 6, 2)
    assert len(set(seeds)) == 2
    backend = VLLMBackend("m", engine=ray_engine())
    playing(backend, answer)
    reply = ask(backend, [request], check=check)["one"]
    assert (reply.text, reply.error, reply.attempts) == (None, "rubbish", 1)


@pytest.mark.usefixtures("installed")
def test_a_thought_that_was_cut_off_is_no_answer(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    """Where the template opens the thought in the prompt, nothing in the text shows that it is one."""
    folder = shutil.copytree(tiny("llama"), tmp_path / "thinker")
    options = VLLMBackend(str(folder), engine=ray_engine()).options
    assert not opens_thought(options, str(folder))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: <think>\n"
    )
    backend = VLLMBackend(str(folder), engine=ray_engine())
    assert backend.opens_thought(backend.model)
    playing(backend, lambda row, _: "First I look at the items" if row["number"] else "I see.</think> Warm colours.")
    backend.opens_thought = lambda model: True
    replies = ask(backend, [ModelRequest(key, Chat(("What?",)), 20) for key in ("whole", "cut")])
    assert (replies["whole"].text, replies["cut"].text) == ("Warm colours.", None)
    assert not opens_thought(options, str(tmp_path))  # no tokenizer there: a note, no error


def test_the_configuration_is_one_that_ray_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = processor_options(
        "m", workers=2, gpus=0.5, cpus=3, pictures=True, batch_size=16, dtype="bfloat16", seed=1, revision="v2"
    )
    assert options["engine_kwargs"]["gpu_memory_utilization"] == 0.45
    assert options["engine_kwargs"]["tensor_parallel_size"] == 1
    assert options["placement_group_config"] == {"bundle_per_worker": {"CPU": 3, "GPU": 0.5}}
    pytest.importorskip("ray.data", reason="Ray is not installed")
    if "aiohttp" not in sys.modules:
        for name in ("aiohttp", "aiohttp.web_exceptions", "aiohttp.client_exceptions"):
            monkeypatch.setitem(sys.modules, name, MagicMock())  # of another stage; its module is imported too
    from ray.data.llm import vLLMEngineProcessorConfig

    made = vLLMEngineProcessorConfig(**options)
    assert (made.placement_group_config or {})["bundle_per_worker"] == {"CPU": 3.0, "GPU": 0.5}
    assert set(options) <= set(vLLMEngineProcessorConfig.model_fields)


def test_what_is_lacking_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PalateError, match=r"runs on Ray\. Give --engine ray"):
        open_backend("vllm", "m", engine=LOCAL)
    with pytest.raises(PalateError, match="needs GPUs"):
        open_backend("vllm", "m", engine=ray_engine(gpus=0))
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(PalateError, match=r"needs the package vllm\. Install it: pip install vllm"):
        open_backend("vllm", "m", engine=ray_engine())
    with pytest.raises(PalateError, match="has no option --no-repeat-ngram-size"):
        open_backend("vllm", "m", engine=ray_engine(), no_repeat_ngram_size=3)
