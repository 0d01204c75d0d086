"""NoDO's noise on adapters: weights are perturbed in the policy's training forward, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from palate.objectives import Preference

_STREAM = 0x6E6F6973
_MEASURED = 8  # layers whose noise is measured


class AdapterNoise:
    """``A' = A + e_A``, ``B' = B + e_B``, ``e ~ N(0, sigma^2)``, in every LoRA pair (HaNoRec's released code).

    Stored weights never change: what noise would add to a layer's output is added to the output. It acts in training
    mode only, and never while the adapter is switched off. A draw depends on the seed, the number of the forward and
    the worker alone, so that a resumed run meets the same.

    Args:
        model: with a LoRA adapter on.
        sigma: standard deviation, on the scale of the adapter's weights.
    """

    def __init__(self, model: nn.Module, sigma: float, seed: int, worker: int = 0) -> None:
        self.sigma, self.seed, self.worker = sigma, seed, worker
        self.layers: list[Any] = [module for module in model.modules() if getattr(module, "lora_A", None)]
        self._drawn: dict[nn.Module, Tensor] = {}
        for part in self._parts():
            part.register_forward_hook(self._add)

    def _parts(self) -> Iterator[nn.Module]:
        for layer in self.layers:
            yield from layer.lora_A.values()
            yield from layer.lora_B.values()

    @torch.no_grad()
    def draw(self, forward: int) -> None:
        """New noise, for the forward of this number."""
        seed = int(np.random.default_rng([self.seed, _STREAM, forward, self.worker]).integers(2**62))
        generators: dict[torch.device, torch.Generator] = {}
        for part in self._parts():
            weight: Any = part.weight
            if weight.device not in generators:
                generators[weight.device] = torch.Generator(weight.device).manual_seed(seed)
            drawn = torch.randn(weight.shape, generator=generators[weight.device], device=weight.device)
            self._drawn[part] = self.sigma * drawn

    def _add(self, part: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if not part.training or part not in self._drawn:
            return out
        return out + linear(args[0], self._drawn[part].to(args[0].dtype))

    @torch.no_grad()
    def ratio(self) -> float:
        """``||noise|| / ||W||`` (Frobenius), the mean over a few layers spread over the model; nan before a draw.

        Noise is what the last draw changes in the layer's weight: ``scale ((B + e_B)(A + e_A) - B A)``.
        """
        found = []
        for layer in self.layers[:: max(1, len(self.layers) // _MEASURED)]:
            base = _whole(layer.get_base_layer().weight)
            for name, a in layer.lora_A.items():
                b = layer.lora_B[name]
                if a not in self._drawn or not base.is_floating_point():
                    continue
                left, right = _whole(b.weight), _whole(a.weight)
                clean = left.float() @ right.float()
                noisy = (left + self._drawn[b]).float() @ (right + self._drawn[a]).float()
                found.append(float(layer.scaling[name] * (noisy - clean).norm() / base.float().norm()))
        return sum(found) / len(found) if found else float("nan")


def _whole(weight: Any) -> Any:
    """A weight, gathered where it is sharded over the workers; all of them call this together then."""
    return weight.full_tensor() if hasattr(weight, "full_tensor") else weight


def adapter_noise(model: nn.Module, preference: Preference, seed: int, worker: int) -> AdapterNoise | None:
    """The noise on the adapter that an objective's settings ask for, or None."""
    config: Any = preference.config
    noisy = getattr(config, "noise", "none") == "lora" and config.sigma > 0
    return AdapterNoise(model, config.sigma, seed, worker) if noisy else None
