"""The interface of backends: chats in, replies out as they come, each with its cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from palate.mllm.prompts.chat import Chat


@dataclass(frozen=True)
class ModelRequest:
    """One question.

    Attributes:
        key: names the request in its reply.
        chat: the question.
        max_new_tokens: of the answer, at most.
    """

    key: str
    chat: Chat
    max_new_tokens: int


@dataclass(frozen=True)
class Reply:
    """The answer to a request, or why there is none.

    Attributes:
        key: the request's.
        text: the answer, stripped; None where every attempt failed.
        error: why ``text`` is None, in one sentence.
        prompt_tokens, new_tokens: read and written in all attempts (0 where a server does not count them).
        attempts: how often the request was tried.
        seconds: of this request; a batch's time is divided among its rows.
    """

    key: str
    text: str | None
    error: str | None = None
    prompt_tokens: int = 0
    new_tokens: int = 0
    attempts: int = 1
    seconds: float = 0.0


Done = Callable[[Reply], Iterable[ModelRequest]]
# Text -> what is wrong with it (None: nothing). A refused answer is asked for again where that can help.
Check = Callable[[str], str | None]


class Backend(ABC):
    """Answers requests.

    Attributes:
        spec: opens it again (:class:`.LocalModelSpec`); None where a file cannot do that.
    """

    spec: dict[str, Any] | None = None

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the answers, and so is part of a stored one's key: model, revision or fingerprint, sampling.
        Not: batch sizes, devices, URLs, time-outs."""

    @abstractmethod
    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """Answer all requests, in an order of the backend's own, and those that ``done`` returns.

        ``done`` is called once per request, as soon as its reply is there, and always from the calling thread or its
        event loop, never from two at once. It returns requests that follow from the reply (the next step of a history).

        Raises:
            PalateError: only what makes all further work useless (no such model, refused credentials). What fails for
                one request alone is in its reply.
        """
