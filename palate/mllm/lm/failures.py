"""What goes wrong inside a model or its processor, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from palate.errors import PalateError
from palate.mllm.lm.chat_model import ChatModel

# What processors and forwards raise for input that their family does not take.
_KINDS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, OSError)


def brief(error: Exception, longest: int = 200) -> str:
    """The kind of an error and the first line of what it says.

    >>> brief(ValueError("no such layer\\nsee above"))
    'ValueError: no such layer'
    """
    said = str(error).strip().splitlines() or [""]
    text = f"{type(error).__name__}: {said[0]}"
    return text if len(text) <= longest else text[: longest - 1] + "…"


@contextmanager
def in_one_sentence(model: ChatModel) -> Iterator[None]:
    """Errors of the model's own code become a :class:`PalateError` that names the model."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PalateError(
            f"'{model.name}' does not fit into the device's memory with these prompts ({brief(error)})",
            "Read fewer at a time (--set scoring.rows=4), show less, or use --quantisation.",
        ) from error
    except _KINDS as error:
        raise PalateError(
            f"'{model.name}' ({model.family}) fails while it reads a prompt ({brief(error)})",
            "Use --images none, or a model of a family that is tested (docs/mllm-models.md).",
        ) from error
