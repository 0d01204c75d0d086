"""The frozen reference: the policy with its fresh adapter switched off, asked once about every prompt.

No second copy of the model is held: with the adapter off, the weights are the fine-tuned model's own. What it answered
is kept in Palate's cache by the content of the prompt, for the next arm of a comparison asks the same.
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
from palate.mllm.finetune.option_loss import CaseCollator, arguments, logits_of
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.embedded import cache_folder
from palate.mllm.prompts.chat import Chat
from palate.progress import track
from palate.runs.workers import Gather
from palate.storage.files import atomic_file, digest


class Reference:
    """Logits of the allowed answers under the reference.

    Args:
        model: with the fresh adapter on.
        identity: says which reference this is: the model, its merged adapters, its precision.
        packed: read a case's prompts as one row, as training does.
        rows: cases at a time.
        gather: joins what several workers found; worker ``worker`` of ``workers`` does its share.
        keep: where answers are kept between runs; None: nowhere.
    """

    def __init__(
        self,
        model: ChatModel,
        identity: str,
        *,
        packed: bool,
        rows: int = 4,
        gather: Gather | None = None,
        worker: int = 0,
        workers: int = 1,
        keep: Path | None = None,
    ) -> None:
        self.model, self.packed, self.rows = model, packed, rows
        self.gather, self.worker, self.workers = gather, worker, workers
        self.asked = 0
        self._file = None if keep is None else keep / f"{digest(identity)}.safetensors"
        self._known: dict[bytes, Tensor] = {} if self._file is None else _read(self._file)

    def logits(self, examples: Examples) -> Tensor:
        """float32 ``[cases, prompts, answers]``, on the CPU; the same on all workers."""
        cases = len(examples) // examples.each
        keys = [[_key(chat, examples.answers) for chat in examples.case(case)[0]] for case in range(cases)]
        missing = self._missing(keys)
        if missing:
            found = self._ask(examples, missing)
            for case, logits in zip(missing, found, strict=True):
                self._known.update(zip(keys[case], logits, strict=True))
            self.asked += len(missing) * examples.each
            if self._file is not None and self.worker == 0:
                _write(self._file, self._known)
        return torch.stack([torch.stack([self._known[key] for key in row]) for row in keys])

    def _missing(self, keys: Sequence[Sequence[bytes]]) -> list[int]:
        """Cases that some worker lacks: another run may have added to the cache when some had read it."""
        lacking = torch.tensor([any(key not in self._known for key in row) for row in keys])
        if self.gather is not None:
            joined = self.gather(lacking.float().to(self.model.device)).cpu()
            lacking = joined.view(self.workers, -1).sum(0) > 0
        return lacking.nonzero()[:, 0].tolist()

    def _ask(self, examples: Examples, cases: Sequence[int]) -> Tensor:
        answers = examples.answers
        tokens = self.model.first_tokens(examples.case(0)[0][0], answers)
        collate = CaseCollator(self.model, examples, self.packed)
        mine = list(cases)[self.worker :: self.workers]
        out = torch.zeros(len(cases), examples.each, len(answers))
        starts = range(0, len(mine), self.rows)
        with switched_off(self.model), torch.inference_mode():
            for start in track(starts, "reference", total=len(starts)):
                batch = collate([{"row": case} for case in mine[start : start + self.rows]])
                inputs = arguments(batch, self.model.device)
                logits = logits_of(self.model.model, self.model, inputs, batch["ends"], tokens)
                places = torch.arange(start, min(start + self.rows, len(mine))) * self.workers + self.worker
                out[places] = logits.reshape(len(places), examples.each, -1).cpu()
        if self.gather is None:
            return out
        # Every worker filled in its own rows and left the others at 0.
        joined = self.gather(out.flatten().to(self.model.device)).cpu()
        return joined.view(self.workers, *out.shape).sum(0)


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
    """Where references' answers are kept between runs."""
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
        return {}  # a cache that cannot be read is made again


def _write(path: Path, known: dict[bytes, Tensor]) -> None:
    merged = {**_read(path), **known}  # another run may have added to it meanwhile
    keys = torch.tensor([list(key) for key in merged], dtype=torch.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as part:
        save_file({"keys": keys, "logits": torch.stack(list(merged.values()))}, part)
