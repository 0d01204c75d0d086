"""vLLM on the GPUs of a Ray cluster, by ``ray.data.llm``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from palate.console import print_note
from palate.engines.base import Engine
from palate.engines.ray_engine import RayEngine
from palate.errors import PalateError, one_line
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.backends.vllm_rows import answer_row, processor_options, prompt_row, request_row
from palate.mllm.lm.chat_template import ChatTemplate
from palate.mllm.lm.fingerprint import weights_fingerprint
from palate.mllm.lm.reasoning import answer_text, thought_cut_off

# Rows to rows, by the model; the options are those of :func:`processor_options`.
RunRows = Callable[[list[dict[str, Any]], dict[str, Any], int | None], Iterator[dict[str, Any]]]


class VLLMBackend(Backend):
    """Answers all requests in one data set, and what follows from them in the next one, for which vLLM starts again.

    Args:
        model: hub name or folder, which all machines of the cluster see.
        engine: of Ray; its workers are copies of the model.
        temperature: 0: the likeliest token.
        seed: with a temperature, of each request's own seed.
        attempts: how often one request is tried, with a temperature; without one the answer would be the same.
        longest: pictures are shrunk to at most this many pixels per side; None: never.
        batch_size: prompts that are handed to a copy at a time.
        chat_template_kwargs: variables of the model's chat template.

    Raises:
        PalateError: another engine, no GPU, or a package that is not installed.
    """

    def __init__(
        self,
        model: str | None,
        *,
        engine: Engine,
        temperature: float = 0.0,
        seed: int = 0,
        attempts: int = 2,
        longest: int | None = 672,
        batch_size: int = 64,
        dtype: str = "auto",
        revision: str | None = None,
        trust_remote_code: bool = False,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if model is None:
            raise PalateError("the backend 'vllm' needs a model", "Give --model: a hub name or a folder.")
        if not isinstance(engine, RayEngine):
            raise PalateError("the backend 'vllm' runs on Ray", "Give --engine ray --gpus-per-worker 1.")
        if not engine.gpus:
            raise PalateError("the backend 'vllm' needs GPUs", "Give --gpus-per-worker: 1, a share, or several.")
        for package, remedy in (("vllm", "pip install vllm"), ("aiohttp", "pip install 'ray[llm]'")):
            if find_spec(package) is None:
                raise PalateError(f"the backend 'vllm' needs the package {package}", f"Install it: {remedy}")
        self.model, self.engine, self.longest = model, engine, longest
        self.temperature, self.seed, self.attempts = temperature, seed, attempts if temperature else 1
        self.options: dict[str, Any] = {
            "batch_size": batch_size,
            "dtype": dtype,
            "seed": seed,
            "revision": revision,
            "trust_remote_code": trust_remote_code,
            "chat_template_kwargs": chat_template_kwargs,
        }
        self.run: RunRows = run_on_ray
        self.opens_thought = partial(opens_thought, self.options)
        folder = Path(model).expanduser()
        self._identity: dict[str, Any] = {"backend": "vllm", "model": model, "temperature": temperature}
        if folder.is_dir():  # it may move
            self.model = str(folder.resolve())
            fingerprint = weights_fingerprint({"pretrained_model_name_or_path": str(folder)})
            self._identity |= {"model": folder.resolve().name, "fingerprint": fingerprint}
        more: dict[str, Any] = {
            "revision": revision,
            "seed": seed if temperature else None,
            "dtype": None if dtype == "auto" else dtype,
            "longest": longest,
            "chat_template_kwargs": dict(chat_template_kwargs or {}) or None,
        }
        self._identity |= {name: value for name, value in more.items() if value is not None}

    @property
    def identity(self) -> dict[str, Any]:
        return self._identity

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """See :meth:`Backend.work`."""
        waiting: list[tuple[ModelRequest, Reply | None]] = [(request, None) for request in requests]
        opened = bool(waiting) and self.opens_thought(self.model)
        while waiting:
            following: list[tuple[ModelRequest, Reply | None]] = []
            began = time.perf_counter()
            for row in self.run(self._rows(waiting), self._options(waiting), self.longest):
                request, before = waiting[int(row["number"])]
                now = time.perf_counter()
                reply = _reply(request, before, row, check, round(now - began, 4), opened)
                began = now
                if reply.text is None and 0 < reply.attempts < self.attempts:
                    following.append((request, reply))
                else:
                    following += [(one, None) for one in done(reply)]
            waiting = following

    def _rows(self, waiting: list[tuple[ModelRequest, Reply | None]]) -> list[dict[str, Any]]:
        attempts = [1 if before is None else before.attempts + 1 for _, before in waiting]
        return [
            request_row(number, request, temperature=self.temperature, seed=self.seed, attempt=attempt)
            for number, ((request, _), attempt) in enumerate(zip(waiting, attempts, strict=True))
        ]

    def _options(self, waiting: list[tuple[ModelRequest, Reply | None]]) -> dict[str, Any]:
        return processor_options(
            self.model,
            workers=self.engine.connected(),
            gpus=self.engine.gpus,
            cpus=self.engine.cpus,
            pictures=any(request.chat.pictures for request, _ in waiting),
            **self.options,
        )


def opens_thought(options: Mapping[str, Any], model: str) -> bool:
    """Whether the model's chat template ends its prompt within a thought: an answer without any mark was then cut off
    in it. Of a model without a tokenizer of transformers it is not known, and said to be so."""
    from transformers import AutoTokenizer

    try:
        more = {"revision": options["revision"], "trust_remote_code": options["trust_remote_code"]}
        tokenizer = AutoTokenizer.from_pretrained(model, **more)
        return ChatTemplate(model, tokenizer, frozenset(), options["chat_template_kwargs"]).opens_thought
    except (OSError, ValueError, PalateError) as error:
        print_note(f"whether '{model}' thinks before it answers is not known ({one_line(error)})")
        return False


def _reply(
    request: ModelRequest,
    before: Reply | None,
    row: Mapping[str, Any],
    check: Check | None,
    seconds: float,
    opened: bool,
) -> Reply:
    """The reply of an answered row, with the cost of the attempts before it; ``opened``: it begins within a thought."""
    if row.get("refused"):
        return Reply(request.key, None, str(row["refused"]), attempts=0)
    text = error = None
    read = written = 0
    if row.get("__inference_error__"):
        error = " ".join(str(row["__inference_error__"]).split())[:200]
    else:
        text, read, written = answer_text(row["text"], opened), int(row["prompt_tokens"]), int(row["new_tokens"])
        if text is None:
            error = str(thought_cut_off())
        elif not text:
            error = "an empty answer"
        elif check is not None:
            error = check(text)
    earlier = before or Reply(request.key, None, attempts=0)
    return Reply(
        request.key,
        None if error else text,
        error,
        earlier.prompt_tokens + read,
        earlier.new_tokens + written,
        earlier.attempts + 1,
        earlier.seconds + seconds,
    )


def run_on_ray(rows: list[dict[str, Any]], options: dict[str, Any], longest: int | None) -> Iterator[dict[str, Any]]:
    """One data set through vLLM; Ray is connected."""
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    processor = build_processor(
        vLLMEngineProcessorConfig(**options), preprocess=partial(prompt_row, longest=longest), postprocess=answer_row
    )
    yield from processor(ray.data.from_items(rows)).iter_rows()
