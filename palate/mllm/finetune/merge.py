"""Merging: a run's adapters become part of the weights, in a folder that needs neither PEFT nor the run.

LoRA (arXiv 2106.09685), section 4.1: ``W + (alpha / r) B A`` computes what ``W`` with its adapter does, at no cost of
its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from palate import __version__
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.features.hub import quiet
from palate.mllm.lm.fingerprint import local_folder, weights_fingerprint
from palate.mllm.lm.loading import DTYPES, merge_adapter, need_transformers, where_is
from palate.mllm.recommender import MLLMConfig, MLLMRecommender, merged_adapters, open_saved, read_config
from palate.runs.run import Run
from palate.storage.files import atomic_folder, file_digest, write_json
from palate.storage.remote import recorded

__all__ = ["FACTS", "merge_run"]

FACTS = "palate-merge.json"
PRECISIONS = tuple(name for name in DTYPES if name != "auto")
# Files of the base model beside its weights: tokenizer, processor, templates, licence.
_BESIDE = (
    *("*.json", "*.jinja", "additional_chat_templates/*.jinja", "*.model", "*.txt", "*.tiktoken"),
    *("LICENSE*", "NOTICE*"),
)
_CODE = "*.py"
# Files that the merged model writes itself, or that are true of the base model only.
_NOT = ("config.json", "*.index.json", "adapter_*", "palate-*", "warm-up.json", "requirements*.txt")
_GENERATION = "generation_config.json"


def merge_run(run: Run | Path | str, out: Path | str, *, device: str = "cpu", dtype: str | None = None) -> Path:
    """Write the language model of a run, adapters and all, as transformers saves it.

    Adapters that are part of the run's weights already (those of the runs it was aligned from) are merged just as they
    were in training; the last one is added in fp32, and the sum is rounded once.

    Args:
        run: a finished run of ``palate mllm``, fine-tuned or aligned, and not quantised.
        out: a new folder; :func:`palate.mllm.lm.loading.open_model` and transformers load it.
        device: where it is computed.
        dtype: of the weights written: ``float32``, ``bfloat16`` or ``float16``; None: the run's.

    Returns:
        ``out``, with ``palate-merge.json`` beside the weights: which run, adapters and base model they are made of.

    Raises:
        PalateError: ``out`` is no new folder, nothing to merge, weights that adapters cannot be added to.
    """
    run, out = Run.opened(run), Path(out)
    if dtype is not None and dtype not in PRECISIONS:
        raise PalateError(f"'{dtype}' is no precision that weights are written in", suggest(dtype, PRECISIONS))
    if not out.name:  # "." or "/"
        raise PalateError(f"'{out}' is no name of a new folder", "Give one, such as --out models/shop.")
    place = parse_device(device)
    config = _mergeable(run)
    need_transformers()
    base = config.base
    with atomic_folder(out) as part:
        chat = open_saved(run.model_folder, config, place)
        # A checkpoint may come quantised by its makers, whatever the run recorded.
        if getattr(chat.core.config, "quantization_config", None) is not None:
            raise _quantised(run, "as it comes")
        kinds = {name.replace(".base_layer.", "."): one.dtype for name, one in _tensors(chat.core)}
        held = chat.core.dtype
        chat.core.float()
        merged = merge_adapter(chat.model, str(run.model_folder / "adapter"))
        _round(merged, kinds, held, held if dtype is None else getattr(torch, dtype))
        where = where_is(base.name, revision=base.revision, trust_remote_code=base.trust_remote_code)
        _write(merged, local_folder(where), part, code=base.trust_remote_code)
        write_json(part / FACTS, _facts(run, config, merged, part))
    return out


def _mergeable(run: Run) -> MLLMConfig:
    """The run's options, if there is something to merge and something to merge it into."""
    if run.info["model"] != MLLMRecommender.name:
        raise PalateError(
            f"{run.folder} is a run of '{run.info['model']}', not of a language model", "Give one of `palate mllm`."
        )
    if not run.finished:
        raise run.unfinished()
    config = read_config(run.model_folder)
    if not (run.model_folder / "adapter").is_dir():
        raise PalateError(
            f"{run.folder} has no adapter: there is nothing to merge",
            f"Use its model as it is: --model {config.base.name}.",
        )
    if config.base.quantisation is not None:
        raise _quantised(run, f"in {config.base.quantisation}")
    return config


def _quantised(run: Run, how: str) -> PalateError:
    return PalateError(
        f"the model of {run.folder} is quantised ({how}), and an adapter cannot be added to such weights without loss",
        "Fine-tune and align without --quantisation, on a model that is not quantised, and merge that.",
    )


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(model.named_parameters(), model.named_buffers())


def _round(model: Any, kinds: dict[str, torch.dtype], held: torch.dtype, dtype: torch.dtype) -> None:
    """Round weights from fp32 to ``dtype``; those that the family stores in another precision, back to that."""
    with torch.no_grad():
        for name, one in _tensors(model):
            if not one.is_floating_point():
                continue
            kind = kinds.get(name, held)
            one.data = one.data.to(dtype if kind == held else kind)
            if not torch.isfinite(one).all():
                raise PalateError(
                    f"the weights '{name}' are not finite in {str(one.dtype).removeprefix('torch.')}",
                    "Give --dtype float32 or bfloat16.",
                )


def _write(model: Any, base: Path, folder: Path, code: bool) -> None:
    """Weights and configuration as transformers writes them; everything else as the base model has it."""
    from transformers import GenerationConfig

    own = base / _GENERATION
    if own.is_file() and getattr(model, "generation_config", None) is not None:
        # Many a published file is refused by transformers on writing; the base model's own is copied below.
        model.generation_config = GenerationConfig()
    with quiet():
        model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        shutil.copymode(folder / "config.json", weights)  # safetensors writes them for their owner alone
    for pattern in (*_BESIDE, *([_CODE] if code else [])):
        for path in sorted(base.glob(pattern)):
            name = path.relative_to(base)
            if path.is_file() and not any(name.match(one) for one in _NOT):
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(path, folder / name)


def _facts(run: Run, config: MLLMConfig, model: Any, folder: Path) -> dict[str, Any]:
    adapters = [*merged_adapters(run.model_folder), run.model_folder / "adapter"]
    return {
        "palate": __version__,
        "run": recorded(run.folder),
        "seed": run.seed,
        "dataset": {name: run.info["dataset"][name] for name in ("name", "fingerprint")},
        "base": config.base.model_dump(
            include={"name", "fingerprint", "revision", "trust_remote_code", "chat_template_kwargs"}
        ),
        "adapters": [
            {
                "folder": str(one.relative_to(run.folder)),
                "weights": file_digest(one / "adapter_model.safetensors"),
                "config": file_digest(one / "adapter_config.json"),
            }
            for one in adapters
        ],
        "dtype": str(model.dtype).removeprefix("torch."),
        "prompt": config.prompt.model_dump(mode="json"),
        "fingerprint": weights_fingerprint({"pretrained_model_name_or_path": str(folder)}),
    }
