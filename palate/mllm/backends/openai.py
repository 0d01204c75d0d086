"""The openai backend: any server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, hosted ones)."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.backends.decoding import generator
from palate.mllm.backends.errors import BackendError, Backoff, server_message, status_error
from palate.mllm.backends.served import ServedModel
from palate.mllm.backends.wire import WireReply, checked_url, messages, parse
from palate.mllm.lm.reasoning import answer_text, thought_cut_off

# This many requests in a row for which the server could not be reached in any attempt: it is not there.
_GONE_AFTER = 20
# This many requests refused in a row, in the same words, before any was answered: so will all others be.
_REFUSED_AFTER = 10


class OpenAIBackend(Backend):
    """Answers with a server's ``chat/completions``, many requests at a time.

    What may pass is tried again: no connection, time-outs, 408, 409, 425, 429 and 5xx, bodies that are cut off or no
    JSON, empty answers and those that ``check`` refuses. Other refusals (400, 413, 422 ...) fail their own request.

    Args:
        model: the server's name of the model.
        base_url: ``http://host:port/v1``; None: the environment's OPENAI_BASE_URL. Nothing is sent anywhere else.
        api_key: None: the environment's OPENAI_API_KEY. It is neither stored nor shown.
        concurrency: requests on their way at a time, waiting ones included.
        timeout: seconds for one attempt, from connecting to the last byte.
        attempts: how often one request is tried.
        temperature: 0: the likeliest token.
        seed: of the jitter, and, with a temperature, of each request's own seed on the server.
        longest: pictures are shrunk to this many pixels a side before they are sent; None: never.
        chat_template_kwargs: variables of the model's chat template, for servers that take them (vLLM, SGLang).
        backoff: how long to wait between attempts.
        sleep: waits; replaced in tests.

    Raises:
        PalateError: an option out of its range, or the package ``openai`` is missing.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = 120.0,
        attempts: int = 5,
        temperature: float = 0.0,
        seed: int = 0,
        longest: int | None = 672,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not model:
            raise PalateError("the backend 'openai' needs the name of a model", "Give --model.")
        if concurrency < 1 or attempts < 1 or not timeout > 0:
            raise PalateError(
                f"concurrency {concurrency}, attempts {attempts} and time-out {timeout} must be above 0", "Mend them."
            )
        if not 0 <= temperature <= 2:
            raise PalateError(f"the temperature is {temperature}", "Give 0 (the likeliest token) to 2.")
        self.model, self.temperature, self.seed, self.longest = model, temperature, seed, longest
        self.base_url = checked_url(base_url or os.environ.get("OPENAI_BASE_URL"))
        self.concurrency, self.timeout, self.attempts = concurrency, timeout, attempts
        self._api_key = api_key or os.environ.get("OPENAI_API_KEY") or None
        self._backoff, self._sleep = backoff or Backoff(seed=seed), sleep
        self._limit = "max_tokens"  # what most servers call it; newer ones of OpenAI ask for another name
        self._gone = 0  # requests in a row that found no server
        self._works = False  # whether it has ever answered
        self._refused: tuple[str, int] = ("", 0)  # in which words it refuses, and how often it has in a row
        self._served = ServedModel(model)
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        _package()

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.model!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> dict[str, Any]:
        said: dict[str, Any] = {"backend": "openai", "model": self.model, "temperature": self.temperature}
        said["longest"] = self.longest
        if self.chat_template_kwargs:
            said["chat_template_kwargs"] = self.chat_template_kwargs
        return said | ({"seed": self.seed} if self.temperature else {})

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """See :meth:`Backend.work`. On Ctrl-C the requests on their way are dropped; ``done`` has seen all others."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._work(iter(requests), done, check))
            return
        with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own, which cannot be entered again
            thread.submit(asyncio.run, self._work(iter(requests), done, check)).result()

    async def _work(self, requests: Iterator[ModelRequest], done: Done, check: Check | None) -> None:
        follow_ups: deque[ModelRequest] = deque()
        running: set[asyncio.Task[Reply]] = set()
        self._gone = 0
        self._served.begin()
        async with self._client() as client:
            try:
                while True:
                    while len(running) < self.concurrency:
                        # A chain that was begun comes before a new one: what is finished early is safe early.
                        request = follow_ups.popleft() if follow_ups else next(requests, None)
                        if request is None:
                            break
                        running.add(asyncio.create_task(self._answer(client, request, check)))
                    if not running:
                        return
                    ready, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    fatal = [task.exception() for task in ready if task.exception() is not None]
                    for task in ready:
                        if task.exception() is None:
                            follow_ups.extend(done(task.result()))
                    if fatal and fatal[0] is not None:
                        raise fatal[0]
            except asyncio.CancelledError:  # Ctrl-C: what came in at the last moment is not lost
                for task in [one for one in running if one.done() and one.exception() is None]:
                    done(task.result())
                raise
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _client(self) -> Any:
        return _package().AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",  # servers of one's own ask for none, but the package insists
            timeout=self.timeout,
            max_retries=0,
        )

    async def _answer(self, client: Any, request: ModelRequest, check: Check | None) -> Reply:
        """One request with all its attempts."""
        began = time.perf_counter()
        read = written = attempt = 0
        error: str | None = None
        text: str | None = None
        try:  # pictures are decoded beside the loop
            shown = (
                await asyncio.to_thread(messages, request.chat, self.longest)
                if request.chat.pictures
                else messages(request.chat, self.longest)
            )
        except PalateError as broken:  # a picture of its own
            return Reply(request.key, None, str(broken), attempts=0)
        again = partial(self._ask, client, attempt=1)
        for attempt in range(1, self.attempts + 1):
            wait = None
            try:
                answer = await self._ask(client, request, shown, attempt)
                self._gone, self._works = 0, True
                read, written = read + answer.prompt_tokens, written + answer.new_tokens
                await self._served.check_pictures(again, request, shown, answer)
                if await self._served.is_thought(again, request, answer):
                    # Not once more: the same question would be thought about as long.
                    seconds = round(time.perf_counter() - began, 4)
                    return Reply(request.key, None, str(thought_cut_off()), read, written, attempt, seconds)
                text, error = _judged(answer, check)
                if error is None:
                    break
            except BackendError as trouble:
                error, wait = trouble.told, trouble.wait
                if not trouble.unreachable:
                    self._gone = 0
                elif attempt == self.attempts:
                    self._count_gone(trouble.told)
                if not trouble.again:
                    self._count_refused(trouble.told)
                    break
            if attempt < self.attempts:
                await self._sleep(self._backoff.seconds(request.key, attempt, wait))
        if error is not None:
            text, error = None, f"{error} ({attempt} attempt{'s' if attempt > 1 else ''})"
        return Reply(request.key, text, error, read, written, attempt, round(time.perf_counter() - began, 4))

    def _count_gone(self, told: str) -> None:
        self._gone += 1
        if self._gone >= _GONE_AFTER:
            raise PalateError(
                f"{self._gone} requests in a row could not reach {self.base_url} ({told})",
                "Check that the server runs and that --base-url is right, then run the same command again.",
            )

    def _count_refused(self, told: str) -> None:
        before, times = self._refused
        self._refused = (told, times + 1 if told == before else 1)
        if not self._works and self._refused[1] >= _REFUSED_AFTER:
            raise PalateError(
                f"the server refuses every request ({told})", "Mend what it names, then run the same command again."
            )

    async def _ask(self, client: Any, request: ModelRequest, shown: list[dict[str, Any]], attempt: int) -> WireReply:
        """One attempt."""
        openai = _package()
        more: dict[str, Any] = {self._limit: request.max_new_tokens}
        if self.chat_template_kwargs:
            more["extra_body"] = {"chat_template_kwargs": self.chat_template_kwargs}
        if self.temperature:
            more["seed"] = generator(self.seed, request.key, str(attempt)).initial_seed() % 2**31
        try:
            # The client's own limit is for each read; a server that drips would never meet it.
            async with asyncio.timeout(self.timeout):
                raw = await client.chat.completions.with_raw_response.create(
                    model=self.model, messages=shown, temperature=self.temperature, **more
                )
                return parse(raw.http_response.content)
        except (TimeoutError, openai.APITimeoutError):
            raise BackendError(f"no answer within {self.timeout:g} seconds", unreachable=True) from None
        except openai.APIStatusError as error:
            body = error.response.text
            if self._api_key:  # some servers say which key they refused
                body = body.replace(self._api_key, "***")
            if error.status_code == 400 and self._limit == "max_tokens" and "max_completion_tokens" in body:
                self._limit = "max_completion_tokens"
                return await self._ask(client, request, shown, attempt)
            raise status_error(error.status_code, body, error.response.headers, self.model, self._works) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            told = server_message(str(cause) or type(cause).__name__, 100)
            raise BackendError(f"no connection to {self.base_url} ({told})", unreachable=True) from None
        except openai.OpenAIError as error:
            raise BackendError(f"the server's answer cannot be read ({server_message(str(error), 100)})") from None


def _judged(answer: WireReply, check: Check | None) -> tuple[str | None, str | None]:
    """The text, or what is wrong with it."""
    text = answer_text(answer.text)
    if not text:
        told = f"the model refused ({server_message(answer.refusal, 100)})" if answer.refusal else "an empty answer"
        return None, told
    wrong = None if check is None else check(text)
    return (text, None) if wrong is None else (None, f"no usable answer ({wrong}): {server_message(text, 80)!r}")


def _package() -> Any:
    try:
        import openai
    except ImportError:
        raise PalateError(
            "the backend 'openai' needs the package openai", "Install it: pip install 'palate[openai]'."
        ) from None
    return openai
