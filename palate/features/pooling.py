"""How the token vectors of a text become one vector, read from the files of a sentence-transformers model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from palate.errors import PalateError
from palate.features.encoders import EncoderOptions
from palate.features.hub import read_side_file, side_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean-sqrt",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_weightedmean_tokens": "weighted-mean",
}


@dataclass
class Pooling:
    """Token vectors -> one vector, then linear layers where the model has some.

    Attributes:
        modes: what is taken of the tokens; several are set side by side.
        normalize: scale to length 1.
        max_tokens: longest input, or None where the model does not say.
        prompt: text put before every text (the model's default prompt).
        dense: weight, bias (or None) and activation of linear layers after pooling.
    """

    modes: tuple[str, ...] = ("mean",)
    normalize: bool = True
    max_tokens: int | None = None
    prompt: str = ""
    dense: list[tuple[Tensor, Tensor | None, str]] = field(default_factory=list, repr=False)
    dense_digest: str = ""

    def to(self, device: torch.device) -> None:
        self.dense = [(w.to(device), b if b is None else b.to(device), act) for w, b, act in self.dense]

    def pool(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool ``hidden`` float32 ``[B, T, d]`` over the tokens where ``mask`` int64 ``[B, T]`` is 1."""
        import torch

        parts = [_pool(mode, hidden, mask) for mode in self.modes]
        vector = torch.cat(parts, dim=1)
        for weight, bias, activation in self.dense:
            vector = torch.nn.functional.linear(vector, weight, bias)
            vector = torch.tanh(vector) if activation == "Tanh" else vector
        return vector


def _pool(mode: str, hidden: Tensor, mask: Tensor) -> Tensor:
    import torch

    weights = mask.unsqueeze(-1).to(hidden.dtype)  # [B, T, 1]
    rows = torch.arange(len(hidden), device=hidden.device)
    positions = torch.arange(1, hidden.shape[1] + 1, device=hidden.device)
    if mode == "cls":  # the first token that is no padding
        return hidden[rows, mask.argmax(dim=1)]
    if mode == "last":  # the last token that is no padding, whichever side the padding is on
        return hidden[rows, (mask * positions).argmax(dim=1)]
    if mode == "max":
        return hidden.masked_fill(weights == 0, -torch.inf).amax(dim=1)
    if mode == "weighted-mean":
        weights = weights * positions.to(hidden.dtype).view(1, -1, 1)
    total, count = (hidden * weights).sum(dim=1), weights.sum(dim=1).clamp_min(1e-9)
    return total / (count.sqrt() if mode == "mean-sqrt" else count)


def read_pooling(options: EncoderOptions, where: dict[str, Any]) -> Pooling:
    """Follow ``modules.json`` where the model has one; else the mean, scaled to length 1."""
    modules = read_side_file(options, where, "modules.json")
    if modules is None:
        return Pooling()
    pooling = Pooling(modes=("mean",), normalize=False)
    for module in modules:
        kind, path = str(module["type"]).rpartition(".")[2], str(module.get("path") or "")
        if kind == "Transformer":
            settings = read_side_file(options, where, "sentence_bert_config.json") or {}
            pooling.max_tokens = settings.get("max_seq_length")
        elif kind == "Pooling":
            pooling.modes = _modes(options, read_side_file(options, where, f"{path}/config.json") or {})
        elif kind == "Normalize":
            pooling.normalize = True
        elif kind == "Dense":
            _read_dense(pooling, options, where, path)
        elif kind != "Dropout":
            raise PalateError(
                f"the model '{options.name}' has a layer '{kind}' that Palate does not know",
                "Choose another model, or encode elsewhere and bring the matrix with --matrix.",
            )
    settings = read_side_file(options, where, "config_sentence_transformers.json") or {}
    default = settings.get("default_prompt_name")
    pooling.prompt = (settings.get("prompts") or {}).get(default, "") if default else ""
    return pooling


def _modes(options: EncoderOptions, config: dict[str, Any]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named:  # newer files name the mode(s) in one key
        names = [named] if isinstance(named, str) else list(named)
        modes = [{"lasttoken": "last", "weightedmean": "weighted-mean"}.get(n, n).replace("_", "-") for n in names]
        modes = ["mean-sqrt" if mode == "mean-sqrt-len-tokens" else mode for mode in modes]
    else:
        modes = [mode for key, mode in _MODES.items() if config.get(key)]
    if not modes or set(modes) - set(_MODES.values()):
        raise PalateError(
            f"the model '{options.name}' pools in a way that Palate does not know",
            "Choose another model, or encode elsewhere and bring the matrix with --matrix.",
        )
    return tuple(modes)


def _read_dense(pooling: Pooling, options: EncoderOptions, where: dict[str, Any], path: str) -> None:
    """A linear layer after pooling: ``config.json`` with its activation, and the weights."""
    import torch
    from safetensors.torch import load_file

    from palate.storage.files import digest

    config = read_side_file(options, where, f"{path}/config.json") or {}
    activation = str(config.get("activation_function", "torch.nn.modules.linear.Identity")).rpartition(".")[2]
    file = side_file(options, where, f"{path}/model.safetensors")
    if file is not None:
        weights = load_file(file)
    else:
        file = side_file(options, where, f"{path}/pytorch_model.bin")
        weights = torch.load(file, map_location="cpu", weights_only=True) if file else {}
    if "linear.weight" not in weights or activation not in ("Identity", "Tanh"):
        raise PalateError(
            f"the linear layer '{path}' of '{options.name}' is not one that Palate knows",
            "Choose another model, or encode elsewhere and bring the matrix with --matrix.",
        )
    weight, bias = weights["linear.weight"].float(), weights.get("linear.bias")
    pooling.dense.append((weight, bias.float() if bias is not None else None, activation))
    raw = [t.numpy().tobytes() for t in (weight, *([bias.float()] if bias is not None else []))]
    pooling.dense_digest = digest(pooling.dense_digest, activation, *raw)
