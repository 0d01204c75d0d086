"""What fine-tuning and alignment share: TRL's trainer with an adapter put on, and a loss handed to it.

Which loss is minimised is an object of its own (:class:`StepLoss`): the answer's tokens
(:mod:`palate.mllm.finetune.token_loss`), the answer among those allowed (:mod:`palate.mllm.finetune.option_loss`), or a
preference (:mod:`palate.mllm.alignment.trainer`).
"""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError, one_line
from palate.features.hub import quiet
from palate.mllm.finetune.collate import FILLER, LengthBuckets
from palate.mllm.finetune.config import LoraConfig, SFTTrainerConfig
from palate.mllm.finetune.lora import peft_config
from palate.mllm.finetune.sharding import allow_on_cpu, load_checkpoint, shard, sharding_options
from palate.mllm.lm.chat_model import IGNORED, ChatModel
from palate.runs.workers import Workers

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True)
class LossSum:
    """The loss of one forward.

    Attributes:
        total: summed over what is learnt from.
        count: how many tokens, prompts or pairs that is.
        read: tokens that went through the model.
    """

    total: Tensor
    count: Tensor | int
    read: Tensor


class StepLoss(ABC):
    """The loss of one forward, and numbers for the log besides it."""

    @abstractmethod
    def __call__(self, trainer: Any, model: Any, batch: dict[str, Any]) -> LossSum | None:
        """The loss of a batch; None leaves it to TRL's own.

        Args:
            trainer: an :func:`adapter_trainer`; it knows the step and the forward's number.
            model: what is called: the trainer's, or a wrapper around it (distributed training).
        """

    def facts(self) -> dict[str, float]:
        """Numbers for the log since this was last called; all workers call it together."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds for :meth:`facts`; all workers call it together."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027  (most have no state)
        """Continue from a :meth:`state`; the main worker alone calls it."""


@cache
def adapter_trainer() -> type[Any]:
    """The trainer's class (TRL takes seconds to import)."""
    from trl import SFTTrainer

    class AdapterTrainer(SFTTrainer):  # type: ignore[misc,unused-ignore]
        """SFTTrainer for rows of known lengths, in an order of our own, that minimises a :class:`StepLoss`.

        Attributes:
            settings: how it trains.
            projector: whether the adapter reaches the layers between pictures and language.
            workers: the processes that train.
            step_loss: set by :func:`run_trainer`.
            learnt: ``[3]``: summed loss, what it is summed over and tokens read since it was last emptied.
            picks: whether the model computes the logits of some positions only. A family that cannot, or has a loss of
                its own besides, is left to TRL's loss.
        """

        step_loss: StepLoss

        def __init__(
            self, *args: Any, lengths: Sequence[int], settings: SFTTrainerConfig, projector: bool, **kwargs: Any
        ) -> None:
            self.lengths, self.settings, self.projector = lengths, settings, projector
            super().__init__(*args, **kwargs)
            self.workers = Workers.of(self.accelerator)
            exact = torch.float32 if self.args.device.type == "mps" else torch.float64
            self.learnt = torch.zeros(3, dtype=exact, device=self.args.device)
            forward = inspect.signature(type(self.accelerator.unwrap_model(self.model).get_base_model()).forward)
            self.picks = "logits_to_keep" in forward.parameters and not self.aux_loss_enabled
            self._step, self._forwards = -1, 0

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            if self.settings.fsdp:
                allow_on_cpu(self)

        def _get_train_sampler(self, train_dataset: Any = None) -> LengthBuckets:
            args = self.args
            size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
            return LengthBuckets(
                self.lengths,
                size,
                args.seed,
                lambda: int(self.state.epoch or 0),
                batch=args.train_batch_size,
                workers=args.world_size,
                filler=len(self.lengths),
            )

        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            assert not return_outputs, "validation asks the recommender, not the trainer"
            found = self.step_loss(self, model, inputs)
            if found is None:
                return self._trls_own(model, inputs, num_items_in_batch)
            self._count(found.total.detach(), found.count, found.read)
            # The mean over a step's tokens: Trainer counts them over all batches of the step and all devices.
            # It does not for families without a loss of their own; of fillers alone there are none.
            loss = found.total / (max(found.count, 1) if num_items_in_batch is None else num_items_in_batch)
            return loss * self._scale(num_items_in_batch)

        def _trls_own(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any) -> Any:
            read, tokens = inputs["attention_mask"].sum(), (inputs["labels"][:, 1:] != IGNORED).sum()
            loss = super().compute_loss(model, inputs, False, num_items_in_batch)
            share = 1.0 if num_items_in_batch is None else num_items_in_batch / tokens.clamp(min=1)
            self._count(loss.detach() * tokens * share / self._scale(num_items_in_batch), tokens, read)
            return loss

        def forward_number(self) -> int:
            """A new number for this forward, which a resumed run finds again."""
            step = self.state.global_step
            self._forwards = self._forwards + 1 if self._step == step else 0
            self._step = step
            return int(step * self.args.gradient_accumulation_steps + self._forwards)

        def _scale(self, num_items_in_batch: Any) -> int:
            """By how much the loss is scaled up because gradients are averaged over devices."""
            counted = self.args.average_tokens_across_devices and num_items_in_batch is not None
            return int(self.accelerator.num_processes) if counted else 1

        def _count(self, loss: Tensor, learnt: Tensor | int, read: Tensor) -> None:
            if self.model.training:
                for place, one in enumerate((loss, learnt, read * (learnt > 0))):
                    self.learnt[place] += one

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            if self.is_fsdp_enabled:
                load_checkpoint(self, resume_from_checkpoint)
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)

        def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
            """A checkpoint of sharded weights holds the adapter already; this would gather the whole model."""
            if not self.is_fsdp_enabled:
                super().save_model(output_dir, _internal_call)

        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Checkpoints need none; ``run.json`` describes the run."""

    return AdapterTrainer


def build_trainer(
    model: ChatModel,
    lora: LoraConfig,
    lengths: Sequence[int],
    config: SFTTrainerConfig,
    collate: Callable[[Sequence[Mapping[str, int]]], dict[str, Tensor]],
    *,
    batch_size: int,
    out: Path,
    device: str,
    seed: int,
    workers: int = 0,
) -> Any:
    """TRL's trainer with a fresh adapter put on: from here on ``model`` has it too.

    Args:
        lengths: about how long each row of training is.
        collate: from numbers of rows to a batch.
        batch_size: rows at a time.
        workers: processes that prepare batches ahead.
    """
    from datasets import Dataset as Rows
    from transformers import PrinterCallback
    from trl import SFTConfig as TRLConfig

    adapter = peft_config(model, lora)
    sharding = sharding_options(model) if config.fsdp else {}
    with hushed():
        args = TRLConfig(
            output_dir=str(out / "checkpoints"),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=config.accumulation,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            lr_scheduler_type=_SCHEDULES[config.schedule],
            warmup_steps=config.warmup_ratio,
            max_grad_norm=config.clip_norm,
            gradient_checkpointing=config.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            # Weights stay in the precision they were loaded in, adapters are fp32: training computes as scoring does.
            bf16=False,
            fp16=False,
            use_cpu=device == "cpu",
            seed=seed,
            optim="adamw_torch",
            max_length=None,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            dataloader_num_workers=workers,
            # A batch without pictures leaves adapters of the projector without a gradient.
            ddp_find_unused_parameters=lora.projector,
            dataloader_pin_memory=device.startswith("cuda"),
            save_strategy="no",  # TrainingCallback decides when
            save_total_limit=2,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **sharding,
        )
    if args.device.type == "cuda":
        args._n_gpu = 1  # several visible GPUs are used through torchrun, one per process
    try:
        with hushed():
            trainer = adapter_trainer()(
                model=model.core,
                args=args,
                train_dataset=Rows.from_dict({"row": [*range(len(lengths)), FILLER]}),
                processing_class=model.tokenizer,
                peft_config=adapter,
                data_collator=collate,
                lengths=lengths,
                settings=config,
                projector=lora.projector,
            )
    except ValueError as error:  # PEFT's, of layers that it cannot adapt or not with dropout (experts)
        raise PalateError(
            f"LoRA cannot be put on '{model.name}' ({model.family}) ({one_line(error)})",
            "Use --lora-dropout 0 where dropout is named, or another model.",
        ) from error
    trainer.processing_class = None  # checkpoints need no copy of it
    trainer.remove_callback(PrinterCallback)
    model.model = trainer.model
    if config.fsdp:
        shard(model, trainer)
    return trainer


@contextmanager
def hushed() -> Iterator[None]:
    """Without transformers' remarks on what TRL and PEFT still call by older names."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning), quiet():
        yield
