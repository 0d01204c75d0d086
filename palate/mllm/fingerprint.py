"""The fingerprint of a language model: a hash of everything in its folder that decides what it answers."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from palate.errors import PalateError
from palate.files import digest, file_digest

_SPEECH = ("tokenizer.json", "tokenizer.model", "chat_template.jinja", "chat_template.json", "preprocessor_config.json")
# What transformers writes of itself: another version of it does not make another model.
_INCIDENTAL = ("transformers_version", "_name_or_path")


def weights_fingerprint(where: dict[str, Any]) -> str:
    """Hash of weights, configuration, tokenizer and chat template.

    Args:
        where: the arguments that the model was loaded with.
    """
    folder = _folder(where)
    patterns = ("model*.safetensors", "*.safetensors", "*.bin")
    weights = next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])
    if not weights:
        raise PalateError(f"{folder} holds no weights", "Get the model again.")
    parts = [_settings(folder / "config.json")]
    for path in [*weights, *(folder / name for name in _SPEECH)]:
        if path.is_file():
            parts += [path.name, _content(path)]
    return digest(*parts)


def _folder(where: dict[str, Any]) -> Path:
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
    values = json.loads(path.read_text(encoding="utf-8"))
    return json.dumps({key: value for key, value in values.items() if key not in _INCIDENTAL}, sort_keys=True)
