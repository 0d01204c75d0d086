"""The processor of a hub model, whether torchvision is installed or not.

Families that take videos ask for a video processor, which exists with torchvision only, and of which folders that were
saved without it have no settings. Palate shows pictures, never videos: these processors are assembled from their
parts, with a stand-in that refuses videos.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from palate.mllm.lm.families import family_of


def open_processor(where: dict[str, Any], config: Any) -> Any:
    """The processor of a model that takes pictures.

    Args:
        where: arguments of ``from_pretrained``: name or folder, revision, whether remote code is trusted ...
        config: the model's configuration.

    Raises:
        OSError, ValueError, ImportError: as transformers raises them; the caller makes one sentence of them.
    """
    transformers: Any = import_module("transformers")
    kind = _class_of(where, config)
    if kind is None or "video_processor" not in kind.get_attributes():
        return transformers.AutoProcessor.from_pretrained(**where)
    parts: dict[str, Callable[[], Any]] = {
        "tokenizer": lambda: transformers.AutoTokenizer.from_pretrained(**where),
        "image_processor": lambda: transformers.AutoImageProcessor.from_pretrained(**where),
        "video_processor": NoVideos,
    }
    strange = [name for name in kind.get_attributes() if name not in parts]
    if strange:
        raise ImportError(f"it needs a {strange[0]} and a video processor: `pip install torchvision` may help")
    settings, _ = kind.get_processor_dict(**where)
    module: Any = import_module(kind.__module__)
    for package in family_of(config.model_type).video_packages:
        if getattr(module, package, True) is None:  # imported where it is installed, and needed for videos alone
            setattr(module, package, str)
    made = _without_videos(kind).from_args_and_dict([parts[name]() for name in kind.get_attributes()], settings)
    made.chat_template = made.chat_template or made.tokenizer.chat_template
    return made


class NoVideos:
    """In place of a processor's video processor: refuses videos, and has no settings."""

    num_frames = fps = merge_size = temporal_patch_size = 1
    model_input_names: tuple[str, ...] = ()

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ValueError("Palate shows no videos")

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def _class_of(where: dict[str, Any], config: Any) -> Any:
    """The class of transformers that AutoProcessor would choose, or None where only AutoProcessor can tell."""
    names = import_module("transformers.models.auto.processing_auto").PROCESSOR_MAPPING_NAMES
    name = names.get(config.model_type)
    if name is None or where.get("trust_remote_code"):
        return None
    return getattr(import_module("transformers"), name, None)


def _without_videos(kind: Any) -> Any:
    """A processor's class that takes :class:`NoVideos` for its video processor."""

    def check(self: Any, name: str, part: Any) -> Any:
        return NoVideos if name == "video_processor" else kind.check_argument_for_proper_class(self, name, part)

    def to_dict(self: Any) -> dict[str, Any]:
        settings: dict[str, Any] = kind.to_dict(self)
        settings.pop("video_processor", None)
        return settings

    mended = {"check_argument_for_proper_class": check, "to_dict": to_dict, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), mended)
