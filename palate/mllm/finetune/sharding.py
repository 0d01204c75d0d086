"""A language model whose weights are divided over the workers that train it: torch's FSDP2, through accelerate.

The frozen weights are what needs room; the adapter on them is small. Each layer is gathered when it computes and let go
of afterwards, so that all workers call the model together, the same number of times. They train on rows of their own;
what is scored besides (validation, references, pools) all of them score as a whole.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palate.errors import PalateError
from palate.mllm.finetune.config import LoraConfig, SFTTrainerConfig
from palate.mllm.lm.chat_model import ChatModel


def check_sharding(config: SFTTrainerConfig, lora: LoraConfig, quantisation: str | None = None) -> None:
    """Refuse what cannot be sharded, before a model is loaded.

    Raises:
        PalateError: a single worker, quantised weights, an adapter on the projector, or ``accelerate launch`` set up
            for FSDP where the settings are not.
    """
    if not config.fsdp:
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true"):
            raise PalateError(
                "accelerate launch is set up for FSDP, and trainer.fsdp is off", "Add --set trainer.fsdp=true."
            )
        return
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        raise PalateError(
            "trainer.fsdp divides a model over several workers, and there is one",
            "Start them with torchrun --nproc-per-node 2 -m palate mllm ..., or leave trainer.fsdp out.",
        )
    if quantisation is not None:
        raise PalateError(
            f"trainer.fsdp does not divide {quantisation} weights", "Leave out --quantisation, or trainer.fsdp."
        )
    if lora.projector:
        raise PalateError(
            "trainer.fsdp cannot train the projector: a worker whose batch shows no picture has no gradient for it",
            "Leave out --train-projector, or trainer.fsdp.",
        )


def loading_device(config: SFTTrainerConfig, place: str) -> str:
    """Where weights are loaded: what will be sharded is on the CPU first, and each worker's GPU gets its part."""
    return "cpu" if config.fsdp else place


def sharding_options(model: ChatModel) -> dict[str, Any]:
    """The arguments of transformers' trainer: each layer of the decoder and of the image encoder is a unit."""
    core = model.core
    found = {type(module).__name__ for module in core.modules()}
    layers = sorted(found & set(core._no_split_modules or ()))
    if not layers:
        raise PalateError(
            f"'{model.name}' ({model.family}) does not say which of its layers are units", "Leave out trainer.fsdp."
        )
    config = {"version": 2, "transformer_layer_cls_to_wrap": layers, "state_dict_type": "FULL_STATE_DICT"}
    return {"fsdp": True, "fsdp_config": config}


def allow_on_cpu(trainer: Any) -> None:
    """Let the trainer shard on CPUs too: torch does it over gloo, and accelerate turns it off there without a word."""
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    os.environ.pop("ACCELERATE_USE_FSDP", None)  # accelerate sets it, for whatever else this process trains
    state = trainer.accelerator.state
    if getattr(state, "fsdp_plugin", None) is None:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        state.distributed_type = DistributedType.FSDP
        trainer.is_fsdp_enabled = True


def shard(model: ChatModel, trainer: Any) -> None:
    """Divide the weights of the trainer's model, adapter included, over the workers."""
    from accelerate.utils import fsdp2_prepare_model

    fsdp2_prepare_model(trainer.accelerator, trainer.model)
    model.sharded = True


def load_checkpoint(trainer: Any, folder: str) -> None:
    """The adapter of a checkpoint, into sharded weights; the optimiser's state, which is loaded next, in the same way.

    Each worker reads the file. Accelerate would let the first one read and send, and with weights that are not in the
    file (the frozen ones) the others stop listening too early (seen with accelerate 1.15 and torch 2.13).
    """
    from accelerate.utils.constants import FSDP_MODEL_NAME
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    plugin = trainer.accelerator.state.fsdp_plugin
    plugin.state_dict_config.rank0_only = plugin.optim_state_dict_config.rank0_only = False
    weights = torch.load(Path(folder) / f"{FSDP_MODEL_NAME}.bin", map_location="cpu", weights_only=True)
    set_model_state_dict(trainer.model, weights, options=StateDictOptions(full_state_dict=True, strict=False))


def adapter_weights(model: ChatModel) -> dict[str, Tensor] | None:
    """The adapter of a sharded model, whole, on the first worker's CPU; all workers call it together.

    None where the weights are not sharded: PEFT finds them itself.
    """
    if not model.sharded:
        return None
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights: dict[str, Any] = get_model_state_dict(model.model, options=options)
    return weights
