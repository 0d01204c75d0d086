"""What vLLM is started with by ``ray.data.llm``, and rows of its data set: requests in, answers out. Plain values only,
so that neither Ray nor vLLM is needed here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.mllm.backends.base import ModelRequest
from palate.mllm.backends.decoding import generator
from palate.mllm.backends.wire import messages
from palate.mllm.prompts.chat import Chat, Picture

# The share of a GPU's memory that vLLM takes where it has the whole GPU.
_MEMORY = 0.9


def processor_options(
    model: str,
    *,
    workers: int,
    gpus: float,
    cpus: int,
    pictures: bool,
    batch_size: int,
    dtype: str,
    seed: int,
    revision: str | None = None,
    trust_remote_code: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Arguments of ``ray.data.llm.vLLMEngineProcessorConfig`` of Ray 2.60.

    Args:
        workers: copies of the model.
        gpus: of each copy: a share of one, or several, over which its layers are divided.
        pictures: whether prompts show some.

    >>> options = processor_options("m", workers=2, gpus=4, cpus=1, pictures=False, batch_size=64, dtype="auto", seed=0)
    >>> options["concurrency"], options["engine_kwargs"]["tensor_parallel_size"], options["placement_group_config"]
    (2, 4, {'bundle_per_worker': {'CPU': 1, 'GPU': 1.0}})
    """
    engine = {
        "dtype": dtype,
        "seed": seed,
        "tensor_parallel_size": max(1, int(gpus)),
        "gpu_memory_utilization": round(_MEMORY * min(1.0, gpus), 3),
        "enable_prefix_caching": True,
        "trust_remote_code": trust_remote_code,
    }
    if revision is not None:
        engine |= {"revision": revision, "tokenizer_revision": revision}
    return {
        "model_source": model,
        "concurrency": workers,
        "batch_size": batch_size,
        "engine_kwargs": engine,
        "placement_group_config": {"bundle_per_worker": {"CPU": cpus, "GPU": min(1.0, float(gpus))}},
        "chat_template_stage": {"enabled": True, "chat_template_kwargs": dict(chat_template_kwargs or {})},
        "prepare_multimodal_stage": {"enabled": pictures},
        "should_continue_on_error": True,  # a prompt that is too long is its own request's failure
    }


def request_row(number: int, request: ModelRequest, *, temperature: float, seed: int, attempt: int) -> dict[str, Any]:
    """A request as a row; its pictures are named, not opened."""
    sampling: dict[str, Any] = {"max_tokens": request.max_new_tokens, "temperature": temperature}
    if temperature:
        sampling["seed"] = generator(seed, request.key, str(attempt)).initial_seed() % 2**31
    parts = [part if isinstance(part, str) else {"picture": _name(part)} for part in request.chat.parts]
    return {
        "number": number,
        "request": json.dumps({"parts": parts, "system": request.chat.system, "sampling": sampling}),
    }


def prompt_row(row: dict[str, Any], longest: int | None) -> dict[str, Any]:
    """In a worker of Ray, before the model: messages, for which pictures are opened.

    A picture that cannot be opened is never sent: the request becomes one word, and ``refused`` says why.
    """
    request = json.loads(row["request"])
    parts = tuple(part if isinstance(part, str) else _picture(part["picture"]) for part in request["parts"])
    sampling, refused = request["sampling"], ""
    try:
        shown = messages(Chat(parts, request["system"]), longest)
    except PalateError as broken:
        shown, refused = [{"role": "user", "content": "-"}], str(broken)
        sampling = {**sampling, "max_tokens": 1}
    return {"messages": shown, "sampling_params": sampling, "refused": refused}


def _name(picture: Picture) -> str | None:
    return None if picture.path is None else str(picture.path.absolute())


def _picture(name: str | None) -> Picture:
    return Picture(None if name is None else Path(name))


def answer_row(row: dict[str, Any]) -> dict[str, Any]:
    """In a worker of Ray, after the model: what is kept."""
    return {
        "number": row["number"],
        "refused": row["refused"],
        "text": row["generated_text"],
        "prompt_tokens": row["num_input_tokens"],
        "new_tokens": row["num_generated_tokens"],
    }
