"""Generation with a transformers model in this process, in batches of prompts of similar length."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from palate.errors import PalateError
from palate.mllm.backends.base import Backend, Check, Done, ModelRequest, Reply
from palate.mllm.backends.decoding import NoRepeatNgram, Sampling, end_tokens, generator, plain_defaults
from palate.mllm.lm.chat_model import ChatModel, Encoded
from palate.mllm.lm.reasoning import Thoughts, thought_cut_off
from palate.mllm.prompts.chat import Chat
from palate.storage.exhausted import out_of_memory
from palate.storage.files import digest

# Encoded prompts that wait, in batches: enough to find neighbours in length, few enough for their pictures in memory.
_WINDOW = 8
# A second attempt does not write this many tokens in a row twice, and has at least that many.
_SECOND_SIZE, _SECOND_SHORTEST = 3, 4


@dataclass
class _Job:
    """A request under way."""

    request: ModelRequest
    encoded: Encoded
    number: int  # of its entry: the oldest goes first
    attempt: int = 1
    prompt_tokens: int = 0
    new_tokens: int = 0
    seconds: float = 0.0

    def reply(self, text: str | None, error: str | None = None) -> Reply:
        return Reply(
            self.request.key, text, error, self.prompt_tokens, self.new_tokens, self.attempt, round(self.seconds, 4)
        )


class LocalBackend(Backend):
    """Answers with a :class:`ChatModel`, greedily unless a temperature is given.

    A refused answer is asked for once more: at a temperature with fresh noise; greedily with :class:`.NoRepeatNgram`,
    since the same question would get the same answer.

    Args:
        batch_size: prompts per batch. Where memory runs out, it is halved, with a warning.
        temperature: 0 takes the likeliest token; above, tokens are drawn, for every request from a generator made of
            ``seed`` and its key, so that neighbours in a batch do not matter.
        attempts: how often one request is tried.
        no_repeat_ngram_size: an answer has no run of this many tokens twice; 0: it may.
        thinking: whether the model may think first, where its template lets it. Off: it answers the prompts that
            scoring reads, after an empty thought.

    Raises:
        PalateError: an option out of its range, or a model without a chat template.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        batch_size: int = 8,
        temperature: float = 0.0,
        seed: int = 0,
        attempts: int = 2,
        no_repeat_ngram_size: int = 0,
        thinking: bool = True,
    ) -> None:
        if batch_size < 1:
            raise PalateError(f"the batch size is {batch_size}", "Give 1 or more.")
        if not 0 <= temperature <= 5:
            raise PalateError(f"the temperature is {temperature}", "Give 0 (the likeliest token) to 5.")
        if no_repeat_ngram_size < 0 or no_repeat_ngram_size == 1:
            raise PalateError(
                f"the size of runs that may not be repeated is {no_repeat_ngram_size}",
                "Give 0 (they may) or 2 or more tokens.",
            )
        self.no_repeat_ngram_size = no_repeat_ngram_size
        self.model, self.batch_size, self.temperature, self.seed = model, batch_size, temperature, seed
        self.attempts = max(1, attempts)
        model.render(Chat(("Hello.",)))  # no chat template: refused now, not a thousand times later
        self._ends = end_tokens(model)
        self.thinking = thinking
        self._thoughts = Thoughts(model.tokenizer, opened=thinking and model.chat_template.opens_thought)
        self._adapter = _adapter_fingerprint(model)
        self._answered = 0
        self._warned = False  # that thoughts are cut off

    @property
    def identity(self) -> dict[str, Any]:
        core = self.model.core
        folder = Path(self.model.name).expanduser()
        said: dict[str, Any] = {
            "backend": "local",
            "model": folder.name if folder.is_dir() else self.model.name,  # a folder may move
            "fingerprint": self.model.fingerprint,
            "dtype": str(core.dtype).removeprefix("torch."),  # another precision writes other words
            "adapter": self._adapter,
            "quantisation": next(
                (f"{bits}bit" for bits in (4, 8) if getattr(core, f"is_loaded_in_{bits}bit", 0)), None
            ),
            "longest": self.model.longest,
            "seed": self.seed if self.temperature else None,
            "no_repeat_ngram_size": self.no_repeat_ngram_size or None,
            "chat_template_kwargs": self.model.chat_template.kwargs or None,
            # Where the template would move pictures to the front, prompts differed before pictures stayed in place.
            "pictures": "in place" if self.model.chat_template.placeholder else None,
        }
        return {
            "temperature": self.temperature,
            **{key: value for key, value in said.items() if value is not None},
        }

    def work(self, requests: Iterable[ModelRequest], done: Done, check: Check | None = None) -> None:
        """See :meth:`Backend.work`. What follows from a reply may be in the very next batch."""
        was_training = self.model.model.training
        self.model.model.eval()
        try:
            with plain_defaults(self.model.core):
                self._work(iter(requests), done, check)
        finally:
            self.model.model.train(was_training)

    def _work(self, requests: Iterator[ModelRequest], done: Done, check: Check | None) -> None:
        follow_ups: list[ModelRequest] = []
        pool: list[_Job] = []
        entered = 0

        def finish(reply: Reply) -> None:
            self._answered += reply.text is not None
            follow_ups.extend(done(reply))

        while True:
            while follow_ups or len(pool) < self.batch_size * _WINDOW:
                request = follow_ups.pop(0) if follow_ups else next(requests, None)
                if request is None:
                    break
                try:
                    pool.append(_Job(request, self._encode(request), entered))
                    entered += 1
                except PalateError as error:  # its own picture is broken, its own prompt too long
                    finish(Reply(request.key, None, str(error), attempts=0))
            if not pool:
                return
            batch = _neighbours(pool, self.batch_size)
            texts = self._generate(batch)
            if texts is None:
                continue  # memory ran out; the batch size is smaller now
            taken = set(map(id, batch))
            pool[:] = [job for job in pool if id(job) not in taken]
            for job, text in zip(batch, texts, strict=True):
                if isinstance(text, PalateError):
                    finish(job.reply(None, str(text)))
                    continue
                wrong = ("empty" if not text else None) if check is None else check(text)
                if wrong is None:
                    finish(job.reply(text))
                elif job.attempt < self.attempts:
                    # To the end of the queue: other second attempts may share its batch there.
                    job.attempt, job.number = job.attempt + 1, entered
                    entered += 1
                    pool.append(job)
                else:
                    finish(job.reply(None, f"no usable answer in {job.attempt} attempts ({wrong}): {_short(text)}"))

    def _encode(self, request: ModelRequest) -> Encoded:
        try:
            encoded = self.model.encode(request.chat, thinking=self.thinking)
        except ValueError as error:  # a processor's own limits, such as a picture a hundred times as wide as high
            raise PalateError(f"'{self.model.name}' cannot read the request ({error})") from None
        room = getattr(self.model.core.config.get_text_config(), "max_position_embeddings", None)
        if room is not None and len(encoded) + request.max_new_tokens > room:
            raise PalateError(
                f"a prompt of {len(encoded)} tokens and {request.max_new_tokens} new ones do not fit into the {room} "
                f"of '{self.model.name}'",
                "Show fewer items or pictures, or shorter texts.",
            )
        return encoded

    def _generate(self, batch: Sequence[_Job]) -> Sequence[str | PalateError] | None:
        """The answers; None where memory ran out and smaller batches are to be tried."""
        try:
            return self._answers(batch)
        except (RuntimeError, MemoryError) as error:
            if out_of_memory(error) is None:
                raise
            message = str(error).splitlines()[0][:120]
        # Outside of the handler: the traceback holds on to the tensors that filled the memory.
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(batch) > 1:
            self.batch_size = max(1, len(batch) // 2)
            warnings.warn(
                f"Memory ran out with {len(batch)} prompts at a time; going on with {self.batch_size}.", stacklevel=4
            )
            return None
        failed = PalateError(
            f"memory ran out on a single prompt of {len(batch[0].encoded)} tokens ({message})",
            "Show fewer or smaller pictures, shorten the prompt, or take a smaller or quantised model.",
        )
        if not self._answered:  # nothing has ever worked: nothing will
            raise failed
        return [failed]

    def _answers(self, batch: Sequence[_Job]) -> list[str | PalateError]:
        began = time.perf_counter()
        core, tokenizer = self.model.core, self.model.tokenizer
        inputs = self.model.collate([job.encoded for job in batch], "left")
        there = {key: value.to(core.device) for key, value in inputs.items()}
        there = {key: value.to(core.dtype) if value.is_floating_point() else value for key, value in there.items()}
        prompt = there["input_ids"].shape[1]
        with torch.inference_mode():
            out = core.generate(
                **there,
                do_sample=False,
                max_new_tokens=batch[0].request.max_new_tokens,
                eos_token_id=self._ends or None,
                pad_token_id=int(tokenizer.pad_token_id),
                logits_processor=self._rules(batch, prompt),
            )
        texts: list[str | PalateError] = []
        spent = (time.perf_counter() - began) / len(batch)
        for job, row in zip(batch, out[:, prompt:].tolist(), strict=True):
            end = next((place + 1 for place, token in enumerate(row) if token in self._ends), len(row))
            job.prompt_tokens += len(job.encoded)
            job.new_tokens += end
            job.seconds += spent
            said = row[: end - 1] if end and row[end - 1] in self._ends else row[:end]
            answer = self._thoughts.answer(said)
            if answer is None and not self._warned:
                self._warned = True
                warnings.warn(f"'{self.model.name}': {thought_cut_off()}", stacklevel=4)
            texts.append(thought_cut_off() if answer is None else answer)
        return texts

    def _rules(self, batch: Sequence[_Job], prompt: int) -> list[Any]:
        size, rules = self.no_repeat_ngram_size, list[Any]()
        if size:
            rules.append(NoRepeatNgram(prompt, self._ends, size))
        if self.temperature:
            own = [generator(self.seed, job.request.key, str(job.attempt)) for job in batch]
            return [*rules, Sampling(self.temperature, own)]
        if batch[0].attempt > 1:
            rules.append(NoRepeatNgram(prompt, self._ends, _SECOND_SIZE, _SECOND_SHORTEST))
        return rules


def _neighbours(pool: Sequence[_Job], size: int) -> list[_Job]:
    """The request that has waited longest, and those nearest to it in length that may share its batch."""
    oldest = min(pool, key=lambda job: job.number)
    alike = [
        job
        for job in pool
        if job.request.max_new_tokens == oldest.request.max_new_tokens and job.attempt == oldest.attempt
    ]
    return sorted(alike, key=lambda job: (abs(len(job.encoded) - len(oldest.encoded)), job.number))[:size]


def _adapter_fingerprint(model: ChatModel) -> str | None:
    """Hash of the weights of the adapters on top; the model's own fingerprint leaves them out."""
    if not hasattr(model.model, "peft_config"):
        return None
    from peft import get_peft_model_state_dict

    parts: list[str] = []
    for name in sorted(model.model.peft_config):
        for key, value in sorted(get_peft_model_state_dict(model.model, adapter_name=name).items()):
            content = value.detach().float().cpu().contiguous().numpy().tobytes()
            parts += [name, key, hashlib.sha256(content).hexdigest()]
    return digest(*parts)


def _short(text: str, most: int = 80) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= most else f"{flat[:most]}...")
