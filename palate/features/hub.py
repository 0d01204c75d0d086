"""Models of the Hugging Face hub or of a local folder, loaded with care: every failure is one clear sentence."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from palate.errors import PalateError
from palate.features.embedded import require_transformers
from palate.features.encoders import EncoderOptions
from palate.storage.small_files import parse_json, read_small

T = TypeVar("T")
# Parts that a checkpoint may lack without harm: heads that are not used, and buffers that are made anew.
_HARMLESS = ("pooler", "position_ids", "logit_scale", "logit_bias")


@contextmanager
def quiet() -> Iterator[None]:
    """Hush transformers' own bars and reports while a model loads (Palate reports what matters)."""
    logging: Any = import_module("transformers.utils.logging")
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def fetch(
    name: str,
    what: str,
    load: Callable[[], T],
    instead: str = "use the embedded encoders (minilm, efficientnet-lite0)",
) -> T:
    """Run a loader of transformers; what it raises becomes one PalateError that names the model and the remedy."""
    try:
        with quiet():
            return load()
    except PalateError:
        raise
    except Exception as error:  # transformers, its parsers and the hub's HTTP client have kinds of their own
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            remedy = "Read that code; if you trust it, give --trust-remote-code."
            raise PalateError(f"the model '{name}' brings code of its own", remedy) from None
        if isinstance(error, ImportError) and "torchvision" in text.lower():
            remedy = f"Run `pip install torchvision`, or {instead}."
        elif Path(name).expanduser().is_dir():
            remedy = "The folder must hold a model as transformers saves it (config.json, *.safetensors, ...)."
        else:
            remedy = (
                "Check the name and the network. Without a network, download the model elsewhere and give its folder, "
                f"or {instead}."
            )
        raise PalateError(f"the {what} of '{name}' cannot be loaded ({_short(text)})", remedy) from None


def _short(text: str, longest: int = 240) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def source(options: EncoderOptions, folder: Path | None = None) -> dict[str, Any]:
    """The arguments that all ``from_pretrained`` calls share; ``folder`` is where the model is, if that is known."""
    require_transformers()
    folder = folder or Path(options.name).expanduser()
    name = str(folder) if folder.is_dir() else options.name
    return {
        "pretrained_model_name_or_path": name,
        "revision": options.revision or "main",
        "trust_remote_code": options.trust_remote_code,
        # Without a network, what was downloaded before is used, and what was not fails at once, not after retries.
        "local_files_only": folder.is_dir() or not _hub_is_near(),
    }


def _hub_is_near() -> bool:
    """Whether the hub's name resolves; behind a proxy only the proxy can tell."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    host = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co").hostname
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def load_model(options: EncoderOptions, where: dict[str, Any]) -> tuple[Any, set[str]]:
    """The model in evaluation mode and the names of weights that the checkpoint lacks.

    Raises:
        PalateError: weights that the features depend on are missing, which would make the features partly random.
    """
    auto: Any = import_module("transformers").AutoModel
    model, report = fetch(options.name, "weights", lambda: auto.from_pretrained(**where, output_loading_info=True))
    lacking = set(report["missing_keys"])
    harmful = sorted(key for key in lacking if not any(part in key for part in _HARMLESS))
    if harmful:
        raise PalateError(
            f"the model '{options.name}' lacks {len(harmful)} weights, such as '{harmful[0]}'",
            "Choose a complete model: with weights missing, its features would be random.",
        )
    return model.eval(), lacking


def read_side_file(options: EncoderOptions, where: dict[str, Any], filename: str) -> Any | None:
    """A JSON file beside a model's weights, or None where the model has none."""
    path = side_file(options, where, filename)
    if path is None:
        return None
    return parse_json(read_small(path), str(path), "Get the model again.")


def side_file(options: EncoderOptions, where: dict[str, Any], filename: str) -> Path | None:
    """Where a file beside a model's weights is (downloaded if need be), or None where the model has none."""
    cached_file: Any = import_module("transformers.utils.hub").cached_file

    def load() -> str | None:
        found: str | None = cached_file(
            where["pretrained_model_name_or_path"],
            filename,
            revision=where["revision"],
            local_files_only=where["local_files_only"],
            _raise_exceptions_for_missing_entries=False,
        )
        return found

    found = fetch(options.name, f"file {filename}", load)
    return Path(found) if found else None


def output_tensor(output: Any) -> Any:
    """The embedding in what ``get_text_features`` and its like return: a tensor, or (transformers 5) an object."""
    return output.pooler_output if hasattr(output, "pooler_output") else output
