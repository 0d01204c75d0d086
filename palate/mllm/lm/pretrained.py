"""What the embedded models have learnt: adapters and projectors that come with Palate.

``palate mllm pretrain`` makes them (:mod:`palate.pretraining`), and ``weights/CARD.md`` says of what and how. A folder
per model holds a LoRA adapter as PEFT saves it and the projector between pictures and language, both in bfloat16.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from palate.errors import PalateError
from palate.storage.files import digest, file_digest, read_json

WEIGHTS = Path(__file__).parent / "weights"
HASHES, PROJECTOR = "hashes.json", "projector.safetensors"
FILES = ("adapter_config.json", "adapter_model.safetensors", PROJECTOR)


def fingerprint(name: str) -> str:
    """Hash of what the model called ``name`` has learnt."""
    return digest(*(str(one) for one in _hashes(name).values()))


def checked_folder(name: str) -> Path:
    """The folder of what a model has learnt.

    Raises:
        PalateError: a file is missing or is not the one that was shipped.
    """
    folder = WEIGHTS / name
    for file, expected in _hashes(name).items():
        path = folder / file
        if not path.is_file() or file_digest(path) != expected:
            raise PalateError(f"{path} is not the file that Palate came with", "Install Palate again.")
    return folder


def put_on(name: str, raw: Path, folder: Path) -> None:
    """Save in ``folder`` the model in ``raw`` with what the one called ``name`` has learnt."""
    merged(checked_folder(name), raw, folder)


def merged(learnt: Path, raw: Path, folder: Path) -> None:
    """Save in ``folder`` the model in ``raw`` with the adapter and the projector in ``learnt``."""
    from palate.mllm.lm.vision import register

    register()
    transformers: Any = import_module("transformers")
    peft: Any = import_module("peft")
    model = transformers.LlavaForConditionalGeneration.from_pretrained(raw, dtype=torch.float32)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # what PEFT calls by older names
        model = peft.PeftModel.from_pretrained(model, str(learnt)).merge_and_unload(safe_merge=True)
    projector = load_file(learnt / PROJECTOR)
    model.model.multi_modal_projector.load_state_dict({key: value.float() for key, value in projector.items()})
    model.to(torch.bfloat16).save_pretrained(folder)
    transformers.AutoProcessor.from_pretrained(raw).save_pretrained(folder)


def _hashes(name: str) -> dict[str, str]:
    """Hashes of the files of a model.

    Raises:
        PalateError: the installation lacks them.
    """
    path = WEIGHTS / name / HASHES
    if not path.is_file():
        raise PalateError(f"{path} is missing", f"Install Palate again, or use --model {name}-raw.")
    found: dict[str, str] = read_json(path)
    return {file: found[file] for file in FILES}
