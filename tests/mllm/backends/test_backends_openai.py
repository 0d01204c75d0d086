"""The openai backend against a real HTTP server that drops, stalls, lies and refuses."""

from __future__ import annotations

import asyncio
import base64
import io
import re
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from flaky_server import FAILURES, FlakyServer, Payload, completion, no_waits, prompt_of, running
from PIL import Image

from palate.errors import PalateError
from palate.mllm.backends import open_backend
from palate.mllm.backends.base import ModelRequest, Reply
from palate.mllm.backends.errors import retry_after
from palate.mllm.backends.openai import OpenAIBackend
from palate.mllm.prompts.chat import Chat, Picture
from palate.mllm.summaries.work import check_summary

pytest.importorskip("openai")
GOOD = "Likes warm colours and plain, hand-made things."


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the package openai would have waited between attempts, in seconds; none of it is waited for."""
    return no_waits(monkeypatch)


def backend(server: FlakyServer, **options: Any) -> OpenAIBackend:
    return OpenAIBackend("tiny", base_url=server.url, **{"timeout": 20.0, **options})


def ask(texts: Iterable[str], max_new_tokens: int = 50) -> list[ModelRequest]:
    return [ModelRequest(text, Chat((text,)), max_new_tokens) for text in texts]


def collect(to: dict[str, Reply]) -> Callable[[Reply], list[ModelRequest]]:
    def done(reply: Reply) -> list[ModelRequest]:
        assert reply.key not in to, "done was called twice"
        to[reply.key] = reply
        return []

    return done


def answers(server: FlakyServer, texts: Iterable[str], check: Any = None, **options: Any) -> dict[str, Reply]:
    found: dict[str, Reply] = {}
    with running(server):
        backend(server, **options).work(ask(texts), collect(found), check)
    return found


def test_chains_of_200_users_end_complete_while_30_percent_of_calls_fail(waits: list[float]) -> None:
    users, steps = 200, 3

    def answer(payload: Payload) -> str:
        """Says what was said before and adds a step: a chain that lost or mixed up a step would show."""
        before = prompt_of(payload)
        return f"{before} and then liked step {before.count('step') + 1}"

    server = FlakyServer(answer, share=0.3, seed=7)
    replies: list[Reply] = []

    def done(reply: Reply) -> list[ModelRequest]:
        replies.append(reply)
        user, step = reply.key.split("/")
        if reply.text is None or int(step) == steps:
            return []
        return [ModelRequest(f"{user}/{int(step) + 1}", Chat((reply.text,)), 50)]

    first = [ModelRequest(f"{user}/1", Chat((f"user {user}",)), 50) for user in range(users)]
    with running(server):
        backend(server, concurrency=12, timeout=2.0, attempts=12).work(iter(first), done, check_summary)

    assert len(replies) == len({reply.key for reply in replies}) == users * steps
    texts = {reply.key: reply.text for reply in replies}
    for user in range(users):
        expected = f"user {user} and then liked step 1 and then liked step 2 and then liked step 3"
        assert texts[f"{user}/3"] == expected
    assert server.most <= 12
    assert server.failed.total() > 150
    assert set(server.failed) == set(FAILURES)
    # One wait for every attempt that failed; an answer that cannot be used is asked for again at once.
    useless = sum(server.failed[name] for name in ("empty", "null", "rubbish"))
    assert len(waits) == len(server.payloads) - users * steps - useless
    assert sum(reply.attempts for reply in replies) == len(server.payloads)
    # No wave: somebody's last step is asked for long before the last user's first.
    order = [prompt_of(payload).count("step") for payload in server.payloads]
    assert order.index(2) < 50 < max(place for place, step in enumerate(order) if step == 0)


def test_a_server_that_asks_for_patience_gets_it(waits: list[float]) -> None:
    calls: list[int] = []

    def answer(payload: Payload) -> Any:
        calls.append(1)
        return (429, {"retry-after": "17"}, b'{"error": {"message": "slow"}}') if len(calls) == 1 else GOOD

    found = answers(FlakyServer(answer), ["a"])
    assert (found["a"].text, found["a"].attempts) == (GOOD, 2)
    assert waits == [17]


def test_a_server_that_asks_for_a_day_ends_the_work() -> None:
    server = FlakyServer(lambda _: (429, {"retry-after": "86400"}, b"{}"))
    with pytest.raises(PalateError, match="come back in 86,400 seconds"):
        answers(server, ["a", "b"])


def test_retry_after_may_be_a_date() -> None:
    soon = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)})
    assert soon is not None
    assert 0 < soon <= 100
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "-5"}) == 0
    assert retry_after({"retry-after": "nan"}) is None


@pytest.mark.parametrize("failure", ["503", "drop", "truncated json"])
def test_waits_grow_and_are_capped(waits: list[float], failure: str) -> None:
    found = answers(FlakyServer(lambda _: GOOD, share=1.0, failures=(failure,)), ["a"], attempts=8)
    assert (found["a"].text, found["a"].attempts) == (None, 8)
    assert len(waits) == 7
    for ceiling, wait in zip((0.5, 1, 2, 4, 8, 8, 8), waits, strict=True):
        assert 0.7 * ceiling < wait <= ceiling  # a random part of it is left out, so that clients come back out of step


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_alone_at_once_with_the_servers_words(status: int) -> None:
    long = "the prompt has 9000 tokens " * 50

    def answer(payload: Payload) -> Any:
        body = b'{"error": {"message": "%s", "type": "invalid"}}' % long.encode()
        return (status, {}, body) if prompt_of(payload) == "bad" else GOOD

    server = FlakyServer(answer)
    found = answers(server, ["good", "bad", "fine"])
    assert [found[key].text for key in ("good", "fine")] == [GOOD, GOOD]
    error = found["bad"].error
    assert error is not None
    assert f"{status}: the prompt has 9000 tokens" in error
    assert len(error) < 300
    assert found["bad"].attempts == 1
    assert len(server.payloads) == 3


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 504, 529])
def test_passing_trouble_is_tried_again_and_named_in_the_end(status: int) -> None:
    server = FlakyServer(lambda _: (status, {}, b'{"detail": "engine busy"}'))
    found = answers(server, ["a"], attempts=3)
    assert found["a"].text is None
    assert found["a"].error == f"the server answered {status}: engine busy (3 attempts)"
    assert len(server.payloads) == 3


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, '{"error": {"message": "Incorrect key sk-geheim-1"}}', "refused the credentials"),
        (403, "{}", "refused the credentials"),
        (404, '{"object": "error", "message": "The model `tiny` does not exist."}', "no model 'tiny'"),
        (404, '{"error": {"message": "nope", "code": "model_not_found"}}', "no model 'tiny'"),
        (400, '{"error": "tiny is not a valid model ID"}', "no model 'tiny'"),
        (404, "<html>nothing here</html>", "base URL"),
        (404, '{"detail": "Not Found"}', "base URL"),
        (429, '{"error": {"code": "insufficient_quota", "message": "pay"}}', "used up"),
        (402, "{}", "used up"),
    ],
)
def test_what_dooms_all_requests_stops_at_once_and_tells_no_key(status: int, body: str, expected: str) -> None:
    server = FlakyServer(lambda _: (status, {}, body.encode()))
    with pytest.raises(PalateError, match=expected) as caught:
        answers(server, map(str, range(100)), concurrency=4, api_key="sk-geheim-1")
    assert len(server.payloads) <= 4
    assert server.headers[0]["authorization"] == "Bearer sk-geheim-1"
    assert "geheim" not in str(caught.value)


def test_a_late_403_or_404_is_one_requests_own() -> None:
    def answer(payload: Payload) -> Any:
        return (403, {}, b'{"error": "flagged by moderation"}') if prompt_of(payload) == "5" else GOOD

    found = answers(FlakyServer(answer), map(str, range(10)), concurrency=1)
    assert {key for key, reply in found.items() if reply.text is None} == {"5"}
    assert "flagged" in str(found["5"].error)


def test_the_key_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-geheim-2")
    server = FlakyServer(lambda _: GOOD)
    with running(server):
        it = backend(server)
        it.work(ask(["a"]), collect({}))
    assert server.headers[0]["authorization"] == "Bearer sk-geheim-2"
    assert "geheim" not in repr(it) + repr(it.identity)
    assert it.identity == {"backend": "openai", "model": "tiny", "temperature": 0.0, "longest": 672}


def test_without_a_key_messages_are_told_as_they_are() -> None:
    server = FlakyServer(lambda _: (422, {}, b'{"detail": "none of the parts is an image"}'))
    found = answers(server, ["a"])
    assert "none of the parts is an image" in str(found["a"].error)


def test_refused_answers_are_asked_for_again_and_paid_for() -> None:
    server = FlakyServer(lambda _: "no" if len(server.payloads) < 3 else GOOD)
    found = answers(server, ["a"], check_summary)
    assert (found["a"].text, found["a"].attempts) == (GOOD, 3)
    assert (found["a"].prompt_tokens, found["a"].new_tokens) == (30, 15)
    server = FlakyServer(lambda _: "no")
    found = answers(server, ["a"], check_summary, attempts=2)
    assert found["a"].text is None
    assert found["a"].error == "no usable answer (a single word): 'no' (2 attempts)"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (completion([{"type": "text", "text": "Likes red "}, {"type": "other"}, "mugs."]), "Likes red mugs."),
        (completion(f"<think>red?\n\nyes</think>\n\n{GOOD}  "), GOOD),
        (completion(GOOD).replace(b'"stop"', b'"length"'), GOOD),
        (completion(GOOD).replace(b'"usage": {', b'"usage": null, "x": {'), GOOD),
        (completion(None), None),
        (completion(None, refusal="I would rather not"), None),
        (completion(""), None),
        (completion(7), None),
        (b'{"choices": []}', None),
        (b'{"choices": [{"message": "hello"}]}', None),
        (b'[1, 2]', None),
        (b"[" * 100_000, None),
        (b"\xff\xfe", None),
    ],
)  # fmt: skip
def test_answers_of_every_shape(body: bytes, text: str | None) -> None:
    found = answers(FlakyServer(lambda _: (200, {}, body)), ["a"], attempts=2)
    assert found["a"].text == text
    if text is None:
        assert found["a"].attempts == 2
        assert found["a"].error
    if b"rather" in body:
        assert "the model refused (I would rather not)" in str(found["a"].error)


def test_a_stall_costs_one_attempt_and_a_drip_is_a_stall() -> None:
    server = FlakyServer(lambda _: GOOD, share=1.0, failures=("stall",))
    found = answers(server, ["a"], timeout=0.2, attempts=2)
    assert found["a"].error == "no answer within 0.2 seconds (2 attempts)"

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 90000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass

    server = FlakyServer(lambda _: GOOD)
    server.serve = drip  # type: ignore[method-assign]
    found = answers(server, ["a"], timeout=0.2, attempts=1)
    assert found["a"].error == "no answer within 0.2 seconds (1 attempt)"


def _closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_no_server_at_all_is_one_error_and_not_a_thousand() -> None:
    it = OpenAIBackend("tiny", base_url=f"http://127.0.0.1:{_closed_port()}/v1", attempts=2)
    found: dict[str, Reply] = {}
    with pytest.raises(PalateError, match=r"2\d requests in a row could not reach http://127\.0"):
        it.work(ask(map(str, range(1000))), collect(found))
    assert len(found) < 40
    few: dict[str, Reply] = {}
    it.work(ask(map(str, range(5))), collect(few))  # too few to judge: each says why itself
    assert len(few) == 5
    assert all("no connection" in str(reply.error) and reply.attempts == 2 for reply in few.values())


def test_a_server_that_dies_on_the_way_is_noticed_and_one_that_limps_is_not() -> None:
    def dies(payload: Payload) -> str:
        if len(server.payloads) >= 30:
            server.share = 1.0
        return GOOD

    server = FlakyServer(dies, failures=("drop",))
    found: dict[str, Reply] = {}
    with running(server), pytest.raises(PalateError, match=r"2\d requests in a row"):
        backend(server, attempts=2, concurrency=2).work(ask(map(str, range(500))), collect(found))
    assert 29 <= sum(reply.text is not None for reply in found.values()) <= 31

    limps = FlakyServer(lambda _: GOOD, share=0.5, failures=("drop",))
    found = answers(limps, map(str, range(100)), attempts=1)
    assert len(found) == 100
    assert 30 < sum(reply.text is not None for reply in found.values()) < 70


def test_pictures_travel_as_fresh_small_jpegs(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[270] = "TAKEN AT HOME"  # ImageDescription
    Image.new("RGB", (900, 300), (200, 30, 30)).save(path, exif=exif, comment=b"A SECRET")
    assert b"TAKEN AT HOME" in path.read_bytes()
    assert b"A SECRET" in path.read_bytes()
    server = FlakyServer(lambda _: GOOD)
    chat = Chat(("Look: ", Picture(path), "What is it?", Picture(None)), system="Be brief.")
    found: dict[str, Reply] = {}
    with running(server):
        backend(server, longest=300).work([ModelRequest("a", chat, 20)], collect(found))
    system, user = server.payloads[0]["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text", "image_url"]
    head, _, data = user["content"][1]["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    raw = base64.b64decode(data, validate=True)
    assert b"TAKEN" not in raw
    assert b"SECRET" not in raw
    image = Image.open(io.BytesIO(raw))
    assert (image.format, image.size) == ("JPEG", (300, 100))
    assert not image.getexif()
    red, green, _ = image.convert("RGB").getpixel((150, 50))  # type: ignore[misc]
    assert red > 180
    assert green < 60


def test_a_broken_picture_fails_its_own_request_and_is_never_sent(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    server = FlakyServer(lambda _: GOOD)
    requests = [ModelRequest("bad", Chat(("Look", Picture(broken))), 9), *ask(["good"])]
    found: dict[str, Reply] = {}
    with running(server):
        backend(server).work(requests, collect(found))
    assert found["good"].text == GOOD
    assert found["bad"].attempts == 0
    assert "broken.png" in str(found["bad"].error)
    assert len(server.payloads) == 1


def test_the_request_says_what_the_protocol_wants() -> None:
    server = FlakyServer(lambda _: GOOD)
    with running(server):
        backend(server).work(ask(["a"], 33), collect({}))
        for seed in (1, 1, 2):
            backend(server, temperature=0.7, seed=seed).work(ask(["a", "b"]), collect({}))
    assert server.paths[0] == "/v1/chat/completions"
    assert server.payloads[0] == {
        "model": "tiny", "messages": [{"role": "user", "content": "a"}], "max_tokens": 33, "temperature": 0.0,
    }  # fmt: skip
    seeds = [
        {prompt_of(payload): payload["seed"] for payload in server.payloads[start : start + 2]} for start in (1, 3, 5)
    ]
    assert seeds[0] == seeds[1] != seeds[2]
    assert seeds[0]["a"] != seeds[0]["b"]


def test_servers_that_want_max_completion_tokens_get_it() -> None:
    def answer(payload: Payload) -> Any:
        if "max_tokens" in payload:
            return 400, {}, b'{"error": {"message": "Unsupported: max_tokens. Use max_completion_tokens."}}'
        return GOOD

    server = FlakyServer(answer)
    found = answers(server, ["a", "b", "c"], concurrency=1)
    assert all(reply.text == GOOD and reply.attempts == 1 for reply in found.values())
    assert [("max_tokens" in one, one.get("max_completion_tokens")) for one in server.payloads] == [
        (True, None), (False, 50), (False, 50), (False, 50),
    ]  # fmt: skip


def test_requests_that_were_under_way_when_the_limit_was_renamed_are_asked_again() -> None:
    def answer(payload: Payload) -> Any:
        if "max_tokens" in payload:
            return 400, {}, b'{"error": {"message": "Unsupported: max_tokens. Use max_completion_tokens."}}'
        return GOOD

    found = answers(FlakyServer(answer), [f"user {number}" for number in range(40)], concurrency=16)
    assert len(found) == 40
    assert all(reply.text == GOOD for reply in found.values())


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Workers of pytest-xdist ignore SIGINT; here it means what it means in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_at_once_and_keeps_what_is_done() -> None:
    found: dict[str, Reply] = {}

    def done(reply: Reply) -> list[ModelRequest]:
        found[reply.key] = reply
        if len(found) == 10:
            signal.raise_signal(signal.SIGINT)
        return []

    server = FlakyServer(lambda _: GOOD)
    with running(server):
        with pytest.raises(KeyboardInterrupt):
            backend(server, concurrency=4).work(ask(map(str, range(1000))), done)
        asked = len(server.payloads)
        time.sleep(0.05)
        assert len(server.payloads) <= asked + 4  # nobody is left behind who would go on asking
    assert 10 <= len(found) <= 14
    assert asked < 30
    assert all(reply.text == GOOD for reply in found.values())


def test_an_error_in_done_comes_out() -> None:
    def done(reply: Reply) -> list[ModelRequest]:
        raise OSError("disk full")

    with running(FlakyServer(lambda _: GOOD)) as server, pytest.raises(OSError, match="disk full"):
        backend(server).work(ask(["a", "b"]), done)


def test_it_works_inside_a_notebook() -> None:
    found: dict[str, Reply] = {}

    async def cell(url: str) -> None:
        OpenAIBackend("tiny", base_url=url).work(ask(["a", "b"]), collect(found))

    with running(FlakyServer(lambda _: GOOD)) as server:
        asyncio.run(cell(server.url))
    assert {reply.text for reply in found.values()} == {GOOD}


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://x/v1", "http://", "http://x:port/v1", "http://[::1/v1", "http://u:p@x/v1", "http://x/v1?k=1",
     "http://x y/v1", "http://x/v1/chat/completions", "", None],
)  # fmt: skip
def test_a_base_url_that_cannot_be_is_refused_early(url: str | None) -> None:
    with pytest.raises(PalateError, match=re.compile("base URL|server", re.IGNORECASE)):
        OpenAIBackend("tiny", base_url=url)


def test_the_environment_may_name_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1/")
    assert OpenAIBackend("tiny").base_url == "http://localhost:9/v1"


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"attempts": 0}, {"timeout": 0}, {"timeout": float("nan")}, {"temperature": -1}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PalateError):
        OpenAIBackend("tiny", base_url="http://localhost:1/v1", **options)


def test_open_backend_names_what_does_not_fit() -> None:
    with pytest.raises(PalateError, match="Did you mean 'openai'"):
        open_backend("opnai", "x")
    with pytest.raises(PalateError, match="no option --device"):
        open_backend("openai", "x", base_url="http://localhost:1/v1", device="cpu")
    with pytest.raises(PalateError, match="no option --base-url"):
        open_backend("local", "x", base_url="http://localhost:1/v1")
    with pytest.raises(PalateError, match="Give --model"):
        open_backend("openai", base_url="http://localhost:1/v1")
    with pytest.raises(PalateError, match="Give --model"):
        open_backend("local")
    with pytest.raises(PalateError, match="no embedded model"):
        open_backend("embedded", "gpt2")
    it = open_backend("openai", "x", base_url="http://localhost:1/v1", attempts=2, longest=100)
    assert isinstance(it, OpenAIBackend)
    assert (it.attempts, it.longest, it.concurrency) == (2, 100, 8)
