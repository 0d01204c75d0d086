"""What can go wrong with a server: which errors pass, which are one request's own, and which end all work."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from palate.errors import PalateError

_PASSING = (408, 409, 425, 429)
_OUR_KEY = "Check the key in OPENAI_API_KEY and what it may do on this server."
# The package openai waits no longer than this, however long the server asks it to.
LONGEST_WAIT = 120.0
# How servers word that there is no such model, and that a temperature is not taken.
_NO_MODEL = re.compile(
    r"\bmodels?\b.{0,120}?\b(?:not found|not exist|doesn.?t exist|no such|not available|is unknown|not loaded)\b"
    r"|\b(?:unknown|invalid|unrecogni[sz]ed|not a valid|no such|no) models?\b|model_not_found",
    re.DOTALL,
)
_REFUSES = r"(?:unsupported|not? support|not allowed|deprecated|only|must|strictly|greater than)"
_NO_TEMPERATURE = re.compile(rf"temperature\b.{{0,60}}?{_REFUSES}|{_REFUSES}.{{0,40}}?\btemperature\b", re.DOTALL)


@dataclass
class BackendError(Exception):
    """A request failed.

    Attributes:
        message: what happened, in a few words.
        again: whether another attempt may do better.
        unreachable: whether the server did not answer at all.
        attempts: how often it was tried.
    """

    message: str
    again: bool = True
    unreachable: bool = False
    attempts: int = 1


def status_error(status: int, body: str, headers: Mapping[str, str], model: str, works: bool = False) -> BackendError:
    """The error that an HTTP answer other than 200 stands for.

    Args:
        works: whether the server has answered before with this key and address: then a 403 or 404 is about one request
            (moderation, a gateway), not about all.

    Raises:
        PalateError: it makes all further work useless: credentials, an unknown model, a setting that is not taken, an
            empty account, a wait that is too long.
    """
    words = server_message(body)
    message = f"the server answered {status}{f': {words}' if words else ''}"
    low = body.lower()
    if status == 401 or (status == 403 and not works):
        raise PalateError(f"the server refused the credentials ({status}{f': {words}' if words else ''})", _OUR_KEY)
    if not works and status in (400, 404, 422):
        _check_setup(status, words, low, model)
    if status == 404 and not works and (not _is_json(body) or words.lower() in ("not found", "")):
        raise PalateError(
            f"the server has no chat completions there ({message})", "The base URL most often ends in /v1."
        )
    if status == 402 or "insufficient_quota" in low:
        raise PalateError(f"the account is used up ({message})", "Top it up and run the same command again.")
    again = status in _PASSING or status >= 500
    wait = retry_after(headers) if again else None
    if wait is not None and wait > LONGEST_WAIT:
        raise PalateError(
            f"the server asks to come back in {wait:,.0f} seconds ({message})",
            "Run the same command again then; what is done is kept.",
        )
    return BackendError(message, again=again)


def _check_setup(status: int, words: str, low: str, model: str) -> None:
    """Raise for what every request has in common, and the server does not take."""
    if _NO_MODEL.search(low):
        raise PalateError(
            f"the server has no model '{model}' ({status}: {words})", "Ask it for its names: GET BASE_URL/models."
        )
    if _NO_TEMPERATURE.search(low):
        raise PalateError(
            f"the model '{model}' does not take this temperature ({status}: {words})",
            "Give one that it takes, most often --temperature 1.",
        )
    if "chat_template_kwargs" in low:
        raise PalateError(
            f"the server does not take variables of a chat template ({status}: {words})",
            "Leave out --chat-template-kwargs, and set them where the server is started.",
        )


def _is_json(body: str) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):  # the latter from a thousand brackets
        return False


def server_message(body: str, most: int = 200) -> str:
    """The message of a server's error page, in one short line.

    >>> server_message('{"error": {"message": "prompt too long", "code": 400}}')
    'prompt too long'
    >>> server_message("<html><h1>502</h1>Bad Gateway</html>")
    '502 Bad Gateway'
    """
    text = body
    try:
        found: Any = json.loads(body)
        for key in ("error", "detail", "message"):
            if isinstance(found, dict) and key in found:
                found = found[key]
        text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = re.sub(r"<[^>]*>", " ", body)
    # No control characters: this goes to a terminal.
    flat = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return flat if len(flat) <= most else f"{flat[:most]}..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the header Retry-After asks to wait: a number or a date.

    >>> retry_after({"retry-after": "2.5"}), retry_after({"retry-after": "soon"}), retry_after({})
    (2.5, None, None)
    """
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (when.replace(tzinfo=when.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
