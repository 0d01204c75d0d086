"""Opening a backend by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palate.errors import PalateError, suggest
from palate.mllm.backends.base import Backend

BACKENDS = ("embedded", "local", "openai")
EMBEDDED = ("embedded", "embedded-small")


def open_backend(
    kind: str,
    model: str | None = None,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    attempts: int | None = None,
    longest: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    quantisation: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    adapter: Path | None = None,
    batch_size: int | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    concurrency: int | None = None,
    timeout: float | None = None,
) -> Backend:
    """The backend of a name, ready to work; what is not given takes the backend's own default.

    Args:
        kind: ``embedded`` (the model that Palate brings along), ``local`` (a transformers model in this process) or
            ``openai`` (a server).
        model: a hub name or a folder (local), the server's name of it (openai); ``embedded`` needs none.
        temperature: 0: the likeliest token.
        seed: of sampling, and of the jitter between attempts.
        attempts: how often one request is tried.
        longest: pictures are shrunk to this many pixels a side.
        chat_template_kwargs: further variables of the chat template, such as ``{"enable_thinking": False}``.
        device, dtype, quantisation, revision, trust_remote_code, adapter, batch_size: embedded and local only.
        base_url, api_key, concurrency, timeout: openai only.

    Raises:
        PalateError: no such backend or model, or an option that the backend does not have.
    """
    if kind not in BACKENDS:
        raise PalateError(f"there is no backend named '{kind}'", suggest(kind, BACKENDS))
    ours: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "quantisation": quantisation,
        "revision": revision,
        "trust_remote_code": trust_remote_code or None,
        "adapter": adapter,
        "batch_size": batch_size,
    }
    theirs: dict[str, Any] = {"base_url": base_url, "api_key": api_key, "concurrency": concurrency, "timeout": timeout}
    for name in [name for name, value in (ours if kind == "openai" else theirs).items() if value is not None]:
        option = name.replace("_", "-")
        raise PalateError(f"the backend '{kind}' has no option --{option}", "Leave it out, or choose another backend.")
    common: dict[str, Any] = {
        "attempts": attempts,
        "longest": longest,
        "chat_template_kwargs": chat_template_kwargs or None,
    }
    if kind == "openai":
        from palate.mllm.backends.openai import OpenAIBackend

        given = {key: value for key, value in {**theirs, **common}.items() if value is not None}
        return OpenAIBackend(model or "", temperature=temperature, seed=seed, **given)
    return _local(kind, model, temperature, seed, {**ours, **common})


def _local(kind: str, model: str | None, temperature: float, seed: int, options: dict[str, Any]) -> Backend:
    from palate.mllm.backends.local import LocalBackend
    from palate.mllm.backends.local_spec import LocalModelSpec
    from palate.mllm.lm.loading import open_model

    if kind == "embedded":
        model = model or EMBEDDED[0]
        if model not in EMBEDDED:
            remedy = "For a folder, use --backend local." if Path(model).is_dir() else suggest(model, EMBEDDED)
            raise PalateError(f"'{model}' is no embedded model", remedy)
    elif model is None:
        raise PalateError("the backend 'local' needs a model", "Give --model: a hub name or a folder.")
    given = {key: value for key, value in options.items() if value is not None}
    working = {key: given.pop(key) for key in ("attempts", "batch_size") if key in given}
    opened = open_model(model, **given)
    backend = LocalBackend(opened, temperature=temperature, seed=seed, **working)
    known = {name: given.get(name) for name in ("quantisation", "revision", "adapter")}
    backend.origin = LocalModelSpec.of(opened, **known, temperature=temperature, seed=seed).model_dump()
    return backend
