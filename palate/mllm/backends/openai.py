"""Any server that speaks the OpenAI protocol (vLLM, SGLang, llama.cpp, hosted ones)."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.backends.decoding import generator
from palate.mllm.backends.errors import BackendError, server_message, status_error
from palate.mllm.backends.served import ServedModel
from palate.mllm.backends.wire import WireReply, checked_url, messages, parse
from palate.mllm.lm.reasoning import answer_text, thought_cut_off

# This many requests in a row for which the server could not be reached in any attempt: it is not there.
_GONE_AFTER = 20
# This many requests refused in a row, in the same words, before any was answered: so will all others be.
_REFUSED_AFTER = 10


class OpenAIBackend(Backend):
    """Answers with a server's ``chat/completions``, many requests at a time.

    The package ``openai`` tries again what may pass, with its own waits and after ``Retry-After``: no connection,
    time-outs, 408, 409, 425, 429 and 5xx, bodies that are cut off or no JSON. Answers that are empty or that ``check``
    refuses are asked for again at once. Other refusals (400, 413, 422 ...) fail their own request.

    Args:
        model: the server's name of the model.
        base_url: ``http://host:port/v1``; None: the environment's OPENAI_BASE_URL. Nothing is sent anywhere else.
        api_key: None: the environment's OPENAI_API_KEY. It is neither stored nor shown.
        concurrency: requests under way at a time, waiting ones included.
        timeout: seconds for one attempt, from connecting to the last byte.
        attempts: how often one request is tried.
        temperature: 0: the likeliest token.
        seed: with a temperature, of each request's own seed on the server.
        longest: pictures are shrunk to at most this many pixels per side before they are sent; None: never.
        chat_template_kwargs: variables of the model's chat template, for servers that take them (vLLM, SGLang).

    Raises:
        PalateError: an option out of its range, or the package ``openai`` is missing.
    """

    def __init__(
        self,
        model: str | None,
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
        self._limit = "max_tokens"  # what most servers call it; newer ones of OpenAI ask for another name
        self._unreached = 0  # requests in a row that found no server
        self._works = False  # whether it has ever answered
        self._refused: tuple[str, int] = ("", 0)  # in which words it refuses, and how often it has in a row
        self._served = ServedModel(model)
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        _package()

    def __repr__(self) -> str:
        return f"OpenAIBackend({self.model!r}, base_url={self.base_url!r})"

    @property
    def identity(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"backend": "openai", "model": self.model, "temperature": self.temperature}
        facts["longest"] = self.longest
        if self.chat_template_kwargs:
            facts["chat_template_kwargs"] = self.chat_template_kwargs
        return facts | ({"seed": self.seed} if self.temperature else {})

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """See :meth:`Backend.work`. On Ctrl-C the requests under way are dropped; ``done`` has seen all others."""
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
        self._unreached = 0
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
        openai = _package()
        http = openai.DefaultAsyncHttpxClient(timeout=self.timeout)
        # The package has its own copy of httpx under another name since version 3.
        httpx = import_module(type(http).__mro__[1].__module__.partition(".")[0])
        send = http.send

        async def send_once(request: Any, **options: Any) -> Any:
            """One attempt. The package decides by status alone whether another one follows, has no limit for a whole
            attempt (its own is for each read; a server that sends one byte at a time never meets it), and takes every
            200 for an answer. Its header ``x-should-retry`` and httpx's errors make it decide as promised."""
            try:
                async with asyncio.timeout(self.timeout):
                    response = await send(request, **options)
            except TimeoutError:
                raise httpx.ReadTimeout("", request=request) from None
            if response.status_code == 200:
                try:
                    parse(response.content)
                except BackendError as unreadable:
                    raise httpx.RemoteProtocolError(unreadable.message, request=request) from unreadable
            else:
                response.headers["x-should-retry"] = str(self._may_pass(response)).lower()
            return response

        http.send = send_once
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",  # servers of one's own ask for none, but the package insists
            timeout=self.timeout,
            http_client=http,
        )

    def _may_pass(self, response: Any) -> bool:
        try:
            return self._status_error(response).again
        except PalateError:  # no request will ever be answered
            return False

    def _status_error(self, response: Any) -> BackendError:
        """See :func:`status_error`."""
        body = response.text
        if self._api_key:  # some servers say which key they refused
            body = body.replace(self._api_key, "***")
        return status_error(response.status_code, body, response.headers, self.model, self._works)

    async def _answer(self, client: Any, request: ModelRequest, check: Check | None) -> Reply:
        """One request with all its attempts."""
        began = time.perf_counter()
        prompt_tokens = new_tokens = attempts = number = 0
        text = error = None

        def reply(text: str | None, error: str | None) -> Reply:
            seconds = round(time.perf_counter() - began, 4)
            return Reply(request.key, text, error, prompt_tokens, new_tokens, attempts, seconds)

        try:  # pictures are decoded beside the loop
            shown = (
                await asyncio.to_thread(messages, request.chat, self.longest)
                if request.chat.pictures
                else messages(request.chat, self.longest)
            )
        except PalateError as broken:  # a picture of its own
            return Reply(request.key, None, str(broken), attempts=0)
        probe = partial(self._ask, client.with_options(max_retries=0), number=1)
        while attempts < self.attempts:
            number += 1
            try:
                retrying = client.with_options(max_retries=self.attempts - attempts - 1)
                answer = await self._ask(retrying, request, shown, number=number)
                attempts += answer.attempts
                self._unreached, self._works = 0, True
                prompt_tokens, new_tokens = prompt_tokens + answer.prompt_tokens, new_tokens + answer.new_tokens
                await self._served.check_pictures(probe, request, shown, answer)
                if await self._served.is_thought(probe, request, answer):
                    # Not once more: the same question would be thought about as long.
                    return reply(None, str(thought_cut_off()))
                text, error = _checked(answer, check)
                if error is None:
                    return reply(text, None)
            except BackendError as failure:
                attempts += failure.attempts
                error = failure.message
                self._count(failure, last=attempts >= self.attempts)
                if not failure.again:
                    break
        return reply(None, f"{error} ({attempts} attempt{'s' if attempts > 1 else ''})")

    def _count(self, failure: BackendError, last: bool) -> None:
        """Stop where failures in a row say that all requests will fail."""
        if not failure.unreachable:
            self._unreached = 0
        elif last:
            self._unreached += 1
            if self._unreached >= _GONE_AFTER:
                raise PalateError(
                    f"{self._unreached} requests in a row could not reach {self.base_url} ({failure.message})",
                    "Check that the server runs and that --base-url is right, then run the same command again.",
                )
        if not failure.again:
            words, times = self._refused
            self._refused = (failure.message, times + 1 if failure.message == words else 1)
            if not self._works and self._refused[1] >= _REFUSED_AFTER:
                raise PalateError(
                    f"the server refuses every request ({failure.message})",
                    "Mend what it names, then run the same command again.",
                )

    async def _ask(self, client: Any, request: ModelRequest, shown: list[dict[str, Any]], number: int) -> WireReply:
        """One question, tried as often as ``client`` does; ``number``: how often it was asked, for its seed."""
        openai = _package()
        more: dict[str, Any] = {self._limit: request.max_new_tokens}
        if self.chat_template_kwargs:
            more["extra_body"] = {"chat_template_kwargs": self.chat_template_kwargs}
        if self.temperature:
            more["seed"] = generator(self.seed, request.key, str(number)).initial_seed() % 2**31
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model=self.model, messages=shown, temperature=self.temperature, **more
            )
            return replace(parse(raw.http_response.content), attempts=raw.retries_taken + 1)
        except openai.APIStatusError as error:
            renamed = error.status_code == 400 and "max_completion_tokens" in error.response.text
            if renamed and "max_tokens" in more:  # of this request: others under way may have been renamed before it
                self._limit = "max_completion_tokens"
                return await self._ask(client, request, shown, number)
            raise replace(self._status_error(error.response), attempts=_attempts(error)) from None
        except openai.APITimeoutError as error:
            message = f"no answer within {self.timeout:g} seconds"
            raise BackendError(message, unreachable=True, attempts=_attempts(error)) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            if isinstance(cause.__cause__, BackendError):  # an answer that cannot be read
                raise replace(cause.__cause__, attempts=_attempts(error)) from None
            message = server_message(str(cause) or type(cause).__name__, 100)
            message = f"no connection to {self.base_url} ({message})"
            raise BackendError(message, unreachable=True, attempts=_attempts(error)) from None
        except openai.OpenAIError as error:
            raise BackendError(f"the server's answer cannot be read ({server_message(str(error), 100)})") from None


def _attempts(error: Any) -> int:
    """How often the package had sent a request when it gave up."""
    return int(error.request.headers.get("x-stainless-retry-count", 0)) + 1


def _checked(answer: WireReply, check: Check | None) -> tuple[str | None, str | None]:
    """The text, or what is wrong with it."""
    text = answer_text(answer.text)
    if not text:
        refusal = server_message(answer.refusal or "", 100)
        return None, f"the model refused ({refusal})" if answer.refusal else "an empty answer"
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
