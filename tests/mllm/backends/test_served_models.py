"""What a server does not say: that its model thinks aloud, that pictures are dropped, that every request will fail."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from flaky_server import FlakyServer, Payload, completion, no_waits, prompt_of, running
from PIL import Image
from worlds import two_tastes

from palate.errors import PalateError
from palate.mllm.backends import open_backend
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.openai import OpenAIBackend
from palate.mllm.lm.reasoning import thought_cut_off
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.summaries.work import check_summary

pytest.importorskip("openai")
GOOD = "Likes warm colours and plain, hand-made things."
# 200 characters without a mark: what came before the end of a thought that never came.
THOUGHT = "Okay, the user has asked for this. Let me think about what they chose and what that may mean. " * 2
Palate = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    no_waits(monkeypatch)


def replies(server: FlakyServer, requests: Iterable[ModelRequest], **options: Any) -> dict[str, Reply]:
    found: dict[str, Reply] = {}

    def done(reply: Reply) -> list[ModelRequest]:
        found[reply.key] = reply
        return []

    with running(server):
        backend = OpenAIBackend("tiny", base_url=server.url, timeout=20.0, **options)
        backend.work(requests, done, check_summary)
    return found


def ask(texts: Iterable[str]) -> list[ModelRequest]:
    return [ModelRequest(text, Chat((text,)), 50) for text in texts]


def reply_of(text: Any, *, cut: bool = False, usage: dict[str, Any] | None = None, **message: Any) -> Any:
    """A completion with its finish reason and its usage."""
    made = json.loads(completion(text, **message))
    made["choices"][0]["finish_reason"] = "length" if cut else "stop"
    made["usage"] |= usage or {}
    return 200, {}, json.dumps(made).encode()


@pytest.mark.parametrize(
    ("first", "easy"),
    [
        (reply_of(f"<think>{THOUGHT}", cut=True), None),  # its own mark
        (reply_of(None, cut=True, reasoning_content=THOUGHT), None),  # set apart by the server
        (reply_of("", cut=True, reasoning=THOUGHT), None),
        (reply_of(None, cut=True, usage={"completion_tokens_details": {"reasoning_tokens": 50}}), None),
        (reply_of(THOUGHT, cut=True), reply_of(THOUGHT, cut=True)),  # no mark at all: an easy question tells
        (reply_of(THOUGHT, cut=True), reply_of("Easy.\n</think>\n\nBlue")),
        (reply_of(THOUGHT, cut=True), reply_of("Blue", reasoning_content="Easy.")),
    ],
)
def test_a_thought_that_is_cut_off_is_no_summary_and_is_said_once(first: Any, easy: Any) -> None:
    server = FlakyServer(lambda payload: easy if "sky" in prompt_of(payload) else first)
    with pytest.warns(UserWarning, match="thought was cut off before an answer") as warned:
        found = replies(server, ask("abcdef"))
    assert {(reply.text, reply.error, reply.attempts) for reply in found.values()} == {
        (None, str(thought_cut_off()), 1)
    }
    assert len(warned) == 1
    assert len(server.payloads) == 6 + (easy is not None)  # the easy question is asked once


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (reply_of(GOOD), 3),
        (reply_of(GOOD, cut=True), 4),
        (reply_of(f"Hm.\n</think>\n\n{GOOD}", cut=True), 3),
        (reply_of(GOOD, cut=True, reasoning_content="Hm."), 3),
    ],
)
def test_an_answer_that_is_cut_off_is_one(answer: Any, asked: int) -> None:
    server = FlakyServer(lambda payload: reply_of("Blue") if "sky" in prompt_of(payload) else answer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = replies(server, ask("abc"))
    assert [found[key].text for key in "abc"] == [GOOD] * 3
    assert len(server.payloads) == asked


def test_a_cut_answer_after_one_that_came_whole_is_no_thought() -> None:
    server = FlakyServer(lambda payload: reply_of(THOUGHT, cut=prompt_of(payload) == "b"))
    found = replies(server, ask("ab"), concurrency=1)
    assert len(server.payloads) == 2
    assert all("thought" not in str(reply.error) or reply.text for reply in found.values())
    assert found["b"].text == THOUGHT.strip()


def test_a_model_that_was_seen_to_think_is_not_believed_when_it_is_cut() -> None:
    def answer(payload: Payload) -> Any:
        return reply_of(f"Hm.\n</think>\n\n{GOOD}") if prompt_of(payload) == "a" else reply_of(THOUGHT, cut=True)

    with pytest.warns(UserWarning, match="cut off"):
        found = replies(FlakyServer(answer), ask("ab"), concurrency=1)
    assert (found["a"].text, found["b"].text) == (GOOD, None)


def test_variables_of_the_template_are_sent_and_count() -> None:
    kwargs = {"enable_thinking": False}
    server = FlakyServer(lambda _: reply_of(GOOD))
    replies(server, ask("a"), chat_template_kwargs=kwargs)
    replies(server, ask("a"))
    assert server.payloads[0]["chat_template_kwargs"] == kwargs
    assert "chat_template_kwargs" not in server.payloads[1]
    url = "http://localhost:1/v1"
    plain, switched = (open_backend("openai", "tiny", base_url=url, chat_template_kwargs=one) for one in (None, kwargs))
    assert switched.identity == {**plain.identity, "chat_template_kwargs": kwargs}


# Pictures.


def pictured(tmp_path: Path, number: int = 4) -> list[ModelRequest]:
    Image.new("RGB", (60, 60), (200, 30, 30)).save(tmp_path / "red.png")
    shown = Picture(tmp_path / "red.png")
    return [ModelRequest(str(one), Chat(("Look: ", shown, "What is it?")), 50) for one in range(number)]


def counted(payload: Payload, per_picture: int) -> Any:
    content = payload["messages"][-1]["content"]
    pictures = sum(part["type"] == "image_url" for part in content if isinstance(part, dict))
    return reply_of(GOOD, usage={"prompt_tokens": 40 + per_picture * pictures})


@pytest.mark.parametrize("per_picture", [0, 3])
def test_pictures_that_cost_no_tokens_are_not_looked_at_and_that_is_said_once(tmp_path: Path, per_picture: int) -> None:
    server = FlakyServer(lambda payload: counted(payload, per_picture))
    with pytest.warns(
        UserWarning, match=rf"counts {40 + per_picture} tokens .* 1 picture and 40 without: 'tiny' does not"
    ) as warned:
        found = replies(server, pictured(tmp_path))
    assert len(warned) == 1
    assert len(found) == 4
    bare = [one for one in server.payloads if one["max_tokens"] == 1]
    assert [part["type"] for part in bare[0]["messages"][-1]["content"]] == ["text", "text"]
    assert len(server.payloads) == 5


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": 0}])
def test_a_server_that_looks_or_does_not_count_is_left_in_peace(tmp_path: Path, usage: dict[str, int]) -> None:
    server = FlakyServer(lambda payload: reply_of(GOOD, usage=usage) if usage else counted(payload, 64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replies(server, pictured(tmp_path))
    assert len(server.payloads) == (4 if usage else 5)


# What dooms every request.


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, "Model Not Exist", "the server has no model 'tiny'"),
        (400, "The model `tiny` does not exist.", "the server has no model 'tiny'"),
        (400, "litellm.BadRequestError: Invalid model name passed in model=tiny", "the server has no model 'tiny'"),
        (422, "Unknown model: tiny", "the server has no model 'tiny'"),
        (404, "model 'tiny' not found, try pulling it first", "the server has no model 'tiny'"),
        (400, "No models loaded. Please load a model.", "the server has no model 'tiny'"),
        (
            400,
            "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is "
            "supported.",
            r"does not take this temperature .*--temperature 1",
        ),
        (422, "`temperature` must be strictly positive", "does not take this temperature"),
        (400, "Unrecognized request argument supplied: chat_template_kwargs", "Leave out --chat-template-kwargs"),
    ],
)
def test_what_is_wrong_for_all_stops_at_the_first(status: int, body: str, expected: str) -> None:
    server = FlakyServer(lambda _: (status, {}, json.dumps({"error": {"message": body}}).encode()))
    with pytest.raises(PalateError, match=expected):
        replies(server, ask(map(str, range(100))), concurrency=1)
    assert len(server.payloads) == 1


def test_a_refusal_in_the_same_words_again_and_again_stops() -> None:
    server = FlakyServer(lambda _: (400, {}, b'{"error": "something that nobody foresaw"}'))
    with pytest.raises(PalateError, match=r"refuses every request .*something that nobody foresaw"):
        replies(server, ask(map(str, range(100))), concurrency=2)
    assert len(server.payloads) <= 11


@pytest.mark.parametrize(
    "body",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 9000 tokens.",
        "The picture cannot be read by the model",
        "the prompt holds a title: 'Temperature', the film",
    ],
)
def test_what_is_wrong_with_one_request_is_its_own(body: str) -> None:
    def answer(payload: Payload) -> Any:
        refused = prompt_of(payload) in "01"
        return (400, {}, json.dumps({"error": {"message": body}}).encode()) if refused else reply_of(GOOD)

    found = replies(FlakyServer(answer), ask(map(str, range(20))), concurrency=1)
    assert [key for key, reply in found.items() if reply.text is None] == ["0", "1"]


def test_the_command_line_takes_variables_and_keeps_them(palate: Palate, tmp_path: Path) -> None:
    two_tastes(tmp_path)
    data = tmp_path / "dataset"
    words = ["summarise", "items", data, "--backend", "openai", "--model", "tiny", "--name", "a", "--source", "text"]
    with running(FlakyServer(lambda _: reply_of(GOOD))) as server:
        words += ["--base-url", server.url, "--chat-template-kwargs"]
        code, _, err = palate(*words, "{enable_thinking: false}")
        assert code == 2
        assert "is not a JSON object. Write it like" in err
        code, _, err = palate(*words, '{"enable_thinking": false}')
        assert code == 0, err
        assert all(one["chat_template_kwargs"] == {"enable_thinking": False} for one in server.payloads)
        made = json.loads((data / "summaries/items/a/summaries.json").read_text())["made"]
        assert made["backend"]["chat_template_kwargs"] == {"enable_thinking": False}
        code, _, err = palate(*words[:-1])  # without: other answers
        assert code == 2
        assert "made with another backend" in err
