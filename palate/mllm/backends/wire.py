"""Chats and answers in the OpenAI protocol."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from palate.errors import PalateError
from palate.mllm.backends.errors import BackendError, server_message
from palate.mllm.prompts.chat import Chat, Picture

# Where servers put a thought: vLLM and SGLang, OpenRouter and newer vLLM.
_THOUGHTS = ("reasoning_content", "reasoning")


def checked_url(url: str | None) -> str:
    """A base URL that can be used.

    >>> checked_url("http://localhost:8000/v1/")
    'http://localhost:8000/v1'
    >>> checked_url("localhost:8000")
    Traceback (most recent call last):
    palate.errors.PalateError: 'localhost:8000' is no base URL. Write it like http://localhost:8000/v1.
    """
    like = "Write it like http://localhost:8000/v1."
    if not url:
        raise PalateError(
            "the backend 'openai' needs to know its server", f"Give --base-url or OPENAI_BASE_URL. {like}"
        )
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:  # a port that is no number, an unclosed bracket
        fine, parts = False, None
    if parts is not None and (parts.username is not None or parts.password is not None):
        raise PalateError("the base URL holds a user name or password", "Give a key with OPENAI_API_KEY instead.")
    if not fine or parts is None or parts.query or parts.fragment or any(sign.isspace() for sign in url):
        raise PalateError(f"'{url}' is no base URL", like)
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise PalateError(f"'{url}' is one endpoint, not the base URL", "Leave out /chat/completions.")
    return url.rstrip("/")


def messages(chat: Chat, longest: int | None) -> list[dict[str, Any]]:
    """The chat as messages; pictures are data URLs.

    Raises:
        PalateError: a picture cannot be opened.
    """
    content: Any = chat.text
    if chat.pictures:
        content = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": data_url(part, longest)}}
            for part in chat.parts
        ]
    user = {"role": "user", "content": content}
    return [user] if chat.system is None else [{"role": "system", "content": chat.system}, user]


def without_pictures(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same messages, of which only the text is left."""
    return [
        one
        if isinstance(one["content"], str)
        else {**one, "content": [part for part in one["content"] if part["type"] == "text"]}
        for one in messages
    ]


def data_url(picture: Picture, longest: int | None) -> str:
    """The decoded pixels as a new JPEG: what else was in the file (place and time of a photo, a second file behind the
    picture) is not sent."""
    buffer = io.BytesIO()
    image = picture.open(longest)
    image.info.clear()  # EXIF and comments, which a format may write back
    image.save(buffer, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@dataclass(frozen=True)
class WireReply:
    """A server's answer: its text ("" where there is none) and the tokens it counted.

    Attributes:
        cut: it ended at its longest length, not because it was complete.
        thought: the server sent a thought beside the text, or counts one.
        attempts: how often the request was sent.
    """

    text: str
    prompt_tokens: int
    new_tokens: int
    refusal: str | None = None
    cut: bool = False
    thought: bool = False
    attempts: int = 1


def parse(body: bytes) -> WireReply:
    """The answer in a response's body.

    Raises:
        BackendError: it is no chat completion: cut off, HTML, an error sent with status 200.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        shown = server_message(body[:2000].decode("utf-8", "replace"), 60)
        raise BackendError(f"the server's answer is no JSON ({shown or 'empty'})") from None
    choices = found.get("choices") if isinstance(found, dict) else None
    found_first = choices[0] if isinstance(choices, list) and choices else None
    first: dict[str, Any] = found_first if isinstance(found_first, dict) else {}
    message = first.get("message")
    if not isinstance(message, dict):
        shown = server_message(body[:2000].decode("utf-8", "replace"), 60)
        raise BackendError(f"the server's answer holds no message ({shown})")
    usage = found.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    refusal = message.get("refusal")
    details = usage.get("completion_tokens_details")
    hidden = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    return WireReply(
        _text(message.get("content")),
        _count(usage.get("prompt_tokens")),
        _count(usage.get("completion_tokens")),
        refusal if isinstance(refusal, str) and refusal else None,
        first.get("finish_reason") == "length",
        hidden > 0 or any(_text(message.get(name)).strip() for name in _THOUGHTS),
    )


def _text(content: Any) -> str:
    """Content is a string, null, or a list of parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
