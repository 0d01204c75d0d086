"""The fingerprint of a language model: a hash of everything in its folder that decides what it answers."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.storage.files import digest, file_digest, read_json

# Turn chats and pictures into the model's arguments, and its answer into text.
_TEXT_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "additional_chat_templates/*.jinja",
)
_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
)
# About transformers, and where the model was: neither makes another model.
_INCIDENTAL = ("transformers_version", "_name_or_path", "name_or_path", "tokenizer_file", "is_local")


def weights_fingerprint(where: dict[str, Any]) -> str:
    """Hash of weights, configuration, tokenizer, processor, chat templates and defaults of generation.

    Args:
        where: the arguments that the model was loaded with.
    """
    folder = local_folder(where)
    patterns = ("model*.safetensors", "*.safetensors", "*.bin")
    weights = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    if not weights:
        raise PalateError(f"{folder} holds no weights", "Get the model again.")
    parts = [_settings(folder / "config.json")]
    for path in [*weights, *(path for pattern in _TEXT_FILES for path in sorted(folder.glob(pattern)))]:
        parts += [path.name, _content(path)]
    for name in _SETTINGS:
        if (folder / name).is_file():
            parts += [name, _settings(folder / name)]
    return digest(*parts)


def local_folder(where: dict[str, Any]) -> Path:
    """The folder of a model that was loaded with these arguments: its own, or that in the hub's cache."""
    name = where["pretrained_model_name_or_path"]
    if Path(name).is_dir():
        return Path(name)
    found = import_module("transformers.utils.hub").cached_file(
        name, "config.json", revision=where["revision"], local_files_only=True
    )
    return Path(found).parent


def _content(path: Path) -> str:
    """Hash of a file; large files of the hub's cache are named by theirs, so they need not be read again."""
    blob = path.resolve().name
    return blob if path.is_symlink() and re.fullmatch("[0-9a-f]{64}", blob) else file_digest(path)


def _settings(path: Path) -> str:
    return json.dumps(_lasting(read_json(path)), sort_keys=True)


def _lasting(value: Any) -> Any:
    """A value of JSON without what is incidental, at any depth."""
    if isinstance(value, list):
        return [_lasting(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _lasting(one) for key, one in value.items() if key not in _INCIDENTAL}
