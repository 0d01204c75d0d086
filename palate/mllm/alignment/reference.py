"""The frozen reference: the policy with its fresh adapter switched off, run once on every prompt.

There is no second copy of the model: with the adapter off, the weights are the fine-tuned model's own. The logits are
cached on disk by the content of the prompt, since the next arm of a comparison has the same prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.mllm.finetune.examples import Examples
from palate.mllm.finetune.option_loss import AnswerLogits, CaseCollator
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.prompts.chat import Chat
from palate.progress import track
from palate.runs.workers import Workers
from palate.storage.cache import cache_folder
from palate.storage.files import atomic_file, digest


class ReferenceAnswers:
    """Logits of the allowed answers under the reference.

    Args:
        model: with the fresh adapter on.
        identity: which reference this is: the model, its merged adapters, its precision.
        packed: read a case's prompts as one row, as training does.
        rows: cases at a time.
        workers: each computes its share.
        cache: folder where logits are stored between runs; None: nowhere.

    Attributes:
        prompts: how many were computed, not read from the cache.
    """

    def __init__(
        self,
        model: ChatModel,
        identity: str,
        *,
        packed: bool,
        rows: int = 4,
        workers: Workers | None = None,
        cache: Path | None = None,
    ) -> None:
        self.model, self.packed, self.rows, self.workers = model, packed, rows, workers or Workers()
        self.prompts = 0
        self._file = None if cache is None else cache / f"{digest(identity)}.safetensors"
        self._known: dict[bytes, Tensor] = {} if self._file is None else _read(self._file)

    def logits(self, examples: Examples) -> Tensor:
        """float32 ``[cases, prompts, answers]``, on the CPU; the same on all workers."""
        cases = range(len(examples.questions))
        keys = [[_key(chat, examples.answers) for chat in examples.case(case)[0]] for case in cases]
        # Cases that some worker lacks: another run may have added to the cache when some had read it.
        lacking = torch.tensor([float(any(key not in self._known for key in row)) for row in keys])
        missing: list[int] = self.workers.total(lacking).nonzero()[:, 0].tolist()
        if missing:
            for case, logits in zip(missing, self._compute(examples, missing), strict=True):
                self._known.update(zip(keys[case], logits, strict=True))
            self.prompts += len(missing) * examples.each
            if self._file is not None and self.workers.main:
                _write(self._file, self._known)
        return torch.stack([torch.stack([self._known[key] for key in row]) for row in keys])

    def _compute(self, examples: Examples, cases: list[int]) -> Tensor:
        logits, collate = AnswerLogits(self.model, examples), CaseCollator(self.model, examples, self.packed)
        workers = Workers() if self.model.sharded else self.workers  # sharded: all workers compute all
        mine, places = workers.share(cases), workers.share(list(range(len(cases))))
        out = torch.zeros(len(cases), examples.each, len(examples.answers))  # other workers' rows stay 0
        starts = range(0, len(mine), self.rows)
        with switched_off(self.model), self.model.no_gradients():
            for start in track(starts, "Reference", total=len(starts)):
                part = slice(start, start + self.rows)
                batch = collate([{"row": case} for case in mine[part]])
                found = logits(self.model.model, batch)
                out[places[part]] = found.reshape(len(mine[part]), examples.each, -1).cpu()
        return workers.total(out)


@contextmanager
def switched_off(model: ChatModel) -> Iterator[None]:
    """The model without its adapter, in evaluation mode."""
    adapted: Any = model.model
    training = adapted.training
    adapted.eval()
    try:
        with adapted.disable_adapter():
            yield
    finally:
        adapted.train(training)


def references_folder() -> Path:
    """Where references' logits are stored between runs."""
    return cache_folder() / "references"


def _key(chat: Chat, answers: Sequence[str]) -> bytes:
    return bytes.fromhex(digest(chat.fingerprint, *answers))


def _read(path: Path) -> dict[bytes, Tensor]:
    if not path.is_file():
        return {}
    try:
        held = load_file(path)
        return {bytes(key): row for key, row in zip(held["keys"].numpy(), held["logits"], strict=True)}
    except (SafetensorError, KeyError, ValueError):
        return {}  # a cache that cannot be read is computed again


def _write(path: Path, known: dict[bytes, Tensor]) -> None:
    merged = {**_read(path), **known}  # another run may have added to it meanwhile
    keys = torch.tensor([list(key) for key in merged], dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        save_file({"keys": keys, "logits": torch.stack(list(merged.values()))}, part)
