"""The policy: the language model that is aligned, as it is at the start, and the reference that it starts from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from palate.data.sequences import Sequences
from palate.errors import PalateError
from palate.mllm.alignment.reference import ReferenceAnswers, references_folder
from palate.mllm.finetune.run import check_precision
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.loading import merge_adapter
from palate.mllm.recommender import MLLMRecommender
from palate.rankers.registry import load_recommender
from palate.runs.run import Run
from palate.runs.workers import Workers
from palate.storage.files import digest, file_digest


class Policy:
    """A run's language model with its adapter merged into the weights; the trainer puts a fresh one on.

    HaNoRec (arXiv 2511.18740): with the fresh adapter switched off it is the reference.

    Args:
        recommender: the model with its prompts and summaries.
    """

    def __init__(self, recommender: MLLMRecommender) -> None:
        self.recommender = recommender
        self._reference: ReferenceAnswers | None = None

    @classmethod
    def open(cls, start: Run, device: str, data_folder: Path | None) -> Policy:
        """The policy of a finished run.

        Args:
            data_folder: the dataset's, where summaries are stored.

        Raises:
            PalateError: weights that cannot be trained, or that an adapter cannot be merged into.
        """
        recommender = load_recommender(start, device=device)
        assert isinstance(recommender, MLLMRecommender)
        model, quantisation = recommender.model, recommender.config.base.quantisation
        check_precision(str(model.core.dtype).removeprefix("torch."))
        if quantisation is not None:
            raise PalateError(
                f"the weights of {start.folder} are {quantisation}: its adapter would not merge exactly",
                "Fine-tune without --quantisation before you align.",
            )
        adapter = start.model_folder / "adapter"
        if hasattr(model.model, "peft_config"):
            model.model = merge_adapter(model.model, str(adapter))
            recommender.merged = (*recommender.merged, adapter)
        if data_folder is not None:
            recommender.set_data_folder(data_folder)
        return cls(recommender)

    @property
    def model(self) -> ChatModel:
        return self.recommender.model

    def adapter_digests(self) -> list[str]:
        """Of the adapters that are part of the weights, in their order."""
        return [file_digest(folder / "adapter_model.safetensors") for folder in self.recommender.merged]

    def freeze(self, answers: Sequence[str], *, packed: bool, workers: Workers) -> None:
        """Set up the reference, once the fresh adapter is on.

        Args:
            answers: what may be answered.
            packed: read a case's prompts as one row, as training does.
        """
        model, base = self.model, self.recommender.config.base
        identity = digest(base.fingerprint, *self.adapter_digests(), str(model.core.dtype), model.device.type, *answers)
        self._reference = ReferenceAnswers(model, identity, packed=packed, workers=workers, cache=references_folder())

    @property
    def reference(self) -> ReferenceAnswers:
        """The answers of the model with the fresh adapter off, from :meth:`freeze` on."""
        assert self._reference is not None
        return self._reference

    def score(self, histories: Sequences, items: Tensor, *, projector: bool) -> Tensor:
        """Scores of items as the policy is now, padding lowest: float32, the shape of ``items``.

        Args:
            projector: its adapter reaches the projector: features of pictures have changed.
        """
        if projector:
            self.recommender.forget_pictures()
        return self.recommender.score(histories, items).nan_to_num(neginf=torch.finfo(torch.float32).min)
