"""Opening a language model, with or without an image encoder: embedded, from the hub, or from a folder."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.features.encoders import EncoderOptions
from palate.features.hub import fetch, source
from palate.mllm.lm.chat_model import ChatModel
from palate.mllm.lm.fingerprint import weights_fingerprint
from palate.mllm.lm.options import ModelOptions
from palate.mllm.lm.processors import open_processor
from palate.storage.files import digest
from palate.storage.remote import follow, is_url
from palate.storage.tensors import check_finite

DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTISATIONS = ("4bit", "8bit")
# Larger pictures are shrunk to this before they are processed: posters are not read for their small print, and families
# that cut pictures into tiles would spend thousands of tokens on one.
LONGEST = 672

T = TypeVar("T")


def open_model(
    model: ModelOptions | str,
    *,
    device: str = "cpu",
    runs_on: str | None = None,
    adapter: Path | None = None,
    merged: Sequence[Path] = (),
    longest: int | None = LONGEST,
) -> ChatModel:
    """Load a model in evaluation mode.

    Args:
        model: its options; a name alone: with all others at their defaults.
        device: as :func:`palate.device.parse_device` reads it.
        runs_on: the device that the weights are moved to later, where that is another; ``auto`` is chosen for it.
        adapter: folder of a PEFT adapter in safetensors, put on top.
        merged: folders of adapters that become part of the weights, one after another, below ``adapter``.
        longest: pictures are shrunk to at most this many pixels per side; None: never.

    Returns:
        Its :attr:`~palate.mllm.lm.chat_model.ChatModel.fingerprint` is that of the model and
        ``chat_template_kwargs``, without any adapter.

    Raises:
        PalateError: no such model, not a model that chats, an option that does not fit the machine, missing weights.
    """
    need_transformers()
    options = ModelOptions(name=model) if isinstance(model, str) else model
    name = options.name
    place = torch.device(parse_device(device))
    precision = pick_dtype(options.dtype, place if runs_on is None else torch.device(runs_on))
    quantised = _quantisation(options.quantisation, place, precision)
    for one in (*merged, *([] if adapter is None else [adapter])):
        _check_adapter(one)
    where = where_is(name, revision=options.revision, trust_remote_code=options.trust_remote_code)
    config = _fetch(name, "configuration", lambda: import_module("transformers").AutoConfig.from_pretrained(**where))
    auto, takes_pictures = _auto_class(name, config)
    core = _load(name, auto, where, precision, quantised, place)
    for one in merged:
        core = merge_adapter(_adapted(name, core, one, place), str(one))
    if adapter is not None:
        core = _adapted(name, core, adapter, place)
    tokenizer = import_module("transformers").AutoTokenizer
    if takes_pictures:
        processor = _fetch(name, "processor", lambda: open_processor(where, config))
    else:
        processor = _fetch(name, "tokenizer", lambda: tokenizer.from_pretrained(**where))
    fingerprint = weights_fingerprint(where)
    if options.chat_template_kwargs:
        fingerprint = digest(fingerprint, json.dumps(options.chat_template_kwargs, sort_keys=True))
    return ChatModel(
        name,
        core.eval(),
        processor,
        fingerprint=fingerprint,
        longest=longest if takes_pictures else None,
        chat_template_kwargs=options.chat_template_kwargs,
    )


def where_is(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> dict[str, Any]:
    """The arguments of ``from_pretrained`` that all parts of a model share; an embedded model is made if need be."""
    if is_url(name):
        name = str(follow(name))
    folder = _embedded(name)
    options = EncoderOptions(
        name=name, modality="text", revision=revision, trust_remote_code=trust_remote_code
    )  # whatever is loaded
    return source(options, folder)


def need_transformers() -> None:
    """Refuse, with the remedy, where the extra is not installed."""
    _require("transformers", "language models")


def pick_dtype(name: str, device: torch.device) -> torch.dtype | str:
    """Precision by name; ``auto`` is float32 on a CPU, and the checkpoint's own on other devices."""
    if name not in DTYPES:
        raise PalateError(f"'{name}' is no precision of weights", suggest(name, DTYPES))
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    found: torch.dtype = getattr(torch, name)
    return found


def _embedded(name: str) -> Path | None:
    """The folder of an embedded model, made if need be; None for other names."""
    from palate.mllm.lm.embedded import EMBEDDED_MODELS, embedded_folder
    from palate.mllm.lm.vision import register

    register()  # folders made from the embedded models hold its vision tower as well
    return embedded_folder(name) if name in EMBEDDED_MODELS else None


def _auto_class(name: str, config: Any) -> tuple[Any, bool]:
    """The class that loads the model, and whether that model takes pictures."""
    transformers: Any = import_module("transformers")
    known: Any = import_module("transformers.models.auto.modeling_auto")
    own = getattr(config, "auto_map", None) or {}
    for auto, mapping, takes_pictures in (
        ("AutoModelForImageTextToText", known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, True),
        ("AutoModelForCausalLM", known.MODEL_FOR_CAUSAL_LM_MAPPING, False),
    ):
        if type(config) in mapping or auto in own:
            return getattr(transformers, auto), takes_pictures
    raise PalateError(
        f"'{name}' is a {config.model_type}, not a language model that chats",
        "Choose an image-text-to-text model or a text-generation model.",
    )


def _quantisation(name: str | None, device: torch.device, dtype: torch.dtype | str) -> Any:
    if name is None:
        return None
    if name not in QUANTISATIONS:
        raise PalateError(f"'{name}' is no quantisation", suggest(name, QUANTISATIONS))
    if device.type != "cuda":
        raise PalateError(f"{name} weights need a GPU", "Use --device cuda, or leave the quantisation out.")
    _require("bitsandbytes", f"{name} weights", "pip install bitsandbytes")
    config: Any = import_module("transformers").BitsAndBytesConfig
    if name == "8bit":
        return config(load_in_8bit=True)
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    # NF4 with double quantisation: Dettmers et al., "QLoRA" (2023), sections 3.
    return config(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _load(
    name: str, auto: Any, where: dict[str, Any], dtype: torch.dtype | str, quantised: Any, device: torch.device
) -> Any:
    more: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    if quantised is not None:
        more["quantization_config"] = quantised
    if device.type != "cpu":
        more["device_map"] = {"": str(device)}
    model, report = _fetch(name, "weights", lambda: auto.from_pretrained(**where, **more))
    lacking = sorted(report["missing_keys"])
    if lacking:
        raise PalateError(
            f"the model '{name}' lacks {len(lacking)} weights, such as '{lacking[0]}'",
            "Choose a complete model: with weights missing, its answers would be random.",
        )
    return model


def _check_adapter(folder: Path) -> None:
    """Refuse what is no adapter before the long load; pickled weights are never read."""
    _require("peft", "adapters")
    if not (folder / "adapter_config.json").is_file():
        raise PalateError(
            f"{folder} is not an adapter (it has no adapter_config.json)", "Give the folder PEFT saved it in."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise PalateError(f"{folder} has no adapter_model.safetensors", "Save the adapter as safetensors.")


def _adapted(name: str, model: Any, folder: Path, device: torch.device) -> Any:
    peft: Any = import_module("peft")

    def load() -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # an error, below
            warnings.filterwarnings("ignore", category=FutureWarning)  # what PEFT calls by transformers' older names
            return peft.PeftModel.from_pretrained(model, str(folder), torch_device=str(device))

    made = _fetch(f"{name} + {folder}", "adapter", load)
    ours = set(peft.get_peft_model_state_dict(made, save_embedding_layers=False))
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        theirs = set(file.keys())
        for key in theirs:
            check_finite(folder / "adapter_model.safetensors", {key: file.get_tensor(key)}, "Train the run again.")
    # Whole layers saved along (embeddings) need not be the adapter's own.
    strange = sorted({*(ours - theirs), *(key for key in theirs - ours if ".lora_" in key)})
    if strange:
        raise PalateError(
            f"the adapter {folder} does not fit '{name}' (for example '{strange[0]}')",
            "Give the model that it was trained on.",
        )
    return made


def merge_adapter(adapted: Any, name: str) -> Any:
    """The model below a PEFT adapter, with the adapter added to its weights.

    Args:
        name: of the adapter, for messages.

    Raises:
        PalateError: the sum is not finite.
    """
    try:
        return adapted.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise PalateError(f"the adapter {name} cannot be merged ({error})", "Train it again.") from None


def _fetch(name: str, what: str, load: Callable[[], T]) -> T:
    return fetch(name, what, load, instead="use the embedded model (--model embedded)")


def _require(package: str, what: str, remedy: str = "pip install 'palate[mllm]'") -> None:
    if find_spec(package) is None:
        raise PalateError(f"{what} need the package {package}", f"Run `{remedy}`.")
